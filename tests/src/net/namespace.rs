//! Network namespaces: made with ip-netns(8), entered by threads and programs, removed when dropped.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{must, must_with_input};

/// Where ip-netns(8) keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// A named network namespace with `lo` up. Removed, with everything in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Panics
    /// When the kernel or ip(8) refuses.
    pub fn create(name: &str) -> Namespace {
        must("ip", &["netns", "add", name]);
        let namespace = Namespace { name: name.to_owned() };
        namespace.ip("link set lo up");
        namespace
    }

    /// Name known to ip-netns(8).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGUMENTS` inside; arguments are separated by blanks. Its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        must("ip", &all)
    }

    /// Runs many `ip` commands, one a line, in one process.
    ///
    /// # Panics
    /// When one fails.
    pub fn ip_batch(&self, lines: &str) {
        must_with_input("ip", &["-n", &self.name, "-batch", "-"], lines);
    }

    /// A program to be started inside. It sees this namespace's `/sys/class/net`, and its process id is the
    /// child's own. It dies with the thread that starts it, even if that is killed.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Starts a thread inside. Sockets it opens stay in the namespace wherever they are used.
    ///
    /// # Panics
    /// In the new thread, when the namespace cannot be entered.
    pub fn spawn<T, F>(&self, work: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let path = self.path();
        let enter_and_work = move || {
            enter(&path);
            work()
        };
        let name = format!("in {}", self.name);
        std::thread::Builder::new().name(name).spawn(enter_and_work).expect("a thread can be started")
    }

    /// Runs `work` on a thread inside and waits for it.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let done = std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                enter(&path);
                work()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets a value under `/proc/sys/net`, such as `ipv6/conf/all/disable_ipv6`.
    ///
    /// # Panics
    /// When there is no such key.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| fs::write(&path, value)).unwrap_or_else(|e| panic!("cannot set {path}: {e}"));
    }

    /// A counter of `/proc/net/snmp` (IPv4), such as `Udp` `InCsumErrors`.
    ///
    /// # Panics
    /// When the kernel does not count that.
    pub fn counter_v4(&self, protocol: &str, counter: &str) -> u64 {
        let text = self.run(|| fs::read_to_string("/proc/thread-self/net/snmp")).expect("snmp is readable");
        let prefix = format!("{protocol}: ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let value = pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.parse().ok());
        value.unwrap_or_else(|| panic!("no counter {protocol} {counter}"))
    }

    /// A counter of `/proc/net/snmp6`, such as `Udp6InCsumErrors`; 0 where IPv6 is off.
    pub fn counter_v6(&self, counter: &str) -> u64 {
        let text = self.run(|| fs::read_to_string("/proc/thread-self/net/snmp6")).unwrap_or_default();
        let mut pairs = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
        pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Frames that this namespace's stack dropped for a wrong checksum: TCP, UDP and ICMP of both families.
    pub fn checksum_errors(&self) -> u64 {
        let v4 = ["Tcp", "Udp", "Icmp"].map(|protocol| self.counter_v4(protocol, "InCsumErrors"));
        // TCP over IPv6 is counted with TCP.
        let v6 = ["Udp6InCsumErrors", "Icmp6InCsumErrors"].map(|counter| self.counter_v6(counter));
        v4.iter().chain(&v6).sum()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(NAMESPACES).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Names of the namespaces known to ip-netns(8).
pub(super) fn names() -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes a namespace; one that is gone already is no error.
pub(super) fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Moves the calling thread into the namespace; it never comes back.
fn enter(path: &std::path::Path) {
    let file = File::open(path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .unwrap_or_else(|e| panic!("cannot enter {}: {e}", path.display()));
}
