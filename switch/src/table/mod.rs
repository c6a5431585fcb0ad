//! State that the packet path reads: the forwarding database, routes, next hops, neighbours, and the configuration snapshot.

pub mod fdb;
pub mod fib;
pub mod grace;
pub mod neighbour;
pub mod next_hop;
pub mod router;
pub mod snapshot;
