//! The switch as a host: what is addressed to the switch itself, off the packet path.
//!
//! Everything here may allocate and be slow. The rooms below are state machines that know neither frames
//! nor threads: bytes and the time come in, bytes come out, so that every run can be repeated.

pub mod dhcp;
pub mod ra;
