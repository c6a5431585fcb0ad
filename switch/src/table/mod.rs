//! State that the packet path reads: the forwarding database, the forwarding information base (routes), next hops,
//! neighbours and the configuration snapshot, and the grace periods after which memory that they let go of may be
//! used again.

pub mod fdb;
pub mod fib;
pub mod grace;
pub mod neighbour;
pub mod next_hop;
pub mod router;
pub mod snapshot;
