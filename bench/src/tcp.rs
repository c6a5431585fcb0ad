//! One TCP stream (iperf3) from A to B, both ends on the traffic core. Main thread.

use crate::cmd::{cmd, installed};
use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::netns;
use crate::rig::{B_IP, Rig};
use crate::stop::Stop;
use serde::Serialize;
use std::time::{Duration, Instant};

const PORT: u16 = 5201;

/// What one TCP test measured.
#[derive(Clone, Debug, Serialize)]
pub struct Tcp {
    /// Device under test.
    pub device: Kind,
    /// MTU of all interfaces, bytes.
    pub mtu: u16,
    /// Received bits per second.
    pub bits_per_second: f64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// Whether iperf3 is there.
///
/// # Errors
/// [`Error::Absent`] with the cure.
pub fn available() -> Result<()> {
    let absent = || Error::Absent { device: "the TCP test", why: "install package iperf3".into() };
    if installed("iperf3") { Ok(()) } else { Err(absent()) }
}

/// Makes a rig, starts the device, sends for `time` (after one second that does not count).
///
/// # Errors
/// Those of [`Rig::build`] and [`Kind::start`]; [`Error::Command`] and [`Error::Parse`] of iperf3.
pub fn run(kind: Kind, time: Duration, settings: &Settings, stop: &Stop) -> Result<Tcp> {
    let rig = Rig::build(kind.shape(settings))?;
    let mut running = kind.start(&rig, settings, stop)?;
    let on_core =
        |words: &[&str], netns: &str| cmd(words.iter().copied()).in_netns(netns).on_core(settings.traffic_core);
    let port = PORT.to_string();
    let server = on_core(&["iperf3", "-s", "-1", "-p", &port], &rig.b()).spawn(&rig.dir().join("iperf3-server.log"))?;
    await_listener(&rig, stop)?;
    let (seconds, to) = (time.as_secs().max(1).to_string(), B_IP.to_string());
    let words = ["iperf3", "-c", &to, "-p", &port, "-t", &seconds, "-O", "1", "-J"];
    let client = on_core(&words, &rig.a()).spawn(&rig.dir().join("iperf3-client.log"))?;
    let json = client.wait(time + Duration::from_secs(20), stop)?;
    drop(server);
    running.check()?;
    let (bits_per_second, retransmits) = parse(&json)?;
    Ok(Tcp { device: kind, mtu: settings.mtu, bits_per_second, retransmits })
}

fn await_listener(rig: &Rig, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let listening = netns::run(&rig.b(), None, || {
            let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
            Ok(tables.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| listens(&text, PORT))))
        })?;
        if listening {
            return Ok(());
        }
        stop.sleep(Duration::from_millis(20))?;
    }
    Err(Error::Command { command: "iperf3 -s".into(), why: format!("does not listen on port {PORT}") })
}

/// Whether a table in the format of /proc/net/tcp has a socket in state LISTEN (0A) on `port`.
fn listens(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some("0A")
    })
}

/// Received rate and retransmissions of an iperf3 JSON report.
fn parse(json: &str) -> Result<(f64, u64)> {
    let bad = |why: String| Error::Parse { tool: "iperf3", why };
    let value: serde_json::Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let end = |sum: &str, field: &str| value.get("end").and_then(|v| v.get(sum)?.get(field).cloned());
    let rate = end("sum_received", "bits_per_second").and_then(|v| v.as_f64());
    let again = end("sum_sent", "retransmits").and_then(|v| v.as_u64());
    let fault = || value.get("error").map_or("no received rate".to_owned(), ToString::to_string);
    Ok((rate.ok_or_else(|| bad(fault()))?, again.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let json = r#"{"end":{"sum_sent":{"bits_per_second":2.1e9,"retransmits":7},"sum_received":{"bits_per_second":2.0e9}}}"#;
        assert_eq!(parse(json).unwrap(), (2.0e9, 7));
        let text = parse(r#"{"error":"unable to connect"}"#).unwrap_err().to_string();
        assert!(text.contains("unable to connect"), "{text}");
    }

    #[test]
    fn only_a_listening_socket_counts() {
        let head = "  sl  local_address rem_address   st\n";
        let line = |port: &str, state: &str| format!("{head}   0: 00000000:{port} 00000000:0000 {state} 0:0\n");
        assert!(listens(&line("1451", "0A"), 5201));
        assert!(!listens(&line("1451", "01"), 5201));
        assert!(!listens(&line("1452", "0A"), 5201));
    }
}
