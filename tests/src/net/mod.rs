//! Real interfaces for tests: namespaces, veth pairs, switchd on their host ends, traffic between them.
//!
//! A [`Lab`] is one container host: a namespace in which the switch runs, and containers joined to it. All names
//! begin with `swt-<pid>-<n>-`, where `SWT_PREFIX` may name another word than "swt". Dropping removes everything, also
//! when a test panics. What a killed run left behind is removed by the next one, and by the script of `make test`.
//! Called by the tests named `veth_*`.
//!
//! The binaries under test are `switchd` and `switchctl` of the same target directory, or those that `SWITCHD_BIN`
//! and `SWITCHCTL_BIN` name. Cargo does not build them for these tests: `make test` does, before.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use switch::port::PortFactory;
use switch::port::afxdp::AfxdpFactory;
use tempfile::TempDir;

pub use namespace::Namespace;
pub use switchd::Switchd;

pub mod capture;
mod namespace;
pub mod packets;
pub mod process;
pub mod raw;
pub mod router;
pub mod stations;
pub mod switchd;
pub mod tagging;
pub mod traffic;

/// First part of every namespace's name; `SWT_PREFIX` may lengthen it, to tell runs apart.
const PREFIX: &str = "swt";

/// What veth allows a far end of an interface whose XDP program takes no fragments (`veth_xdp_set`): a page of 4096
/// bytes less head room, `struct skb_shared_info` and Ethernet header.
const MTU_OF_ONE_CHUNK: u32 = 4096 - 256 - 320 - 14;

/// Smallest MTU with which the kernel gives an interface IPv6 (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// Labs run side by side unless one asks to be alone: a measurement wants the machine for itself.
static MACHINE: RwLock<()> = RwLock::new(());

/// Number of the next host of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The right to use the machine, held while the lab lives.
#[derive(Debug)]
enum Permit {
    #[expect(dead_code, reason = "held, never read")]
    Shared(RwLockReadGuard<'static, ()>),
    #[expect(dead_code, reason = "held, never read")]
    Alone(RwLockWriteGuard<'static, ()>),
}

/// One container host. Make containers and switches after it; they may be dropped before or after.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    host: Namespace,
    files: TempDir,
    next: u8,
    // Last: the machine is free again when the namespaces are gone.
    _permit: Permit,
}

impl Lab {
    /// A host for the test `test`, beside others. `None`, after a line that says so, where the kernel does not
    /// let this process make namespaces.
    pub fn new(test: &str) -> Option<Lab> {
        Lab::with(test, || Permit::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A host for a test that measures: no other lab of this process exists meanwhile.
    pub fn alone(test: &str) -> Option<Lab> {
        Lab::with(test, || Permit::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(test: &str, permit: impl FnOnce() -> Permit) -> Option<Lab> {
        if !may_configure_networks() {
            skipped(test, "needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN");
            return None;
        }
        static STALE: Once = Once::new();
        STALE.call_once(remove_stale);
        let permit = permit();
        let prefix = fresh_prefix();
        let host = Namespace::create(&format!("{prefix}host"));
        let files = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory can be made");
        Some(Lab { prefix, host, files, next: 1, _permit: permit })
    }

    /// The namespace of the host ends and the switch.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// Whether AF_XDP of this kernel carries packets of several chunks, by the probe that the switch makes.
    ///
    /// # Panics
    /// When there is no AF_XDP.
    pub fn multi_buffer(&self) -> bool {
        static FOUND: OnceLock<bool> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let made =
                self.host.run(|| AfxdpFactory::new(switch::limits::FRAMES_MIN, &[]).map(|made| made.0.features()));
            let features = made.unwrap_or_else(|error| panic!("{error}"));
            features.iter().any(|feature| feature.name == "multi-buffer" && feature.present)
        })
    }

    /// Largest MTU of a container up to `wanted` that this kernel lets a switch port have.
    pub fn mtu(&self, wanted: u32) -> u32 {
        if self.multi_buffer() { wanted } else { wanted.min(MTU_OF_ONE_CHUNK) }
    }

    /// Directory for files of this test, removed with the lab.
    pub fn files(&self) -> &std::path::Path {
        self.files.path()
    }

    /// A container with `eth0`, whose other end is the host's interface `host_end`; both up.
    ///
    /// # Panics
    /// When the kernel refuses, or after 250 containers.
    pub fn container(&mut self, host_end: &str, link: &Link) -> Container {
        let mut container = self.unplugged(host_end);
        container.plug(self, link);
        container
    }

    /// As [`container`](Self::container), a host of a router's subnet: see [`Container::subnet`].
    ///
    /// # Panics
    /// As [`container`](Self::container).
    pub fn member(&mut self, subnet: u8, host_end: &str, link: &Link) -> Container {
        let mut container = self.unplugged(host_end);
        container.subnet = Some(subnet);
        container.plug(self, link);
        container
    }

    /// A namespace of this lab without interfaces, for tests that lay their own cables.
    ///
    /// # Panics
    /// As [`container`](Self::container).
    pub fn space(&mut self) -> Namespace {
        let number = self.next;
        assert!(number <= 250, "a lab has at most 250 containers");
        self.next += 1;
        Namespace::create(&format!("{}c{number}", self.prefix))
    }

    /// A container without an interface; [`Container::plug`] gives it one.
    ///
    /// # Panics
    /// As [`container`](Self::container).
    pub fn unplugged(&mut self, host_end: &str) -> Container {
        let (number, space) = (self.next, self.space());
        // Addresses must be usable at once: no duplicate address detection.
        space.sysctl("ipv6/conf/all/accept_dad", "0");
        space.sysctl("ipv6/conf/default/accept_dad", "0");
        Container { space, host_end: host_end.to_owned(), number, subnet: None }
    }
}

/// What the names of one more host of this process begin with: `swt-<pid>-<n>-`, or what `SWT_PREFIX` makes of it.
pub fn fresh_prefix() -> String {
    let word = std::env::var("SWT_PREFIX").ok().filter(|word| word.starts_with(PREFIX) && !word.contains('-'));
    let (word, number) = (word.as_deref().unwrap_or(PREFIX), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("{word}-{}-{number}-", std::process::id())
}

/// How a container is joined to its host.
#[derive(Clone, Debug)]
pub struct Link {
    /// MTU of both ends.
    pub mtu: u32,
    /// No addresses, no ARP, no IPv6: only frames that the test sends.
    pub quiet: bool,
    /// No addresses, but for IPv6 those that the kernel makes by itself; the container's programs are to get them.
    pub bare: bool,
    /// `ethtool -K eth0 tx off` in the container.
    pub tx_off: bool,
    /// Queues each way.
    pub queues: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link { mtu: 1500, quiet: false, bare: false, tx_off: false, queues: 1 }
    }
}

impl Link {
    /// A link that carries nothing but the test's own frames.
    pub fn quiet() -> Link {
        Link { quiet: true, ..Link::default() }
    }
}

/// A container: a namespace with `eth0`, addresses 10.99.0.N/24 and fd99::N/64, MAC 02:99:00:00:00:N.
///
/// On subnet S of a router its addresses are 10.S.0.N/24 and fd00:S::N/64, and its default routes lead to the router,
/// 10.S.0.254 and fd00:S::fe. An MTU below 1280 leaves IPv6 out.
#[derive(Debug)]
pub struct Container {
    space: Namespace,
    host_end: String,
    number: u8,
    subnet: Option<u8>,
}

impl Container {
    /// Its namespace.
    pub fn space(&self) -> &Namespace {
        &self.space
    }

    /// Name of the interface on the host.
    pub fn host_end(&self) -> &str {
        &self.host_end
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.subnet.map_or(Ipv4Addr::new(10, 99, 0, self.number), |subnet| router::v4(subnet, self.number)).into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        let number = self.number.into();
        let outside = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number);
        self.subnet.map_or(outside, |subnet| router::v6(subnet, number)).into()
    }

    /// Number of the router's subnet that it is in, if any.
    pub fn subnet(&self) -> Option<u8> {
        self.subnet
    }

    /// Address of its `eth0`.
    pub fn mac(&self) -> [u8; 6] {
        [0x02, 0x99, 0, 0, 0, self.number]
    }

    /// The same as text.
    pub fn mac_text(&self) -> String {
        format!("02:99:00:00:00:{:02x}", self.number)
    }

    /// Makes the veth pair, again if it was deleted. Both ends come up.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn plug(&mut self, lab: &Lab, link: &Link) {
        let (mtu, mac, end, host) = (link.mtu, self.mac_text(), &self.host_end, lab.host.name());
        let queues = match link.queues {
            0 | 1 => String::new(),
            n => format!("numtxqueues {n} numrxqueues {n}"),
        };
        self.space.ip(&format!(
            "link add eth0 mtu {mtu} address {mac} {queues} type veth peer name {end} mtu {mtu} {queues} netns {host}"
        ));
        if link.bare {
            self.space.ip("link set eth0 up");
        } else if link.quiet {
            self.space.sysctl("ipv6/conf/all/disable_ipv6", "1");
            lab.host.sysctl(&format!("ipv6/conf/{end}/disable_ipv6"), "1");
            self.space.ip("link set eth0 arp off up");
        } else {
            let mut lines = format!("link set eth0 up\naddress add {}/24 dev eth0\n", self.v4());
            if mtu >= IPV6_MTU_MIN {
                lines += &format!("address add {}/64 dev eth0 nodad\n", self.v6());
            }
            if let Some(subnet) = self.subnet {
                lines += &format!("route add default via {}\n", router::gateway_v4(subnet));
                if mtu >= IPV6_MTU_MIN {
                    lines += &format!("route add default via {}\n", router::gateway_v6(subnet));
                }
            }
            self.space.ip_batch(&lines);
        }
        if link.tx_off {
            self.ethtool("-K eth0 tx off");
        }
        lab.host.ip(&format!("link set {end} up"));
    }

    /// Deletes the veth pair, as when the container ends.
    ///
    /// # Panics
    /// When there is none.
    pub fn unplug(&self) {
        self.space.ip("link del eth0");
    }

    /// Runs ethtool in the container; its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn ethtool(&self, arguments: &str) -> String {
        let done = process::output(self.space.command("ethtool").args(arguments.split_whitespace()));
        assert!(done.code == 0, "ethtool {arguments}: {}", done.stderr.trim());
        done.stdout
    }

    /// Whether an offload of `eth0` is on, by its name in `ethtool -k`.
    ///
    /// # Panics
    /// When ethtool does not know it.
    pub fn offload(&self, name: &str) -> bool {
        let text = self.ethtool("-k eth0");
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no offload {name}")).starts_with("on")
    }
}

/// Says that a test was not run, on the real standard error, so that a passing test shows it too.
pub fn skipped(test: &str, why: &str) {
    report(&format!("SKIPPED: {test}: {why}"));
}

/// Says something worth reading in a passing test: a figure, a count. Always at the start of a line, whatever the
/// test runner has written there.
pub fn report(text: &str) {
    let _ = std::io::stderr().write_all(format!("\n{text}\n").as_bytes());
}

/// True where the long form of the tests is wanted: `VETH_FULL=1`.
pub fn full() -> bool {
    std::env::var_os("VETH_FULL").is_some_and(|value| value == "1")
}

/// How many times longer than on real hardware things may take: `SWT_SLOWNESS`, for emulated machines; 1 by default.
pub fn slowness() -> u32 {
    let given = std::env::var("SWT_SLOWNESS").ok().and_then(|text| text.parse().ok());
    given.filter(|factor| (1..=1000).contains(factor)).unwrap_or(1)
}

/// A time limit (or a pause between frames) that suits real hardware, as long as this machine needs it.
pub fn stretched(time: Duration) -> Duration {
    time * slowness()
}

/// CAP_NET_ADMIN and CAP_SYS_ADMIN in the effective set.
fn may_configure_networks() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let set = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    // Numbers of linux/capability.h.
    let (net_admin, sys_admin) = (1 << 12, 1 << 21);
    set & net_admin != 0 && set & sys_admin != 0
}

/// Removes namespaces of test processes that no longer exist.
fn remove_stale() {
    for name in namespace::names() {
        let mut parts = name.split('-');
        let ours = parts.next().is_some_and(|word| word.starts_with(PREFIX));
        let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
        let dead = pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists());
        if ours && dead {
            namespace::remove(&name);
        }
    }
}
