//! State that the packet path reads: the forwarding database and the configuration snapshot.

pub mod fdb;
pub mod snapshot;
