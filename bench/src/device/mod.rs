//! The devices under test: what they are called, what they need, how they are started between the host ends of a rig
//! and how it is known that they forward. Main thread only.

pub mod bridge;
pub mod operator;
pub mod ovs;
pub mod port_loop;
pub mod router;
pub mod switchd;
pub mod testpmd;

use crate::cmd::{Process, cmd};
use crate::error::{Error, Result};
use crate::load::Load;
use crate::netns;
use crate::rig::{A_IP, B_IF, B_IP, Rig, Shape, Topology};
use crate::sink::Marks;
use crate::stop::Stop;
use serde::Serialize;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Niceness of every device's forwarding process, so that none is favoured.
const NICE: i32 = -20;
/// How long a device may take until it forwards.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What forwards between A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The switch of this project.
    Switchd,
    /// The same with workers that never sleep: `poll = "spin"`.
    SwitchdSpin,
    /// The same with idle cores that rest as they like while packets flow: `resume_latency_us = "off"`.
    SwitchdRest,
    /// The same with containers that receive frame by frame: `container_gro = false`.
    SwitchdNoGro,
    /// The same, routing between two subnets.
    SwitchdRouter,
    /// Open vSwitch, user-space datapath, ports of type afxdp.
    Ovs,
    /// dpdk-testpmd in io mode on net_af_xdp: forwards without looking.
    Testpmd,
    /// dpdk-testpmd in mac mode: reads the header and writes both addresses.
    TestpmdMac,
    /// The port layer of this project with nothing between its ports.
    Loop,
    /// The Linux bridge, br_netfilter off.
    Bridge,
    /// The Linux bridge with br_netfilter on, as Kubernetes wants it, and no rules.
    BridgeNf,
    /// The Linux bridge with receive packet steering to the device's core: the kernel works on both cores.
    BridgeRps,
    /// The Linux router: IPv4 forwarding between two subnets, without any rule.
    Router,
    /// No device: one veth pair from the generator to the sink.
    Wire,
}

/// Settings that hold for every trial of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Core of the device's forwarding thread.
    pub device_core: usize,
    /// Core of the generator and of both ends of TCP and round-trip tests.
    pub traffic_core: usize,
    /// The switchd program.
    pub switchd: PathBuf,
    /// MTU of all interfaces, bytes.
    pub mtu: u16,
}

/// A started device. Dropping it stops its processes, the first one first.
#[derive(Debug)]
pub struct Running {
    kind: Kind,
    processes: Vec<Process>,
}

impl Kind {
    /// Whether it is the switch of this project, in whatever configuration.
    pub fn is_switchd(self) -> bool {
        matches!(self, Kind::Switchd | Kind::SwitchdSpin | Kind::SwitchdRest | Kind::SwitchdNoGro | Kind::SwitchdRouter)
    }

    /// Whether it routes between A and B.
    pub fn is_router(self) -> bool {
        matches!(self, Kind::SwitchdRouter | Kind::Router)
    }

    /// Name in options, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Switchd => "switchd",
            Kind::SwitchdSpin => "switchd-spin",
            Kind::SwitchdRest => "switchd-rest",
            Kind::SwitchdNoGro => "switchd-no-gro",
            Kind::SwitchdRouter => "switchd-router",
            Kind::Ovs => "ovs",
            Kind::Testpmd => "testpmd",
            Kind::TestpmdMac => "testpmd-mac",
            Kind::Loop => "loop",
            Kind::Bridge => "bridge",
            Kind::BridgeNf => "bridge-nf",
            Kind::BridgeRps => "bridge-rps",
            Kind::Router => "router",
            Kind::Wire => "wire",
        }
    }

    /// Whether the load can reach the device: live XDP frames enter a veth only where its far end runs XDP.
    pub fn supports(self, load: Load) -> bool {
        let kernel = matches!(self, Kind::Bridge | Kind::BridgeNf | Kind::BridgeRps | Kind::Router | Kind::Wire);
        load != Load::Flood || !kernel
    }

    /// By what the sink knows generated frames behind it.
    pub fn marks(self) -> Marks {
        if self == Kind::TestpmdMac || self.is_router() { Marks::Magic } else { Marks::Source }
    }

    /// Whether it learns where stations are, floods what it must, and joins more than two of them.
    pub fn is_switch(self) -> bool {
        (self.is_switchd() && !self.is_router())
            || matches!(self, Kind::Ovs | Kind::Bridge | Kind::BridgeNf | Kind::BridgeRps)
    }

    /// The rig it is measured on. Devices that do not complete the partial checksums of a veth get containers that
    /// compute their own.
    pub fn shape(self, settings: &Settings) -> Shape {
        Shape {
            topology: match self {
                Kind::Wire => Topology::Direct,
                _ if self.is_router() => Topology::Routed,
                _ => Topology::Switched,
            },
            mtu: settings.mtu,
            container_tx_off: matches!(self, Kind::Ovs | Kind::Testpmd | Kind::TestpmdMac | Kind::Loop),
        }
    }

    /// Checks that the device is installed.
    ///
    /// # Errors
    /// [`Error::Absent`] with what to install.
    pub fn available(self, settings: &Settings) -> Result<()> {
        let missing = match self {
            kind if kind.is_switchd() => switchd::missing(settings),
            Kind::Ovs => ovs::missing(),
            Kind::Testpmd | Kind::TestpmdMac => testpmd::missing(),
            Kind::BridgeNf => bridge::missing_nf(),
            _ => None,
        };
        missing.map_or(Ok(()), |why| Err(Error::Absent { device: self.name(), why }))
    }

    /// Its version, as it or its package tells; empty when nobody does.
    pub fn version(self, settings: &Settings) -> String {
        let first_line = |text: Result<String>| text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        match self {
            _ if self.is_switchd() => switchd::version(settings),
            Kind::Ovs => first_line(cmd(["ovs-vswitchd", "--version"]).run()),
            Kind::Testpmd | Kind::TestpmdMac => testpmd::version(),
            Kind::Loop => format!("swbench {}", env!("CARGO_PKG_VERSION")),
            _ => "the kernel's".to_owned(),
        }
    }

    /// Starts the device on the host ends of `rig` and waits until a frame gets through in both directions.
    ///
    /// # Errors
    /// [`Error::Device`] when it ends or does not forward in time, [`Error::Command`] when a helper fails,
    /// [`Error::Interrupted`].
    pub fn start(self, rig: &Rig, settings: &Settings, stop: &Stop) -> Result<Running> {
        let processes = match self {
            Kind::Switchd => switchd::start(rig, "", settings, stop)?,
            Kind::SwitchdSpin => switchd::start(rig, "poll = \"spin\"\n", settings, stop)?,
            Kind::SwitchdRest => switchd::start(rig, "resume_latency_us = \"off\"\n", settings, stop)?,
            Kind::SwitchdNoGro => switchd::start(rig, "container_gro = false\n", settings, stop)?,
            Kind::SwitchdRouter => switchd::start(rig, "", settings, stop)?,
            Kind::Ovs => ovs::start(rig, settings, stop)?,
            Kind::Testpmd => testpmd::start(testpmd::Mode::Io, rig, settings)?,
            Kind::TestpmdMac => testpmd::start(testpmd::Mode::Mac, rig, settings)?,
            Kind::Loop => port_loop::start(rig, settings)?,
            Kind::Bridge => bridge::start(rig)?,
            Kind::BridgeNf => bridge::start_nf(rig)?,
            Kind::BridgeRps => bridge::start_rps(rig, settings)?,
            Kind::Router => router::start_linux(rig)?,
            Kind::Wire => Vec::new(),
        };
        let mut running = Running { kind: self, processes };
        running.await_forwarding(rig, stop)?;
        Ok(running)
    }
}

impl Running {
    /// Process ids of the device; none when it is in the kernel.
    pub fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Fails when a process of the device has ended.
    ///
    /// # Errors
    /// [`Error::Device`] with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let device = self.kind.name();
        for process in &mut self.processes {
            if let Some(status) = process.ended() {
                return Err(Error::Device { device, why: format!("ended ({status}): {}", process.log_tail()) });
            }
        }
        Ok(())
    }

    /// Waits until B has resolved A's address: the request crosses as a broadcast, the answer as a unicast frame, and
    /// both stations are learned on the way.
    fn await_forwarding(&mut self, rig: &Rig, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let b = rig.b();
        while Instant::now() < deadline {
            stop.check()?;
            self.check()?;
            netns::run(&b, None, || {
                let what = "send a datagram from B";
                let socket = UdpSocket::bind((B_IP, 0)).map_err(|e| Error::io(what, e))?;
                // Refused or unreachable answers of earlier datagrams surface here and are of no interest.
                let _ = socket.send_to(b"swbench", (A_IP, 9));
                Ok(())
            })?;
            stop.sleep(Duration::from_millis(50))?;
            if self.kind.is_router() {
                // Across a router, and both neighbours known on the way; A then knows its gateway, too.
                let ping = cmd(["ping", "-c", "1", "-W", "1", &A_IP.to_string()]).in_netns(&b).run();
                if ping.is_ok() && rig.first_hop_mac().is_ok() {
                    return Ok(());
                }
                continue;
            }
            let neighbour = cmd(["ip", "-n", &b, "neigh", "show", &A_IP.to_string(), "dev", B_IF]).run()?;
            if neighbour.contains("lladdr") {
                return Ok(());
            }
        }
        let log: Vec<String> = self.processes.iter().map(Process::log_tail).collect();
        let why = format!("no frame crossed in {} s; its log ends: {}", START_LIMIT.as_secs(), log.join(" || "));
        Err(Error::Device { device: self.kind.name(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_needs_xdp_on_the_host_end() {
        assert!(Kind::Bridge.supports(Load::Socket) && !Kind::Bridge.supports(Load::Flood));
        assert!(!Kind::Wire.supports(Load::Flood) && Kind::Wire.supports(Load::Pktgen));
        for kind in [Kind::Switchd, Kind::Ovs, Kind::Testpmd, Kind::TestpmdMac, Kind::Loop] {
            assert!(kind.supports(Load::Flood));
        }
    }

    #[test]
    fn an_absent_switchd_is_named_with_the_cure() {
        let settings = Settings { device_core: 0, traffic_core: 1, switchd: "/nonexistent/switchd".into(), mtu: 1500 };
        let text = Kind::Switchd.available(&settings).unwrap_err().to_string();
        assert!(text.contains("/nonexistent/switchd") && text.contains("--switchd"), "{text}");
    }
}
