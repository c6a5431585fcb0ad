//! The control protocol of switchd: types, framing and a blocking client. No packet I/O, no AF_XDP.
//!
//! `protocol` is what both ends say, `codec` how bytes become lines, `client` the asking end
//! (switchctl and tests), `mac` an Ethernet address as text. The answering end is the switch crate's
//! `control::server`. Everything here runs off the packet path.
#![deny(unsafe_code)]

pub mod client;
pub mod codec;
pub mod mac;
pub mod protocol;
