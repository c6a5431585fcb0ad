//! The switch of this project, with the smallest configuration: one bridge, all host ends, one worker; or a bridge with
//! a gateway for each host end.

use super::Settings;
use crate::cmd::{Process, cmd};
use crate::error::{Error, Result};
use crate::rig::{Rig, Topology};
use crate::stop::Stop;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

const READY_LIMIT: Duration = Duration::from_secs(15);

/// What is missing, if anything.
pub fn missing(settings: &Settings) -> Option<String> {
    let path = &settings.switchd;
    (!path.is_file()).then(|| format!("no file {}: build it, or name another with --switchd", path.display()))
}

/// Its version and the beginning of the file's SHA-256, which tells builds of one version apart.
pub fn version(settings: &Settings) -> String {
    let path = settings.switchd.display().to_string();
    let version = cmd([path.as_str(), "--version"]).run().unwrap_or_default();
    let sum = cmd(["sha256sum", &path]).run().unwrap_or_default();
    format!("{}, SHA-256 {}", version.trim(), sum.get(..12).unwrap_or("unknown"))
}

/// Writes the configuration with `keys` in its `[switch]` table, starts the switch, waits for its readiness
/// notification.
///
/// # Errors
/// [`Error::Device`] when it ends or is not ready in time, [`Error::Io`], [`Error::Command`], [`Error::Interrupted`].
pub fn start(rig: &Rig, keys: &str, settings: &Settings, stop: &Stop) -> Result<Vec<Process>> {
    let dir = rig.dir();
    let config = dir.join("switchd.toml");
    let (socket, ends) = (dir.join("control.sock"), rig.host_ends());
    let text = config_text(
        &socket,
        settings.device_core,
        keys,
        rig.needs.addresses,
        &ends,
        rig.shape.topology == Topology::Routed,
    );
    std::fs::write(&config, text).map_err(|e| Error::io(format!("write {}", config.display()), e))?;

    let notify = dir.join("notify.sock");
    let what = || format!("listen on {}", notify.display());
    let ready = UnixDatagram::bind(&notify).map_err(|e| Error::io(what(), e))?;
    ready.set_read_timeout(Some(Duration::from_millis(100))).map_err(|e| Error::io(what(), e))?;

    let words = [settings.switchd.display().to_string(), "--config".to_owned(), config.display().to_string()];
    let start = cmd(words).in_netns(&rig.h()).env("NOTIFY_SOCKET", notify.display().to_string());
    let mut process = start.spawn(&dir.join("switchd.log"))?;
    await_ready(&ready, &mut process, stop)?;
    Ok(vec![process])
}

fn await_ready(socket: &UnixDatagram, process: &mut Process, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    let fail = |why: String| Err(Error::Device { device: "switchd", why });
    let mut message = [0u8; 512];
    while Instant::now() < deadline {
        stop.check()?;
        if let Some(status) = process.ended() {
            return fail(format!("ended ({status}): {}", process.log_tail()));
        }
        let len = socket.recv(&mut message).unwrap_or(0);
        if message.get(..len).is_some_and(|m| m.split(|b| *b == b'\n').any(|line| line == b"READY=1")) {
            return Ok(());
        }
    }
    fail(format!("no READY=1 on NOTIFY_SOCKET in {} s: {}", READY_LIMIT.as_secs(), process.log_tail()))
}

/// The configuration file of a trial.
fn config_text(
    control_socket: &Path,
    core: usize,
    keys: &str,
    addresses: Option<u32>,
    interfaces: &[String],
    routed: bool,
) -> String {
    let mut text =
        format!("[switch]\ncontrol_socket = {:?}\nworkers = [{core}]\n", control_socket.display().to_string());
    text.push_str(keys);
    if let Some(addresses) = addresses {
        text.push_str(&format!("fdb_entries = {addresses}\n"));
    }
    if routed {
        text.push_str(&super::router::switchd_body(interfaces));
        return text;
    }
    text.push_str("[[bridge]]\nname = \"bench\"\n");
    for interface in interfaces {
        text.push_str(&format!("[[port]]\ninterface = \"{interface}\"\nbridge = \"bench\"\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_all_ports_and_the_core() {
        let ends = ["sA", "sB", "s2"].map(str::to_owned);
        let text = config_text(Path::new("/tmp/x/control.sock"), 3, "poll = \"spin\"\n", None, &ends, false);
        assert!(text.contains("control_socket = \"/tmp/x/control.sock\"\nworkers = [3]\npoll = \"spin\"\n[[bridge]]"));
        assert_eq!(text.matches("[[port]]").count(), 3);
        assert_eq!(text.matches("bridge = \"bench\"").count(), 3);
        assert!(config_text(Path::new("x"), 3, "", Some(9), &ends, false).contains("workers = [3]\nfdb_entries = 9\n"));
    }
}
