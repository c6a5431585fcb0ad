//! What the running kernel and this process's rights allow, probed once at start.
//!
//! Every probe tries the real thing on the anchor socket or asks the kernel; nothing is guessed from a version.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;

use super::StartError;
use super::gro_probe::Trial;
use crate::limits::RING_SIZE;
use crate::port::{CONTAINER_GRO, Feature, THREADED_NAPI};

/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h: frames sent per system call, 32 unless set.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Chunks sent per system call where that can be set: several bursts. A container that receives in batches takes in
/// what one call sent when the call is over, from a queue of 256 packets (`VETH_RING_SIZE`, drivers/net/veth.c).
const TX_BUDGET: u32 = 256;
/// Bytes of frames in flight per socket. The default of 208 KiB stops at about 92 small frames; this lets the
/// whole transmit ring be in flight.
const SEND_BUFFER: libc::c_int = 4 << 20;

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

const _: () = assert!(TX_BUDGET >= 32 && TX_BUDGET <= RING_SIZE);

/// Refuses to start without the rights that every port needs. Only looks; any thread.
///
/// # Errors
/// Names the capabilities that this thread lacks.
pub fn check_rights() -> Result<(), StartError> {
    let missing = missing_rights(effective_rights());
    if missing.is_empty() { Ok(()) } else { Err(StartError::Rights { missing: missing.join(", ") }) }
}

fn missing_rights(effective: u64) -> Vec<&'static str> {
    let has = |right: u32| effective >> right & 1 == 1;
    let needed = [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        // Before CAP_BPF was split off, CAP_SYS_ADMIN stood for it, and still does.
        ("CAP_BPF", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
        ("CAP_NET_RAW", has(CAP_NET_RAW)),
    ];
    needed.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect()
}

/// This thread's effective capabilities (capabilities(7)); none if they cannot be read.
fn effective_rights() -> u64 {
    std::fs::read_to_string("/proc/thread-self/status").map_or(0, |status| parse_rights(&status))
}

fn parse_rights(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Lets as much memory be locked as the process may: UMEM pages count where CAP_IPC_LOCK is missing.
pub(super) fn raise_locked_memory() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit outlives the call. Failing is fine: registering the pool reports it if it matters.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}

/// Lets as many files be open as the process may: three for each port, and the usual limit is 1024.
pub(super) fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives both calls. Failing is fine: a port that gets no descriptor is refused by name.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Raises what one socket may have in flight and how much one call sends. What a kernel does not have is left.
pub(super) fn tune(socket: RawFd) {
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER).is_err() {
        // Up to net.core.wmem_max; the kernel cuts the value itself.
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER);
    }
    let _ = set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET as libc::c_int);
}

/// Probes everything, with a bound socket to try options on.
pub(super) fn probe(socket: RawFd, multi_buffer: bool, free_cores: usize, trial: &Trial) -> Vec<Feature> {
    let rights = effective_rights();
    let sys_admin = rights >> CAP_SYS_ADMIN & 1 == 1;
    vec![
        Feature {
            name: "multi-buffer",
            present: multi_buffer,
            without: "frames longer than 3520 bytes cannot be carried (kernel 6.6 has it)",
        },
        Feature {
            name: "tx-budget",
            present: set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET as libc::c_int).is_ok(),
            without: "one system call sends 32 frames, so bursts take two (kernel 6.17 has it)",
        },
        Feature {
            name: "send-buffer-force",
            present: set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER).is_ok(),
            without: "frames in flight per port are limited by net.core.wmem_max: raise it with sysctl",
        },
        Feature {
            name: THREADED_NAPI,
            present: Path::new("/sys/class/net/lo/threaded").exists() && free_cores > 0,
            without: "the sender's core does the kernel's receive work (needs kernel 5.12 and a core without worker)",
        },
        Feature {
            name: CONTAINER_GRO,
            present: matches!(trial, Trial::Batches),
            without: match trial {
                Trial::Preempts => {
                    "containers receive frame by frame: this kernel preempts system calls (boot it with preempt=none)"
                }
                _ => {
                    "containers receive frame by frame: their receive threads could not be tried (needs CAP_SYS_ADMIN, \
                     CAP_SYS_NICE and the host's process namespace)"
                }
            },
        },
        Feature {
            name: "enter-namespaces",
            present: sys_admin,
            without: "the containers' VLAN offload must be set by hand (needs CAP_SYS_ADMIN)",
        },
    ]
}

fn set_option(socket: RawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a C int that outlives the call.
    let result = unsafe { libc::setsockopt(socket, level, option, std::ptr::from_ref(&value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        let all = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_BPF;
        assert!(missing_rights(all).is_empty());
        assert!(missing_rights(1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_SYS_ADMIN).is_empty());
        assert_eq!(missing_rights(all & !(1 << CAP_BPF)), ["CAP_BPF"]);
        assert_eq!(missing_rights(0), ["CAP_NET_ADMIN", "CAP_BPF", "CAP_NET_RAW"]);
    }

    #[test]
    fn rights_are_read_from_status() {
        assert_eq!(parse_rights("Name:\tx\nCapEff:\t0000000000003000\nCapBnd:\t1\n"), 0x3000);
        assert_eq!(parse_rights("Name:\tx\n"), 0);
    }
}
