//! Ports on AF_XDP: the only place with unsafe code.
#![allow(unsafe_code)]

pub mod region;
