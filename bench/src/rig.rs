//! The bed a trial lies on: namespaces A, B and H joined by veth pairs, made fresh and removed by a guard.
//!
//! ```text
//!   A: a0 <----> sA :H: sB <----> b0 :B        switched
//!   A: a0 <-----------------------> b0 :B      direct
//!   C2: b0 <---> s2 :H  and so on              further stations, for tests of more than two ports
//! ```
//!
//! The device under test lives in H, so nothing touches the machine's own namespace. A setting left on a veth (threaded
//! NAPI, GRO, offloads) falsifies later runs, so nothing is ever reused: one rig, one trial. Main thread only.

use crate::cmd::cmd;
use crate::error::{Error, Result};
use crate::netns;
use rustix::process::{Pid, test_kill_process};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Namespaces carry this prefix, the process id of the rig that made them and a serial number.
const PREFIX: &str = "swb";
/// Address of a0 (the block RFC 2544 reserves for benchmarks).
pub const A_IP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Address of b0.
pub const B_IP: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// Gateways of A's and of B's subnet, where a router is measured.
pub const GATEWAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 254), Ipv4Addr::new(198, 19, 0, 254)];
/// The container's interface in A.
pub const A_IF: &str = "a0";
/// The container's interface in B.
pub const B_IF: &str = "b0";
/// Host end of A's veth, in H.
pub const HOST_A_IF: &str = "sA";
/// Host end of B's veth, in H.
pub const HOST_B_IF: &str = "sB";

/// Most stations of a rig: more would need more addresses and ports than any test has use for.
pub const STATIONS_MAX: u16 = 64;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// How A and B are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Two veth pairs with a device between them, A and B on one subnet.
    Switched,
    /// The same, A and B on subnets of their own with a gateway each.
    Routed,
    /// One veth pair, no device.
    Direct,
}

/// What a rig looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How A and B are joined.
    pub topology: Topology,
    /// MTU of every interface, bytes.
    pub mtu: u16,
    /// Whether the containers compute their own checksums and segments (`ethtool -K <if> tx off`).
    pub container_tx_off: bool,
}

/// What a test needs beyond two stations and a device as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Stations joined by the device, 2 to [`STATIONS_MAX`]; A and B are the first two.
    pub stations: u16,
    /// Addresses the device shall have room for; `None` for its own default.
    pub addresses: Option<u32>,
}

impl Default for Needs {
    fn default() -> Self {
        Needs { stations: 2, addresses: None }
    }
}

/// A namespace with one interface, and the other end of its veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Name of the namespace.
    pub netns: String,
    /// Its interface there.
    pub interface: &'static str,
    /// The host end in H.
    pub host: String,
}

/// Namespaces and their veths. Dropping it removes all of it.
#[derive(Debug)]
pub struct Rig {
    stem: String,
    dir: PathBuf,
    /// What it was built for.
    pub needs: Needs,
    /// What was built.
    pub shape: Shape,
}

impl Rig {
    /// Builds a fresh rig of two stations.
    ///
    /// # Errors
    /// As [`Rig::build_for`].
    pub fn build(shape: Shape) -> Result<Self> {
        Self::build_for(shape, Needs::default())
    }

    /// Builds a fresh rig. Stations beyond A and B have no IP address.
    ///
    /// # Errors
    /// [`Error::Command`] when `ip` or `ethtool` refuse (root is needed), [`Error::Io`] for the run directory.
    pub fn build_for(shape: Shape, needs: Needs) -> Result<Self> {
        let needs = Needs { stations: needs.stations.clamp(2, STATIONS_MAX), ..needs };
        let stem = format!("{PREFIX}{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&stem);
        std::fs::create_dir(&dir).map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        let rig = Rig { stem, dir, needs, shape };
        for name in rig.namespaces() {
            cmd(["ip", "netns", "add", &name]).run()?;
            // No router solicitations or duplicate-address probes among the counted frames.
            let quiet = "for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done; \
                         f=/proc/sys/net/bridge/bridge-nf-call; \
                         for t in iptables ip6tables arptables; do [ ! -e $f-$t ] || echo 0 > $f-$t; done; \
                         ip link set lo up";
            cmd(["sh", "-c", quiet]).in_netns(&name).run()?;
        }
        match shape.topology {
            Topology::Switched | Topology::Routed => {
                for station in rig.stations() {
                    rig.join((&rig.h(), &station.host), (&station.netns, station.interface))?;
                }
            }
            Topology::Direct => rig.join((&rig.b(), B_IF), (&rig.a(), A_IF))?,
        }
        let ends = [(rig.a(), A_IF, A_IP), (rig.b(), B_IF, B_IP)];
        for ((name, interface, ip), gateway) in ends.into_iter().zip(GATEWAYS) {
            // The benchmark addresses (RFC 2544 C.2.2) are a /15.
            let len = if shape.topology == Topology::Routed { 24 } else { 15 };
            cmd(["ip", "-n", &name, "addr", "add", &format!("{ip}/{len}"), "dev", interface]).run()?;
            if shape.topology == Topology::Routed {
                cmd(["ip", "-n", &name, "route", "add", "default", "via", &gateway.to_string()]).run()?;
            }
            if shape.container_tx_off {
                cmd(["ethtool", "-K", interface, "tx", "off"]).in_netns(&name).run()?;
            }
        }
        Ok(rig)
    }

    /// Name of the sender's namespace.
    pub fn a(&self) -> String {
        format!("{}-A", self.stem)
    }

    /// Name of the receiver's namespace.
    pub fn b(&self) -> String {
        format!("{}-B", self.stem)
    }

    /// Name of the namespace of the host ends and the device under test.
    pub fn h(&self) -> String {
        format!("{}-H", self.stem)
    }

    /// Name of the namespace of further ports' far ends, see [`crate::crowd`].
    pub fn c(&self) -> String {
        format!("{}-C", self.stem)
    }

    /// The station of this number: A is 0, B is 1.
    pub fn station(&self, number: u16) -> Station {
        match number {
            0 => Station { netns: self.a(), interface: A_IF, host: HOST_A_IF.to_owned() },
            1 => Station { netns: self.b(), interface: B_IF, host: HOST_B_IF.to_owned() },
            n => Station { netns: format!("{}-C{n}", self.stem), interface: B_IF, host: format!("s{n}") },
        }
    }

    /// All stations, A and B first.
    pub fn stations(&self) -> impl Iterator<Item = Station> {
        (0..self.needs.stations).map(|number| self.station(number))
    }

    /// The host ends that a device joins, in the order of the stations.
    pub fn host_ends(&self) -> Vec<String> {
        self.stations().map(|station| station.host).collect()
    }

    fn namespaces(&self) -> Vec<String> {
        self.stations().map(|station| station.netns).chain([self.h()]).collect()
    }

    /// A directory for sockets, logs and databases of this trial; removed with the rig.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hardware address of a0.
    ///
    /// # Errors
    /// As [`Rig::b_mac`].
    pub fn a_mac(&self) -> Result<[u8; 6]> {
        mac(&self.a(), A_IF)
    }

    /// Hardware address of b0.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Parse`] when sysfs does not tell.
    pub fn b_mac(&self) -> Result<[u8; 6]> {
        self.station(1).mac()
    }

    /// Hardware address of what A sends to first on the way to B: B itself, or A's gateway, once A has resolved it.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::Parse`] when A does not know it.
    pub fn first_hop_mac(&self) -> Result<[u8; 6]> {
        if self.shape.topology != Topology::Routed {
            return self.b_mac();
        }
        let gateway = GATEWAYS[0].to_string();
        let text = cmd(["ip", "-n", &self.a(), "neigh", "show", &gateway]).run()?;
        let mac = text.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).and_then(parse_mac);
        mac.ok_or_else(|| Error::Parse { tool: "ip neigh", why: format!("A does not know {gateway}: {text}") })
    }

    /// Interface index of a0, inside A.
    ///
    /// # Errors
    /// [`Error::Io`] when the interface is gone.
    pub fn a_index(&self) -> Result<u32> {
        self.station(0).index()
    }

    fn join(&self, left: (&str, &str), right: (&str, &str)) -> Result<()> {
        let mtu = self.shape.mtu.to_string();
        let ((left_ns, left_if), (right_ns, right_if)) = (left, right);
        let mut words = vec!["ip", "link", "add", left_if, "netns", left_ns, "mtu", &mtu, "type", "veth"];
        words.extend(["peer", "name", right_if, "netns", right_ns, "mtu", &mtu]);
        cmd(words).run()?;
        for (ns, interface) in [left, right] {
            cmd(["ip", "-n", ns, "link", "set", interface, "up"]).run()?;
        }
        Ok(())
    }
}

impl Station {
    /// Hardware address of its interface.
    ///
    /// # Errors
    /// [`Error::Command`] or [`Error::Parse`] when sysfs does not tell.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let path = format!("/sys/class/net/{}/address", self.interface);
        let text = cmd(["cat", &path]).in_netns(&self.netns).run()?;
        parse_mac(&text).ok_or_else(|| Error::Parse { tool: "sysfs", why: format!("{path} has no MAC: {text}") })
    }

    /// Index of its interface, inside its namespace.
    ///
    /// # Errors
    /// [`Error::Command`] when the interface is gone.
    pub fn index(&self) -> Result<u32> {
        let interface = self.interface;
        let text = cmd(["cat", &format!("/sys/class/net/{interface}/ifindex")]).in_netns(&self.netns).run()?;
        text.trim().parse().map_err(|e| Error::Parse { tool: "sysfs", why: format!("ifindex of {interface}: {e}") })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Deleting the host ends first takes both ends of every pair at once; a namespace with a socket still open in
        // it would otherwise keep its interfaces alive.
        for interface in self.host_ends() {
            let _ = cmd(["ip", "-n", &self.h(), "link", "del", &interface]).run();
        }
        for name in self.namespaces() {
            let _ = cmd(["ip", "netns", "del", &name]).run();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes namespaces and run directories whose rig was killed before it could clean up. Returns how many namespaces.
///
/// # Errors
/// [`Error::Command`] when `ip` is missing.
pub fn remove_stale() -> Result<usize> {
    let listing = cmd(["ip", "netns", "list"]).run()?;
    let mut removed = 0;
    for name in listing.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| is_stale(name)) {
        cmd(["ip", "netns", "del", name]).run()?;
        removed += 1;
    }
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_str().is_some_and(is_stale)) {
        let _ = std::fs::remove_dir_all(entry.path());
    }
    Ok(removed)
}

/// Whether a name is a rig's and that rig's process is gone.
fn is_stale(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).and_then(|(pid, _)| pid.parse().ok());
    pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_err())
}

/// Hardware address of an interface.
fn mac(netns: &str, interface: &str) -> Result<[u8; 6]> {
    let path = format!("/sys/class/net/{interface}/address");
    let text = cmd(["cat", &path]).in_netns(netns).run()?;
    parse_mac(&text).ok_or_else(|| Error::Parse { tool: "sysfs", why: format!("{path} has no MAC: {text}") })
}

/// Reads `aa:bb:cc:dd:ee:ff`.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Fails unless the machine has what every trial needs.
///
/// # Errors
/// [`Error::Absent`] with the missing program, or when there are fewer than two cores.
pub fn check_machine() -> Result<()> {
    let needs = [("ip", "iproute2"), ("ethtool", "ethtool"), ("taskset", "util-linux")];
    for (program, package) in needs {
        if !crate::cmd::installed(program) {
            return Err(Error::Absent { device: "the rig", why: format!("install {program} (package {package})") });
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Absent { device: "the rig", why: "run it as root: it makes network namespaces".into() });
    }
    if netns::cores() < 2 {
        return Err(Error::Absent { device: "the rig", why: "it needs two cores, one for the device".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_read_strictly() {
        assert_eq!(parse_mac("02:00:5e:10:00:ff\n"), Some([2, 0, 0x5e, 0x10, 0, 0xff]));
        for bad in ["", "02:00:5e:10:00", "02:00:5e:10:00:ff:01", "zz:00:5e:10:00:ff"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_dead_rigs_are_stale() {
        assert!(!is_stale(&format!("{PREFIX}{}-0-A", std::process::id())));
        assert!(!is_stale("some-container"));
        assert!(!is_stale("swbench"));
        // Above the kernel's largest possible process id.
        assert!(is_stale(&format!("{PREFIX}4194999-0-A")));
    }
}
