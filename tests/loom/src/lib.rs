//! The forwarding database, the neighbours and the grace periods without the rest of the switch, so that the model
//! checker needs only these few files built for it: `make loom`. Empty in an ordinary build.
#![cfg(loom)]
#![allow(dead_code, missing_docs)]

#[path = "../../../switch/src/table/fdb/mod.rs"]
pub mod fdb;
#[path = "../../../switch/src/table/grace.rs"]
pub mod grace;
#[path = "../../../switch/src/ids.rs"]
pub mod ids;
#[path = "../../../switch/src/limits.rs"]
pub mod limits;
#[path = "../../../switch/src/table/neighbour.rs"]
pub mod neighbour;
