//! dpdk-testpmd in io mode on two net_af_xdp ports: frames pass from one to the other unseen. The yardstick for the
//! cost of AF_XDP itself.

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

/// Starts it: main thread on the traffic core (it only waits on stdin), forwarding thread on the device core.
///
/// # Errors
/// [`crate::error::Error::Command`] when it cannot be started; whether it forwards is seen later.
pub fn start(rig: &Rig, settings: &Settings) -> Result<Vec<Process>> {
    let lcores = format!("0@{},1@{}", settings.traffic_core, settings.device_core);
    let prefix = rig.h();
    let vdev = |n: u32, interface: &str| format!("--vdev=net_af_xdp{n},iface={interface}");
    let eal = ["dpdk-testpmd", "--lcores", &lcores, "--no-huge", "--no-pci", "-m", "512", "--file-prefix", &prefix];
    let ports = [vdev(0, HOST_A_IF), vdev(1, HOST_B_IF)];
    let app = ["--", "--forward-mode=io", "--nb-cores=1", "--auto-start", "--no-mlockall", "--interactive", MBUFS];
    let words = eal.iter().map(|w| (*w).to_owned()).chain(ports).chain(app.iter().map(|w| (*w).to_owned()));
    let process = cmd(words).in_netns(&rig.h()).nice(NICE).env("XDG_RUNTIME_DIR", rig.dir().display().to_string());
    Ok(vec![process.spawn(&rig.dir().join("testpmd.log"))?])
}
