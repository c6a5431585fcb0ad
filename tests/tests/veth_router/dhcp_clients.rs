//! DHCP clients of three makes, each told to write down what it hears. Their files are the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tests::net::process::{Process, output, wait_for};
use tests::net::{Container, Lab, stretched};

/// What every client runs when something happens: does what it is told, and tells the test.
const HOOK: &str = r#"#!/bin/sh
why=${reason:-$1} address=${new_ip_address:-$ip} via=${new_routers:-$router}
[ "$interface" = eth0 ] || exit 0
case $why in
  bound | renew | BOUND | RENEW | REBIND | REBOOT)
    ip address replace $address/24 dev eth0
    [ -z "$via" ] || ip route replace default via $via ;;
  PREINIT) ip link set eth0 up ;;
  deconfig | RELEASE | EXPIRE) ip -4 address flush dev eth0 ;;
esac
echo "$why ip=$address router=$via dns=${new_domain_name_servers:-$dns} mtu=${new_interface_mtu:-$mtu}" \
  "lease=${new_dhcp_lease_time:-$lease} domain=${new_domain_name:-$domain} ntp=${new_ntp_servers:-$ntpsrv}" \
  "name=${new_host_name:-$hostname}" >>"$OUT"
"#;

const DHCLIENT_CONF: &str = "request subnet-mask, routers, domain-name, domain-name-servers, interface-mtu, \
                             ntp-servers, host-name;\ntimeout 20;\nretry 2;\ninitial-interval 1;\n";

/// Who made a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// busybox
    Udhcpc,
    /// ISC
    Dhclient,
    /// Roy Marples
    Dhcpcd,
}

impl Make {
    /// All of them.
    pub const ALL: [Make; 3] = [Make::Udhcpc, Make::Dhclient, Make::Dhcpcd];

    /// Name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Make::Udhcpc => "udhcpc",
            Make::Dhclient => "dhclient",
            Make::Dhcpcd => "dhcpcd",
        }
    }

    /// What its hook is told of a new lease, of one renewed or confirmed, and of one given back.
    pub fn words(self) -> [&'static [&'static str]; 3] {
        match self {
            Make::Udhcpc => [&["bound"], &["renew"], &["deconfig"]],
            Make::Dhclient => [&["BOUND"], &["RENEW", "REBIND", "REBOOT"], &["RELEASE"]],
            Make::Dhcpcd => [&["BOUND", "REBOOT"], &["RENEW", "REBIND", "REBOOT"], &["STOPPED"]],
        }
    }
}

/// A client that runs on a container's `eth0`. What it heard is a line each in a file.
pub struct Client {
    /// Who made it.
    pub make: Make,
    /// Where it runs.
    pub container: Container,
    process: Process,
    files: PathBuf,
}

impl Client {
    /// Starts one; `eth0` has no address.
    pub fn start(lab: &Lab, make: Make, container: Container) -> Client {
        let files = lab.files().join(format!("{}-{}", make.program(), container.host_end()));
        fs::create_dir_all(&files).expect("a directory can be made");
        fs::write(files.join("hook"), HOOK).expect("a file can be written");
        fs::set_permissions(files.join("hook"), fs::Permissions::from_mode(0o755)).expect("it may be run");
        fs::write(files.join("dhclient.conf"), DHCLIENT_CONF).expect("a file can be written");
        let process = Process::start(command(make, &container, &files), &files.join("log"));
        Client { make, container, process, files }
    }

    /// Kills it and starts it again with what it has kept.
    pub fn restart(&mut self) {
        self.process.signal(Signal::KILL);
        let _ = self.process.wait(Duration::from_secs(5));
        let again = command(self.make, &self.container, &self.files);
        self.process = Process::start(again, &self.files.join("log"));
    }

    /// Lines written so far.
    pub fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.files.join("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The first line from number `after` on that begins with one of `words`.
    ///
    /// # Panics
    /// When none comes in time, with what came.
    pub fn wait(&self, after: usize, words: &[&str]) -> String {
        let wanted = |line: &String| words.iter().any(|word| line.starts_with(&format!("{word} ")));
        let start = std::time::Instant::now();
        wait_for(&format!("{:?} is told of {words:?}", self.make), Duration::from_secs(30), || {
            let found = self.events().into_iter().skip(after).find(wanted);
            let said = || format!("{}\n{}", self.events().join("\n"), self.process.stderr());
            assert!(
                found.is_some() || start.elapsed() < stretched(Duration::from_secs(25)),
                "{:?}, {words:?}:\n{}",
                self.make,
                said()
            );
            found
        })
    }

    /// Has it renew its lease, or confirm it.
    pub fn renew(&mut self) {
        match self.make {
            Make::Udhcpc => self.process.signal(Signal::USR1),
            Make::Dhcpcd => self.tell_dhcpcd("-N"),
            // Renews in its own time only; started again, it asks whether its lease still holds.
            Make::Dhclient => self.restart(),
        }
    }

    /// Has it give its lease back.
    pub fn release(&mut self) {
        match self.make {
            Make::Udhcpc => self.process.signal(Signal::USR2),
            Make::Dhcpcd => self.tell_dhcpcd("-k"),
            Make::Dhclient => {
                let mut words = dhclient(&self.files);
                words.retain(|word| word != "-d");
                let done = output(self.container.space().command("dhclient").args(words).args(["-r", "eth0"]));
                assert_eq!(done.code, 0, "{}", done.stderr);
            }
        }
    }

    /// dhcpcd finds the one that runs by files that only that one sees.
    fn tell_dhcpcd(&self, option: &str) {
        let pid = self.process.pid().to_string();
        let done = output(Command::new("nsenter").args(["-m", "-n", "-t", &pid, "dhcpcd", "-4", option, "eth0"]));
        assert_eq!(done.code, 0, "dhcpcd {option}: {}{}", done.stdout, done.stderr);
    }
}

/// Arguments that every dhclient of a container needs.
fn dhclient(files: &Path) -> Vec<String> {
    let file = |name: &str| files.join(name).display().to_string();
    let events = format!("OUT={}", file("events"));
    let named = [("-e", events), ("-cf", file("dhclient.conf")), ("-sf", file("hook"))];
    let kept = [("-lf", file("leases")), ("-pf", file("pid"))];
    let pairs = named.into_iter().chain(kept).flat_map(|(option, value)| [option.to_owned(), value]);
    ["-4", "-d"].map(str::to_owned).into_iter().chain(pairs).collect()
}

fn command(make: Make, container: &Container, files: &Path) -> Command {
    let (hook, events) = (files.join("hook").display().to_string(), files.join("events").display().to_string());
    let line = match make {
        Make::Udhcpc => format!("exec udhcpc -f -i eth0 -s {hook} -t 5 -T 2 -O mtu -O ntpsrv"),
        Make::Dhclient => format!("exec dhclient {} eth0", dhclient(files).join(" ")),
        // Its files have fixed places, over which it gets empty ones of its own.
        Make::Dhcpcd => format!(
            "mount -t tmpfs none /run && mount -t tmpfs none /var/lib/dhcpcd && exec dhcpcd -4 -B -A -f /dev/null \
             -e OUT={events} -c {hook} -o subnet_mask -o routers -o domain_name_servers -o domain_name \
             -o interface_mtu -o ntp_servers -o host_name eth0"
        ),
    };
    let mut command = container.space().command("sh");
    command.args(["-c", &line]).env("OUT", events);
    command
}
