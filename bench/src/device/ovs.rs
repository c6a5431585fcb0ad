//! Open vSwitch: user-space datapath, all ports of type afxdp in native mode, one poll-mode thread on the device core,
//! NORMAL (learning) forwarding. Its sockets and database live in the rig's directory.

use super::{NICE, Settings};
use crate::cmd::{Cmd, Process, cmd, installed};
use crate::error::{Error, Result};
use crate::rig::Rig;
use crate::stop::Stop;
use std::path::Path;
use std::time::{Duration, Instant};

/// Most addresses it can be told to keep (ovs-vswitchd.conf.db(5), mac-table-size).
const TABLE_MAX: u32 = 1_000_000;
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Longest wait for one of its tools; dozens of ports need a while.
const TIMEOUT: &str = "--timeout=60";

/// What is missing on this machine, if anything.
pub fn missing() -> Option<String> {
    let programs = ["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"];
    let absent = programs.iter().any(|p| !installed(p)) || !Path::new(SCHEMA).exists();
    absent.then(|| "install package openvswitch-switch".to_owned())
}

/// Starts database and switch and adds the ports. The switch comes first in the list, so that it ends first.
///
/// # Errors
/// [`Error::Device`] when a port is refused or the build has no afxdp, [`Error::Command`], [`Error::Interrupted`].
pub fn start(rig: &Rig, settings: &Settings, stop: &Stop) -> Result<Vec<Process>> {
    let (h, dir) = (rig.h(), rig.dir());
    let path = |name: &str| dir.join(name).display().to_string();
    let database = path("conf.db");
    cmd(["ovsdb-tool", "create", &database, SCHEMA]).run()?;

    let server = cmd(["ovsdb-server", &database, &format!("--remote=p{}", database_socket(dir)), "--no-chdir"]);
    let server = in_place(&h, dir, server).on_core(settings.traffic_core).spawn(&dir.join("ovsdb-server.log"))?;
    await_file(&dir.join("db.sock"), stop)?;

    let vsctl = |words: &[&str]| vsctl(&h, dir, words.iter().copied()).run();
    let mask = format!("other_config:pmd-cpu-mask={:#x}", 1u128 << settings.device_core.min(127));
    vsctl(&["--no-wait", "init", "--", "set", "Open_vSwitch", ".", &mask])?;

    // Its housekeeping threads run on the traffic core; the poll-mode thread binds itself to the device core.
    let switch = in_place(&h, dir, cmd(["ovs-vswitchd", &database_socket(dir), "--no-chdir"]));
    let switch = switch.on_core(settings.traffic_core).nice(NICE).spawn(&dir.join("ovs-vswitchd.log"))?;
    let mut processes = vec![switch, server];

    let ports = rig.host_ends();
    let table = rig.needs.addresses.map(|n| format!("other_config:mac-table-size={}", n.clamp(10, TABLE_MAX)));
    let mut words = vec!["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", "fail-mode=standalone"];
    words.extend(table.as_deref());
    for port in &ports {
        words.extend(["--", "add-port", "br0", port, "--", "set", "interface", port, "type=afxdp"]);
        words.push("options:xdp-mode=native");
    }
    vsctl(&words).map_err(|e| device_error(&format!("{e}; {}", processes[0].log_tail())))?;
    for port in &ports {
        let fault = vsctl(&["get", "interface", port, "error"])?;
        if fault.trim() != "[]" {
            return Err(device_error(&format!("port {port}: {}", fault.trim())));
        }
    }
    if let Some(status) = processes[0].ended() {
        return Err(device_error(&format!("ended ({status}): {}", processes[0].log_tail())));
    }
    Ok(processes)
}

/// `ovs-vsctl` for the switch that runs in namespace `h` with its files in `dir`.
pub fn vsctl<'w>(h: &str, dir: &Path, words: impl IntoIterator<Item = &'w str>) -> Cmd {
    let head = ["ovs-vsctl".to_owned(), TIMEOUT.to_owned(), format!("--db={}", database_socket(dir))];
    in_place(h, dir, cmd(head.into_iter().chain(words.into_iter().map(str::to_owned))))
}

/// `ovs-appctl` for that switch.
///
/// # Errors
/// [`Error::Device`] when its socket is not there.
pub fn appctl(h: &str, dir: &Path, words: &[&str]) -> Result<Cmd> {
    let of_switch = |name: &str| name.starts_with("ovs-vswitchd.") && name.ends_with(".ctl");
    let mut files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let socket = files.find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(of_switch));
    let socket = socket.ok_or_else(|| device_error("ovs-vswitchd has no control socket"))?.display().to_string();
    Ok(in_place(h, dir, cmd(["ovs-appctl", TIMEOUT, "-t", &socket].into_iter().chain(words.iter().copied()))))
}

fn in_place(h: &str, dir: &Path, c: Cmd) -> Cmd {
    let path = dir.display().to_string();
    ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"].iter().fold(c.in_netns(h), |c, name| c.env(name, &path))
}

fn database_socket(dir: &Path) -> String {
    format!("unix:{}", dir.join("db.sock").display())
}

fn device_error(why: &str) -> Error {
    Error::Device { device: "ovs", why: why.to_owned() }
}

fn await_file(path: &Path, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(device_error(&format!("{} did not appear", path.display())));
        }
        stop.sleep(Duration::from_millis(10))?;
    }
    Ok(())
}
