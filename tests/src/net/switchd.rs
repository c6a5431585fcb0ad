//! A running switchd and the ways to talk to it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use ctl::client::Client;
use ctl::protocol::{DropStatus, FdbEntry, FdbFilter, NeighEntry, NeighFilter, PortState, PortStatus, Request};
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::process::{Output, Process, output, wait_for};
use super::{Lab, stretched};

/// How long a switch may take to start: the largest test attaches 256 ports.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end: the largest test closes 256 ports, and the kernel takes its time for each.
const END: Duration = Duration::from_secs(30);

/// A switchd in a lab's host namespace. Killed when dropped; its log is shown if the test failed.
#[derive(Debug)]
pub struct Switchd {
    process: Process,
    socket: PathBuf,
    config: PathBuf,
    /// Lines of `[switch]`, kept for [`write_config`](Switchd::write_config).
    keys: String,
}

impl Switchd {
    /// Starts one and waits until it says that it is ready. `keys` are lines of `[switch]` beside the control
    /// socket, `body` is the rest of the configuration.
    ///
    /// # Panics
    /// When it ends or is not ready in time, with its log.
    pub fn start(lab: &Lab, keys: &str, body: &str) -> Switchd {
        Switchd::start_named(lab, "control", keys, body)
    }

    /// As [`start`](Self::start), with files of its own, for a second switch or a restart.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_named(lab: &Lab, name: &str, keys: &str, body: &str) -> Switchd {
        Switchd::try_start(lab, name, keys, body)
            .unwrap_or_else(|(status, said)| panic!("switchd ended at start ({status}):\n{said}"))
    }

    /// As [`start`](Self::start), through `wrapper`: a program that ends by replacing itself with the command that
    /// follows its own arguments.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_through(lab: &Lab, wrapper: &[&str], keys: &str, body: &str) -> Switchd {
        Switchd::try_start_through(lab, wrapper, "control", keys, body)
            .unwrap_or_else(|(status, said)| panic!("switchd ended at start ({status}):\n{said}"))
    }

    /// As [`start_named`](Self::start_named), for a start that may be refused.
    ///
    /// # Errors
    /// How it ended and what it wrote to standard error, when it ended before it was ready.
    ///
    /// # Panics
    /// When it is neither ready nor ended in time.
    pub fn try_start(lab: &Lab, name: &str, keys: &str, body: &str) -> Result<Switchd, (ExitStatus, String)> {
        Switchd::try_start_through(lab, &[], name, keys, body)
    }

    fn try_start_through(
        lab: &Lab,
        wrapper: &[&str],
        name: &str,
        keys: &str,
        body: &str,
    ) -> Result<Switchd, (ExitStatus, String)> {
        let file = |extension: &str| lab.files().join(format!("{name}.{extension}"));
        let (socket, config, notify) = (file("sock"), file("toml"), file("notify"));
        write(&config, &configuration(&socket, keys, body));
        let _ = fs::remove_file(&notify);
        let listener = UnixDatagram::bind(&notify).expect("a datagram socket can be made");
        listener.set_nonblocking(true).expect("it can be non-blocking");
        let mut command = through(lab, wrapper);
        command.arg("--config").arg(&config).env("NOTIFY_SOCKET", &notify).env("RUST_BACKTRACE", "1");
        let process = Process::start(command, &file("log"));
        let mut switch = Switchd { process, socket, config, keys: keys.to_owned() };
        let start = Instant::now();
        loop {
            let mut text = [0; 512];
            let length = listener.recv(&mut text).unwrap_or(0);
            if String::from_utf8_lossy(&text[..length]).lines().any(|line| line == "READY=1") {
                return Ok(switch);
            }
            if let Some(status) = switch.process.ended() {
                return Err((status, switch.process.stderr()));
            }
            assert!(start.elapsed() < stretched(START), "switchd is not ready after {START:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Path of its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Replaces the configuration file, with the same `[switch]`; the switch reads it when told to.
    pub fn write_config(&self, body: &str) {
        write(&self.config, &configuration(&self.socket, &self.keys, body));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(END)
    }

    /// Kills it (SIGKILL) and waits.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait(END);
    }

    /// A connection to its control socket.
    ///
    /// # Panics
    /// When nobody answers.
    pub fn client(&self) -> Client {
        Client::connect(&self.socket, stretched(Duration::from_secs(10))).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The items that answer a request.
    ///
    /// # Errors
    /// What the switch answers instead.
    pub fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<Vec<T>, String> {
        self.client().collect(request).map(|(items, _)| items).map_err(|e| e.to_string())
    }

    /// Makes a request that must be carried out.
    ///
    /// # Panics
    /// When it is refused.
    pub fn tell(&self, request: Request) {
        let name = request.name();
        self.client().call(request).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// The forwarding entries.
    pub fn fdb(&self) -> Vec<FdbEntry> {
        self.ask(Request::ShowFdb(FdbFilter::default())).expect("show-fdb is answered")
    }

    /// The entry of an address, by its text.
    pub fn fdb_entry(&self, mac: &str) -> Option<FdbEntry> {
        self.fdb().into_iter().find(|entry| entry.mac.to_string() == mac)
    }

    /// The router's neighbours.
    pub fn neighbours(&self) -> Vec<NeighEntry> {
        self.ask(Request::ShowNeigh(NeighFilter::default())).expect("show-neigh is answered")
    }

    /// The ports.
    pub fn ports(&self) -> Vec<PortStatus> {
        self.ask(Request::ShowPorts { port: None }).expect("show-ports is answered")
    }

    /// One port.
    ///
    /// # Panics
    /// When it is not configured.
    pub fn port(&self, interface: &str) -> PortStatus {
        let found = self.ports().into_iter().find(|port| port.interface == interface);
        found.unwrap_or_else(|| panic!("show-ports does not list {interface}"))
    }

    /// Waits until a port has a state.
    ///
    /// # Panics
    /// When it has another one after five seconds, with the log.
    pub fn wait_state(&self, interface: &str, state: PortState) -> PortStatus {
        wait_for(&format!("{interface} {state:?}"), Duration::from_secs(5), || {
            Some(self.port(interface)).filter(|port| port.state == state)
        })
    }

    /// Dropped frames of one reason, over all ports.
    pub fn dropped(&self, reason: &str) -> u64 {
        let drops: Vec<DropStatus> = self.ask(Request::ShowDrops { port: None }).expect("show-drops is answered");
        drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.count).sum()
    }

    /// Every drop it has counted, its own and the kernel's, one port a line: for the message of a test that fails.
    pub fn losses(&self) -> String {
        let line = |port: PortStatus| {
            let counted = port.drops.into_iter().chain(port.kernel).filter(|(_, count)| *count > 0);
            let words: Vec<String> = counted.map(|(reason, count)| format!("{reason} {count}")).collect();
            format!("{}: {}\n", port.interface, words.join(", "))
        };
        self.ports().into_iter().map(line).collect()
    }

    /// Runs `switchctl ARGUMENTS` against it.
    pub fn switchctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("switchctl", "SWITCHCTL_BIN"));
        output(command.arg("--socket").arg(&self.socket).args(arguments))
    }

    /// Runs `switchctl --json ARGUMENTS`, which must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.switchctl(&[&["--json"], arguments].concat());
        assert!(done.code == 0, "switchctl {}: {}", arguments.join(" "), done.stderr);
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {}", done.stdout))
    }
}

impl Drop for Switchd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::report(&format!("log of switchd {}:\n{}", self.process.pid(), self.log()));
        }
    }
}

/// `switchd` in the lab, through `wrapper` (a program and its arguments, that takes a command behind them), if any.
fn through(lab: &Lab, wrapper: &[&str]) -> Command {
    let program = binary("switchd", "SWITCHD_BIN");
    let mut all: Vec<&str> = wrapper.to_vec();
    all.push(&program);
    let mut command = lab.host().command(all[0]);
    command.args(&all[1..]);
    command
}

/// Runs `switchd ARGUMENTS` in the lab to its end, through `wrapper`, if any.
pub fn switchd_output(lab: &Lab, wrapper: &[&str], arguments: &[&str]) -> Output {
    output(through(lab, wrapper).args(arguments))
}

/// A configuration with its control socket.
pub fn configuration(socket: &Path, keys: &str, body: &str) -> String {
    format!("[switch]\ncontrol_socket = \"{}\"\n{keys}\n{body}\n", socket.display())
}

/// A key of `[switch]` for tests that compare what leaves the switch frame by frame: a container that receives in
/// batches merges TCP segments and lets unrelated frames overtake each other, as it may.
pub const UNMERGED: &str = "container_gro = false\n";

/// One bridge "pods" with these access ports.
pub fn pods(ports: &[&str]) -> String {
    let port = |name: &&str| format!("[[port]]\ninterface = \"{name}\"\nbridge = \"pods\"\n");
    format!("[[bridge]]\nname = \"pods\"\n{}", ports.iter().map(port).collect::<String>())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

/// Path of a binary under test: what the environment names, or the one built beside this test.
fn binary(name: &str, variable: &str) -> String {
    if let Ok(path) = std::env::var(variable) {
        return path;
    }
    let test = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/<test>
    let path = test.parent().and_then(Path::parent).map(|profile| profile.join(name)).unwrap_or_default();
    assert!(
        path.is_file(),
        "{} is not there: build it with `cargo build --workspace --bins` (make test does), or set {variable}",
        path.display()
    );
    path.display().to_string()
}
