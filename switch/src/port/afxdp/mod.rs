//! Ports on AF_XDP: the only place with unsafe code.
//!
//! | file | what it owns |
//! |---|---|
//! | `region` | frame memory and the tokens that own it (also used without AF_XDP) |
//! | `umem` | registering that memory with the kernel, the anchor socket, binding |
//! | `socket` | one socket as a port: rings, what the kernel holds, sending |
//! | `held` | the set of chunks in the kernel's hands |
//! | `program` | the XDP program, its maps, attaching |
//! | `attach` | opening an interface: all of the above and below in order, and undoing it |
//! | `peer`, `netlink`, `ethtool` | the far end of a veth and its offloads |
//! | `napi` | which core does the kernel's receive work of a port |
//! | `gro`, `gro_probe`, `netdev` | the container's receive work in batches, where the kernel is made for it |
//! | `features` | what the kernel and our rights allow |
//! | `pages` | huge pages for the forwarding database and large routing tables |
//!
//! `main` makes the [`AfxdpFactory`]; the control thread owns it; workers drive the ports.
#![allow(unsafe_code)]

pub mod region;

mod attach;
mod depth;
mod ethtool;
mod features;
mod gro;
mod gro_probe;
mod held;
mod napi;
mod netdev;
mod netlink;
mod pages;
mod peer;
mod program;
mod socket;
mod umem;

use std::io;

pub use attach::AfxdpFactory;
pub use features::check_rights;
pub use pages::prefer_huge;

/// Why the switch cannot use AF_XDP on this host. Each message is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process lacks rights that every port needs.
    #[error(
        "switchd needs CAP_NET_ADMIN, CAP_BPF and CAP_NET_RAW (missing: {missing}): run it as root or grant them with \
         setcap / systemd AmbientCapabilities"
    )]
    Rights {
        /// The missing ones.
        missing: String,
    },
    /// Frame memory could not be mapped or registered.
    #[error(
        "cannot register a pool of {frames} frames ({mib} MiB): {source}; lower `frames` in [switch], or raise the \
         locked memory limit (systemd: LimitMEMLOCK=infinity)"
    )]
    Pool {
        /// Frames asked for.
        frames: u32,
        /// Their size.
        mib: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The first socket could not be bound to the loopback interface.
    #[error("cannot bind the pool's socket to interface lo: {source}; the kernel needs CONFIG_XDP_SOCKETS")]
    Anchor {
        /// What the kernel said.
        source: io::Error,
    },
    /// No network namespace of our own for the pool's socket.
    #[error("cannot make a network namespace for the pool's socket: {0}")]
    PrivateNamespace(io::Error),
    /// The XDP program.
    #[error("{0}")]
    Program(String),
    /// A broken assumption of this program.
    #[error("internal error: {what}")]
    Invalid {
        /// What was found.
        what: &'static str,
    },
}
