//! dpdk-testpmd on two net_af_xdp ports. In io mode frames pass from one to the other unseen: the yardstick for the
//! cost of AF_XDP itself. In mac mode every frame's header is read and its addresses are written anew (source: that of
//! the port it leaves by; destination: the station there), as a router would: the yardstick for touching every frame.
//! The macswap mode would cost the same, but a request of B's would arrive at A as addressed to B, so stations could
//! not resolve each other.

use super::{NICE, Settings};
use crate::cmd::{Process, cmd, installed};
use crate::error::Result;
use crate::rig::{HOST_A_IF, HOST_B_IF, Rig};

/// Both ports' rings are filled four times over; the default, made for 32 ports, does not fit the memory given.
const MBUFS: &str = "--total-num-mbufs=32768";

/// What is missing on this machine, if anything.
pub fn missing() -> Option<String> {
    (!installed("dpdk-testpmd")).then(|| "install packages dpdk-dev and librte-net-af-xdp23".to_owned())
}

/// Version of the package it comes from: the program itself does not say without starting DPDK.
pub fn version() -> String {
    let version = cmd(["dpkg-query", "-W", "-f", "${Version}", "dpdk-dev"]).run();
    version.map_or(String::new(), |version| format!("DPDK {}", version.trim()))
}

/// What it does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes it on.
    Io,
    /// Writes both addresses first.
    Mac,
}

impl Mode {
    /// Its options, for stations with these addresses.
    fn options(self, a: [u8; 6], b: [u8; 6]) -> Vec<String> {
        let peer = |port: u8, mac: [u8; 6]| {
            let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("--eth-peer={port},{}", bytes.join(":"))
        };
        match self {
            Mode::Io => vec!["--forward-mode=io".to_owned()],
            Mode::Mac => vec!["--forward-mode=mac".to_owned(), peer(0, a), peer(1, b)],
        }
    }
}

/// Starts it: main thread on the traffic core (it only waits on stdin), forwarding thread on the device core.
///
/// # Errors
/// [`crate::error::Error::Command`] when it cannot be started; whether it forwards is seen later.
pub fn start(mode: Mode, rig: &Rig, settings: &Settings) -> Result<Vec<Process>> {
    let lcores = format!("0@{},1@{}", settings.traffic_core, settings.device_core);
    let prefix = rig.h();
    let vdev = |n: u32, interface: &str| format!("--vdev=net_af_xdp{n},iface={interface}");
    let eal = ["dpdk-testpmd", "--lcores", &lcores, "--no-huge", "--no-pci", "-m", "512", "--file-prefix", &prefix];
    let ports = [vdev(0, HOST_A_IF), vdev(1, HOST_B_IF)];
    let app = ["--", "--nb-cores=1", "--auto-start", "--no-mlockall", "--interactive", MBUFS];
    let forward = mode.options(rig.station(0).mac()?, rig.b_mac()?);
    let words = eal.iter().map(|w| (*w).to_owned()).chain(ports).chain(app.iter().map(|w| (*w).to_owned()));
    let words = words.chain(forward);
    let process = cmd(words).in_netns(&rig.h()).nice(NICE).env("XDG_RUNTIME_DIR", rig.dir().display().to_string());
    Ok(vec![process.spawn(&rig.dir().join("testpmd.log"))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_mode_knows_the_station_behind_each_port() {
        let (a, b) = ([2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0xbb]);
        assert_eq!(Mode::Io.options(a, b), ["--forward-mode=io"]);
        let words = Mode::Mac.options(a, b);
        assert_eq!(words[1..], ["--eth-peer=0,02:00:00:00:00:0a", "--eth-peer=1,02:00:00:00:00:bb"]);
    }
}
