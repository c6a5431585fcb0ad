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
    let dir = rig.dir();
    let path = |name: &str| dir.join(name).display().to_string();
    let database = path("conf.db");
    let socket = format!("unix:{}", path("db.sock"));
    cmd(["ovsdb-tool", "create", &database, SCHEMA]).run()?;

    let in_rig = |c: Cmd| {
        let c = c.in_netns(&rig.h()).env("OVS_RUNDIR", path("")).env("OVS_LOGDIR", path(""));
        c.env("OVS_DBDIR", path("")).env("OVS_SYSCONFDIR", path(""))
    };
    let server = cmd(["ovsdb-server", &database, &format!("--remote=p{socket}"), "--no-chdir"]);
    let server = in_rig(server).on_core(settings.traffic_core).spawn(&dir.join("ovsdb-server.log"))?;
    await_file(&dir.join("db.sock"), stop)?;

    let vsctl = |words: &[&str]| {
        let head = ["ovs-vsctl", "--timeout=20", &format!("--db={socket}")].map(str::to_owned);
        in_rig(cmd(head.into_iter().chain(words.iter().map(|w| (*w).to_owned())))).run()
    };
    let mask = format!("other_config:pmd-cpu-mask={:#x}", 1u128 << settings.device_core.min(127));
    vsctl(&["--no-wait", "init", "--", "set", "Open_vSwitch", ".", &mask])?;

    // Its housekeeping threads run on the traffic core; the poll-mode thread binds itself to the device core.
    let switch = in_rig(cmd(["ovs-vswitchd", &socket, "--no-chdir"])).on_core(settings.traffic_core).nice(NICE);
    let switch = switch.spawn(&dir.join("ovs-vswitchd.log"))?;
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
