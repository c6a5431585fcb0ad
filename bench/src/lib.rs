//! The measuring rig behind `swbench`: it builds throw-away network namespaces joined by veth pairs, starts a device
//! under test between them, offers a load, counts what arrives, and reports ratios between devices.
//!
//! Everything here runs on ordinary threads of one process; nothing is part of the switch itself. The order of a trial
//! is [`rig`] (fresh namespaces) -> [`device`] (start, wait until it forwards) -> [`sink`] (counts, sequence, latency)
//! -> [`load`] (generator) -> [`trial`] (one result) -> [`report`] (many results) -> [`publish`] (a page with charts).
//!
//! Unsafe code is confined to [`load`] (AF_XDP rings) and [`bpf`] (libbpf's calls).
#![deny(unsafe_code)]

pub mod addresses;
pub mod beside;
#[allow(unsafe_code)]
pub mod bpf;
pub mod campaign;
pub mod cmd;
pub mod compare;
pub mod crowd;
pub mod device;
pub mod disturb;
pub mod error;
pub mod facts;
pub mod flooding;
pub mod idle;
pub mod lan;
pub mod latency;
pub mod learning;
#[allow(unsafe_code)]
pub mod load;
pub mod mesh;
pub mod netns;
pub mod progress;
pub mod publish;
pub mod relative;
pub mod report;
pub mod rig;
pub mod rtt;
pub mod search;
pub mod sink;
pub mod stop;
pub mod tcp;
pub mod trial;
