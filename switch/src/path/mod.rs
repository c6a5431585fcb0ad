//! What happens to a burst of frames between the port that received them and the ports that send them.
//!
//! Everything below runs on a worker's core: no lock, no allocation, no system call, no panic. Time and
//! configuration come in as arguments.

pub mod checksum;
pub mod transport;
