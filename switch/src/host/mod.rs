//! The switch as a host.

pub mod icmp;
pub mod icmp6;
pub mod limit;
