//! The facts that belong with every figure (RFC 8204 section 3.3): machine, kernel, set-up, and each device as it
//! stands when it forwards. Collected before the trials, on a rig that is used for nothing else. Main thread.

use crate::cmd::cmd;
use crate::device::{Kind, Settings};
use crate::error::Result;
use crate::load::{flood, socket};
use crate::netns;
use crate::rig::{A_IF, B_IF, HOST_A_IF, HOST_B_IF, Rig, Topology};
use crate::stop::Stop;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Kernel parameters that matter to forwarding.
const PARAMETERS: [&str; 9] = [
    "mitigations",
    "isolcpus",
    "nohz_full",
    "rcu_nocbs",
    "irqaffinity",
    "idle",
    "intel_pstate",
    "processor.max_cstate",
    "preempt",
];
/// Limits of the kernel's receive path.
const SYSCTLS: [&str; 4] = ["netdev_max_backlog", "netdev_budget", "dev_weight", "bpf_jit_enable"];
/// Offloads that decide the cost of a frame, as `ethtool -K` abbreviates them.
const OFFLOADS: [(&str, &str); 8] = [
    ("rx-checksumming", "rx"),
    ("tx-checksumming", "tx"),
    ("scatter-gather", "sg"),
    ("tcp-segmentation-offload", "tso"),
    ("generic-segmentation-offload", "gso"),
    ("generic-receive-offload", "gro"),
    ("rx-vlan-offload", "rxvlan"),
    ("tx-vlan-offload", "txvlan"),
];

/// Everything about where and how a campaign ran. What cannot be found out is empty or absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Machine and kernel.
    pub machine: Machine,
    /// What holds for all devices.
    pub setup: Setup,
    /// Each device, by name.
    pub devices: BTreeMap<String, Device>,
}

/// Machine and kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Processor name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Whether two of them may share one physical core.
    pub smt: Option<bool>,
    /// Whether the processor says it is a virtual one.
    pub virtual_machine: bool,
    /// Frequency governor of the device's core.
    pub governor: Option<String>,
    /// What the kernel tells the time by.
    pub clocksource: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel build.
    pub kernel_build: String,
    /// Those of its parameters that matter here.
    pub kernel_parameters: Vec<String>,
    /// Mitigations in force, by vulnerability.
    pub mitigations: BTreeMap<String, String>,
    /// Limits of the receive path.
    pub sysctls: BTreeMap<String, String>,
}

/// What holds for all devices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Version of this program.
    pub swbench: String,
    /// MTU of all interfaces, bytes.
    pub mtu: u16,
    /// Core of the devices' forwarding thread.
    pub device_core: usize,
    /// Core of the generator and the containers' programs.
    pub traffic_core: usize,
    /// Descriptors of each ring of the socket load.
    pub socket_ring: u32,
    /// Frames the socket load hands over per system call, and the flood load per batch.
    pub burst: u32,
    /// UDP flows offered.
    pub flows: u32,
}

/// A device as it stands when it forwards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    /// Its version.
    pub version: String,
    /// Offloads that are on, by interface, separated by blanks.
    pub offloads: BTreeMap<String, String>,
    /// Receive and transmit queues, by interface.
    pub queues: BTreeMap<String, String>,
    /// Its threads: name, cores it may run on, niceness.
    pub threads: Vec<String>,
    /// Why the rest is missing.
    pub fault: Option<String>,
}

/// Collects all facts; starts every device once. A device that does not start is no error here.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn collect(kinds: &[Kind], settings: &Settings, stop: &Stop) -> Result<Facts> {
    let mut devices = BTreeMap::new();
    for kind in kinds {
        stop.check()?;
        if !devices.contains_key(kind.name()) {
            let version = kind.version(settings);
            let fault = |e: crate::error::Error| Device { fault: Some(e.to_string()), ..Device::default() };
            let device = Device { version, ..observe(*kind, settings, stop).unwrap_or_else(fault) };
            devices.insert(kind.name().to_owned(), device);
        }
    }
    stop.check()?;
    let setup = Setup {
        swbench: env!("CARGO_PKG_VERSION").to_owned(),
        mtu: settings.mtu,
        device_core: settings.device_core,
        traffic_core: settings.traffic_core,
        socket_ring: socket::FRAMES,
        burst: flood::BATCH,
        flows: 1,
    };
    Ok(Facts { machine: Machine::here(settings.device_core), setup, devices })
}

/// Starts a device and looks at it and its interfaces.
fn observe(kind: Kind, settings: &Settings, stop: &Stop) -> Result<Device> {
    let rig = Rig::build(kind.shape(settings))?;
    let running = kind.start(&rig, settings, stop)?;
    let mut interfaces = vec![(rig.a(), A_IF), (rig.b(), B_IF)];
    if rig.shape.topology == Topology::Switched {
        interfaces.extend([(rig.h(), HOST_A_IF), (rig.h(), HOST_B_IF)]);
    }
    let mut device = Device::default();
    for (namespace, interface) in interfaces {
        let features = cmd(["ethtool", "-k", interface]).in_netns(&namespace).run()?;
        device.offloads.insert(interface.to_owned(), enabled(&features));
        let queues = cmd(["ls", &format!("/sys/class/net/{interface}/queues")]).in_netns(&namespace).run()?;
        let count = |prefix: &str| queues.lines().filter(|name| name.starts_with(prefix)).count();
        device.queues.insert(interface.to_owned(), format!("{} rx, {} tx", count("rx-"), count("tx-")));
    }
    device.threads = running.ids().into_iter().flat_map(threads).collect();
    Ok(device)
}

impl Machine {
    /// This machine, with the governor of one core.
    pub fn here(core: usize) -> Self {
        let info = read("/proc/cpuinfo");
        let field =
            |name: &str| info.lines().find(|l| l.starts_with(name)).and_then(|l| Some(l.split_once(':')?.1.trim()));
        let governor = read(&format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"));
        let sysctl = |name: &str| (name.to_owned(), read(&format!("/proc/sys/net/core/{name}")).trim().to_owned());
        Machine {
            cpu: field("model name").unwrap_or_default().to_owned(),
            cores: netns::cores(),
            smt: match read("/sys/devices/system/cpu/smt/active").trim() {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            },
            virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            governor: Some(governor.trim().to_owned()).filter(|name| !name.is_empty()),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            kernel_build: read("/proc/sys/kernel/version").trim().to_owned(),
            kernel_parameters: parameters(&read("/proc/cmdline")),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            sysctls: SYSCTLS.iter().map(|name| sysctl(name)).filter(|(_, value)| !value.is_empty()).collect(),
        }
    }
}

impl Facts {
    /// A few lines for people, each starting with `#`; the file written with --json has everything.
    pub fn lines(&self) -> String {
        let (m, s) = (&self.machine, &self.setup);
        let yes = |known: Option<bool>| known.map_or("unknown", |on| if on { "on" } else { "off" });
        let list =
            |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
        let names: Vec<&str> = m.mitigations.keys().map(String::as_str).collect();
        let mut lines = vec![
            format!(
                "machine: {}, {} cores{}, SMT {}, governor {}, clock {}",
                m.cpu,
                m.cores,
                if m.virtual_machine { " of a virtual machine" } else { "" },
                yes(m.smt),
                m.governor.as_deref().unwrap_or("unknown"),
                m.clocksource
            ),
            format!("kernel: {} {}; {}; {}", m.kernel, m.kernel_build, m.kernel_parameters.join(" "), list(&m.sysctls)),
            format!("mitigated: {}", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }),
            format!(
                "set-up: swbench {}, MTU {}, device on core {}, traffic on core {}, {} flow, generator rings {}, bursts {}",
                s.swbench, s.mtu, s.device_core, s.traffic_core, s.flows, s.socket_ring, s.burst
            ),
        ];
        lines.extend(self.devices.iter().map(|(name, device)| format!("{name}: {}", device.line())));
        lines.into_iter().map(|line| format!("# {line}\n")).collect()
    }
}

impl Device {
    fn line(&self) -> String {
        if let Some(fault) = &self.fault {
            return format!("{}; not seen working: {fault}", self.version);
        }
        format!("{}; offloads on {}; {}", self.version, self.offloads_shown(), self.threads_shown())
    }

    /// The offloads that matter, interfaces with the same ones together.
    pub fn offloads_shown(&self) -> String {
        let short = |names: &str| {
            let on = OFFLOADS.iter().filter(|(name, _)| names.split(' ').any(|on| on == *name));
            on.map(|(_, short)| *short).collect::<Vec<_>>().join(" ")
        };
        let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (interface, names) in &self.offloads {
            alike.entry(short(names)).or_default().push(interface);
        }
        let shown = |(on, names): (&String, &Vec<&str>)| {
            format!("{}: {}", names.join(" "), if on.is_empty() { "none" } else { on })
        };
        alike.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// Its threads, or that the kernel works for it.
    pub fn threads_shown(&self) -> String {
        if self.threads.is_empty() { "in the kernel".to_owned() } else { self.threads.join(", ") }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Parameters of a kernel command line that are named in [`PARAMETERS`].
fn parameters(line: &str) -> Vec<String> {
    let matters = |word: &&str| PARAMETERS.contains(&word.split('=').next().unwrap_or_default());
    line.split_whitespace().filter(matters).map(str::to_owned).collect()
}

/// What a directory like /sys/devices/system/cpu/vulnerabilities says is mitigated.
fn mitigations(directory: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = files.map(|file| (file.file_name().to_string_lossy().into_owned(), file.path()));
    let read = named.map(|(name, path)| (name, std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()));
    read.filter_map(|(name, text)| Some((name, text.strip_prefix("Mitigation: ")?.to_owned()))).collect()
}

/// Features that are on in the output of `ethtool -k`.
fn enabled(features: &str) -> String {
    let lines = features.lines().filter_map(|line| line.trim().split_once(": "));
    let on = lines.filter(|(_, state)| state.split(' ').next() == Some("on"));
    on.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

/// The threads of a process: name, cores it may run on, niceness.
fn threads(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let one = |path: std::path::PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        describe_thread(&stat, &std::fs::read_to_string(path.join("status")).ok()?)
    };
    let mut all: Vec<String> = tasks.filter_map(|task| one(task.path())).collect();
    all.sort_unstable();
    // Many threads of one kind say no more than one.
    all.dedup();
    all
}

/// One thread from its /proc files `stat` and `status` (proc(5)).
fn describe_thread(stat: &str, status: &str) -> Option<String> {
    let (before, fields) = stat.rsplit_once(") ")?;
    // A number at the end counts the program's threads and says nothing about them.
    let name = before.split_once('(')?.1.trim_end_matches(|c: char| c.is_ascii_digit());
    let nice = fields.split_whitespace().nth(16)?;
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    Some(format!("{name} on {cores} nice {nice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_is_listed() {
        let text = "Features for a0:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-sctp: on [fixed]\nlro: off [fixed]\n";
        assert_eq!(enabled(text), "rx-checksumming tx-checksum-sctp");
    }

    #[test]
    fn only_parameters_that_matter_are_kept() {
        let line = "console=ttyS0 mitigations=auto,nosmt secret=1 isolcpus=1 quiet nohz_full=1-3\n";
        assert_eq!(parameters(line), ["mitigations=auto,nosmt", "isolcpus=1", "nohz_full=1-3"]);
    }

    #[test]
    fn a_thread_is_named_with_its_cores_and_niceness() {
        let stat = "12 (a (b) c7) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 0 -20 4 0 100 0 0";
        let status = "Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        assert_eq!(describe_thread(stat, status).as_deref(), Some("a (b) c on 0-1 nice -20"));
        assert_eq!(describe_thread("", status), None);
        assert!(threads(std::process::id()).iter().any(|thread| thread.contains(" on ")));
    }

    #[test]
    fn mitigations_are_read_from_their_files() {
        let directory = std::env::temp_dir().join(format!("swbench-test-facts-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("retbleed"), "Mitigation: IBRS\n").unwrap();
        std::fs::write(directory.join("l1tf"), "Not affected\n").unwrap();
        let found = mitigations(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, BTreeMap::from([("retbleed".to_owned(), "IBRS".to_owned())]));
    }

    #[test]
    fn people_see_versions_offloads_and_what_failed() {
        let on = "tx-checksumming tx-lockless generic-receive-offload";
        let good = Device {
            version: "1.2".into(),
            offloads: [("a0", on), ("b0", on), ("sA", "")].map(|(name, on)| (name.into(), on.into())).into(),
            threads: vec!["worker on 0 nice -20".into()],
            ..Device::default()
        };
        assert_eq!(good.line(), "1.2; offloads on sA: none, a0 b0: tx gro; worker on 0 nice -20");
        let bad = Device { version: "3".into(), fault: Some("no answer".into()), ..Device::default() };
        assert_eq!(bad.line(), "3; not seen working: no answer");
    }

    #[test]
    fn this_machine_has_a_kernel_and_cores() {
        let machine = Machine::here(0);
        assert!(machine.cores > 0 && machine.kernel.contains('.') && !machine.sysctls.is_empty(), "{machine:?}");
    }
}
