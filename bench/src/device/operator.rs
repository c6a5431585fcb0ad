//! What an operator does to a device that forwards: adds and removes ports, lists the stations it knows. Done with the
//! programs an operator would use, `switchctl`, `ovs-vsctl` and `ovs-appctl`, `ip` and `bridge`. Any thread.

use super::{Kind, Settings, ovs};
use crate::cmd::{Cmd, cmd, installed};
use crate::error::{Error, Result};
use crate::rig::Rig;
use crate::stop::Stop;
use ctl::client::Client;
use ctl::protocol::{PortState, PortStatus, Request};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bridge of every device but switchd.
const BRIDGE: &str = "br0";
/// switchd's, and its control socket in the rig's directory.
const SWITCHD_BRIDGE: &str = "bench";
const CONTROL_SOCKET: &str = "control.sock";
/// How long added ports may take until they are up.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// An operator of one running device.
#[derive(Clone, Debug)]
pub struct Operator {
    kind: Kind,
    h: String,
    dir: PathBuf,
    switchctl: PathBuf,
    core: Option<usize>,
}

impl Operator {
    /// Checks that a device can be changed while it runs, and that the programs for it are installed.
    ///
    /// # Errors
    /// [`Error::Absent`] with the reason.
    pub fn available(kind: Kind, settings: &Settings) -> Result<()> {
        let missing = match kind {
            kind if kind.is_switchd() && !switchctl(settings).is_file() => {
                Some(format!("no file {}: build it beside switchd", switchctl(settings).display()))
            }
            Kind::Ovs if !installed("ovs-appctl") => Some("install package openvswitch-switch".to_owned()),
            Kind::Switchd | Kind::SwitchdSpin | Kind::SwitchdRest | Kind::SwitchdNoGro | Kind::Ovs => None,
            Kind::Bridge | Kind::BridgeNf | Kind::BridgeRps if installed("bridge") => None,
            Kind::Bridge | Kind::BridgeNf | Kind::BridgeRps => Some("install package iproute2".to_owned()),
            Kind::SwitchdRouter | Kind::Testpmd | Kind::TestpmdMac | Kind::Loop | Kind::Router | Kind::Wire => {
                Some("it joins two ports and takes no others while it runs".to_owned())
            }
        };
        missing.map_or(Ok(()), |why| Err(Error::Absent { device: kind.name(), why }))
    }

    /// Those of the devices that have an operator; each of the others is named once on stderr.
    ///
    /// # Errors
    /// [`Error::Absent`] when none is left.
    pub fn operable(kinds: &[Kind], settings: &Settings) -> Result<Vec<Kind>> {
        let (mut there, mut named) = (Vec::new(), Vec::new());
        for kind in kinds {
            match Self::available(*kind, settings) {
                Ok(()) => there.push(*kind),
                Err(_) if named.contains(kind) => {}
                Err(absent) => {
                    named.push(*kind);
                    eprintln!("skipped: {absent}");
                }
            }
        }
        let none = || Error::Absent { device: "every device", why: "none can be changed while it runs".into() };
        if there.is_empty() { Err(none()) } else { Ok(there) }
    }

    /// The operator of the device that runs on `rig`.
    ///
    /// # Errors
    /// Those of [`Operator::available`].
    pub fn of(kind: Kind, rig: &Rig, settings: &Settings) -> Result<Self> {
        Self::available(kind, settings)?;
        let (h, dir, switchctl) = (rig.h(), rig.dir().to_owned(), switchctl(settings));
        Ok(Operator { kind, h, dir, switchctl, core: None })
    }

    /// The same with its programs on this core only, if one is given.
    pub fn on_core(self, core: Option<usize>) -> Self {
        Operator { core, ..self }
    }

    /// Adds ports. They need not be up yet when it returns.
    ///
    /// # Errors
    /// [`Error::Command`] when the device refuses one.
    pub fn add_ports(&self, names: &[String]) -> Result<()> {
        match self.kind {
            Kind::Ovs => {
                let words = names.iter().flat_map(|name| ovs_port(name));
                self.run(ovs::vsctl(&self.h, &self.dir, words.skip(1))).map(drop)
            }
            kind if kind.is_switchd() => {
                self.each(names, |name| self.switchctl(&["add-port", name, "--bridge", SWITCHD_BRIDGE]))
            }
            _ => self.each(names, |name| self.ip(&["link", "set", name, "master", BRIDGE])),
        }
    }

    /// Removes a port.
    ///
    /// # Errors
    /// [`Error::Command`] when the device refuses.
    pub fn remove_port(&self, name: &str) -> Result<()> {
        let command = match self.kind {
            Kind::Ovs => ovs::vsctl(&self.h, &self.dir, ["del-port", BRIDGE, name]),
            kind if kind.is_switchd() => self.switchctl(&["del-port", name]),
            _ => self.ip(&["link", "set", name, "nomaster"]),
        };
        self.run(command).map(drop)
    }

    /// Waits until the device says of all these ports that they work.
    ///
    /// # Errors
    /// [`Error::Device`] when they do not in time, [`Error::Interrupted`].
    pub fn await_ports(&self, names: &[String], stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + UP_LIMIT;
        loop {
            let waiting = match self.kind {
                kind if kind.is_switchd() => self.not_up(names)?,
                Kind::Ovs => self.faulty(names)?,
                _ => return Ok(()),
            };
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.fault(format!("not up after {} s: {}", UP_LIMIT.as_secs(), waiting.join(", "))));
            }
            stop.sleep(Duration::from_millis(100))?;
        }
    }

    /// Everything the device says when asked for the stations it knows.
    ///
    /// # Errors
    /// [`Error::Command`] when the asking program fails.
    pub fn stations(&self) -> Result<String> {
        let command = match self.kind {
            Kind::Ovs => ovs::appctl(&self.h, &self.dir, &["fdb/show", BRIDGE])?,
            kind if kind.is_switchd() => self.switchctl(&["--json", "show-fdb"]),
            _ => cmd(["bridge", "-n", &self.h, "fdb", "show", "br", BRIDGE]),
        };
        self.run(command)
    }

    fn not_up(&self, names: &[String]) -> Result<Vec<String>> {
        let socket = self.dir.join(CONTROL_SOCKET);
        let mut client = Client::connect(&socket, Duration::from_secs(10)).map_err(|e| self.fault(e.to_string()))?;
        let answer = client.collect::<PortStatus>(Request::ShowPorts { port: None });
        let (ports, _) = answer.map_err(|e| self.fault(e.to_string()))?;
        let up = |name: &String| ports.iter().any(|p| &p.interface == name && p.state == PortState::Up);
        Ok(names.iter().filter(|name| !up(name)).cloned().collect())
    }

    fn faulty(&self, names: &[String]) -> Result<Vec<String>> {
        let words = names.iter().flat_map(|name| ["--", "get", "interface", name, "error"]);
        let answers = self.run(ovs::vsctl(&self.h, &self.dir, words.skip(1)))?;
        let faults = names.iter().zip(answers.lines()).filter(|(_, fault)| fault.trim() != "[]");
        Ok(faults.map(|(name, fault)| format!("{name} {fault}")).collect())
    }

    fn each(&self, names: &[String], command: impl Fn(&str) -> Cmd) -> Result<()> {
        names.iter().try_for_each(|name| self.run(command(name)).map(drop))
    }

    fn run(&self, command: Cmd) -> Result<String> {
        self.core.map_or(command.clone(), |core| command.on_core(core)).run()
    }

    fn switchctl(&self, words: &[&str]) -> Cmd {
        let socket = self.dir.join(CONTROL_SOCKET).display().to_string();
        cmd([&self.switchctl.display().to_string(), "--socket", &socket].into_iter().chain(words.iter().copied()))
    }

    fn ip(&self, words: &[&str]) -> Cmd {
        cmd(["ip", "-n", &self.h].into_iter().chain(words.iter().copied()))
    }

    fn fault(&self, why: String) -> Error {
        Error::Device { device: self.kind.name(), why }
    }
}

/// The words that add a port, to follow others of `ovs-vsctl`.
fn ovs_port(name: &str) -> [&str; 10] {
    ["--", "add-port", BRIDGE, name, "--", "set", "interface", name, "type=afxdp", "options:xdp-mode=native"]
}

/// The switchctl program: beside switchd.
fn switchctl(settings: &Settings) -> PathBuf {
    settings.switchd.with_file_name("switchctl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_operated_says_why() {
        let settings = Settings { device_core: 0, traffic_core: 1, switchd: "/nonexistent/switchd".into(), mtu: 1500 };
        let why = |kind| Operator::available(kind, &settings).unwrap_err().to_string();
        assert!(why(Kind::Switchd).contains("/nonexistent/switchctl"), "{}", why(Kind::Switchd));
        assert!(why(Kind::Testpmd).contains("takes no others"), "{}", why(Kind::Testpmd));
    }
}
