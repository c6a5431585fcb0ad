//! The switch of a container host: poll-mode workers on AF_XDP, lock-free tables, one control thread.
//!
//! Read in this order: `port` (how frames enter and leave), `path` (what happens to a burst),
//! `table` (state), `worker` (the loop around it), `control` (configuration, timers, the socket).
//! ARCHITECTURE.md has the picture.
#![deny(unsafe_code)]

pub mod config;
pub mod control;
pub mod host;
pub mod ids;
pub mod limits;
pub mod path;
pub mod port;
pub mod stats;
pub mod table;
pub mod worker;
