//! TCP streams (iperf3) from A to B. Both ends on the traffic core, or the receiving one on the device's core. Main
//! thread.

use crate::cmd::{cmd, installed};
use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::netns;
use crate::rig::{A_IP, B_IP, Rig};
use crate::stop::Stop;
use serde::Serialize;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 5201;
/// Headers of IPv4 and UDP, bytes.
const IP_UDP: usize = 20 + 8;
/// Tries to get a frame of full length across, and the wait for each.
const FULL_TRIES: u32 = 10;
const FULL_PATIENCE: Duration = Duration::from_millis(200);

/// Where the two ends of the streams run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cores {
    /// Both on the traffic core
    One,
    /// The sender on the traffic core, the receiver on the device's core
    Two,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// MTU of all interfaces, bytes.
    pub mtu: u16,
    /// Streams at once.
    pub streams: u16,
    /// Where their ends run.
    pub cores: Cores,
}

impl Setup {
    /// What a report calls it: with one stream and one core only the MTU is named.
    pub fn figure(self) -> String {
        let streams = if self.streams == 1 { String::new() } else { format!(", {} streams", self.streams) };
        let cores = if self.cores == Cores::One { "" } else { ", ends on two cores" };
        format!("TCP Gbit/s, MTU {}{streams}{cores}", self.mtu)
    }
}

/// What one TCP test measured.
#[derive(Clone, Debug, Serialize)]
pub struct Tcp {
    /// Device under test.
    pub device: Kind,
    /// Under which conditions.
    #[serde(flatten)]
    pub setup: Setup,
    /// Received bits per second, all streams together.
    pub bits_per_second: f64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Jain's index of the streams' rates: 1 when all are equal, 1/n when one of n has everything.
    pub fairness: f64,
}

/// Whether iperf3 is there.
///
/// # Errors
/// [`Error::Absent`] with the cure.
pub fn available() -> Result<()> {
    let absent = || Error::Absent { device: "the TCP test", why: "install package iperf3".into() };
    if installed("iperf3") { Ok(()) } else { Err(absent()) }
}

/// Whether the device comes up with the MTU of `settings` and gets a frame of full length across, both ways. Takes as
/// long as a start of the device, and two seconds more when nothing comes.
///
/// # Errors
/// [`Error::Device`] when it does not; those of [`Rig::build`] and [`Kind::start`].
pub fn carries_full_frames(kind: Kind, settings: &Settings, stop: &Stop) -> Result<()> {
    let rig = Rig::build(kind.shape(settings))?;
    let mut running = kind.start(&rig, settings, stop)?;
    let ends = [(rig.a(), A_IP), (rig.b(), B_IP)];
    for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        if !crosses(from, to, usize::from(settings.mtu) - IP_UDP, stop)? {
            running.check()?;
            let why = format!("no packet of {} bytes got from {} to {}", settings.mtu, from.1, to.1);
            return Err(Error::Device { device: kind.name(), why });
        }
    }
    Ok(())
}

/// Whether one of some datagrams with this payload arrives.
fn crosses(from: &(String, Ipv4Addr), to: &(String, Ipv4Addr), payload: usize, stop: &Stop) -> Result<bool> {
    let open = |(netns, ip): &(String, Ipv4Addr)| {
        let ip = *ip;
        netns::run(netns, None, move || {
            let socket = UdpSocket::bind((ip, PORT)).and_then(|socket| {
                socket.set_read_timeout(Some(FULL_PATIENCE))?;
                Ok(socket)
            });
            socket.map_err(|e| Error::io(format!("UDP socket {ip}:{PORT}"), e))
        })
    };
    let (sender, receiver) = (open(from)?, open(to)?);
    let (data, mut arrived) = (vec![0x5a; payload], vec![0; payload + 1]);
    for _ in 0..FULL_TRIES {
        stop.check()?;
        // An answer to an earlier datagram may surface here; what counts is whether one arrives.
        let _ = sender.send_to(&data, (to.1, PORT));
        if receiver.recv(&mut arrived).is_ok_and(|len| arrived.get(..len) == Some(&data)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a rig, starts the device, sends for `time` (after one second that does not count).
///
/// # Errors
/// Those of [`Rig::build`] and [`Kind::start`]; [`Error::Command`] and [`Error::Parse`] of iperf3; [`Error::Device`]
/// when nothing arrived.
pub fn run(kind: Kind, setup: Setup, time: Duration, settings: &Settings, stop: &Stop) -> Result<Tcp> {
    let settings = Settings { mtu: setup.mtu, ..settings.clone() };
    let rig = Rig::build(kind.shape(&settings))?;
    let mut running = kind.start(&rig, &settings, stop)?;
    let receiving = match setup.cores {
        Cores::One => settings.traffic_core,
        Cores::Two => settings.device_core,
    };
    let on_core = |words: &[&str], netns: &str, core| cmd(words.iter().copied()).in_netns(netns).on_core(core);
    let port = PORT.to_string();
    let words = ["iperf3", "-s", "-1", "-p", &port];
    let server = on_core(&words, &rig.b(), receiving).spawn(&rig.dir().join("iperf3-server.log"))?;
    await_listener(&rig, stop)?;
    let (seconds, to, streams) = (time.as_secs().max(1).to_string(), B_IP.to_string(), setup.streams.to_string());
    let words = ["iperf3", "-c", &to, "-p", &port, "-t", &seconds, "-O", "1", "-P", &streams, "-J"];
    let client = on_core(&words, &rig.a(), settings.traffic_core).spawn(&rig.dir().join("iperf3-client.log"))?;
    let json = client.wait(time + Duration::from_secs(20), stop)?;
    drop(server);
    running.check()?;
    let Report { bits_per_second, retransmits, fairness } = parse(&json)?;
    if bits_per_second <= 0.0 {
        return Err(Error::Device { device: kind.name(), why: "not a byte arrived after the first second".into() });
    }
    Ok(Tcp { device: kind, setup, bits_per_second, retransmits, fairness })
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

/// What iperf3 says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Report {
    bits_per_second: f64,
    retransmits: u64,
    fairness: f64,
}

/// Received rate, retransmissions and fairness of an iperf3 JSON report.
fn parse(json: &str) -> Result<Report> {
    let bad = |why: String| Error::Parse { tool: "iperf3", why };
    let value: serde_json::Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let end = |sum: &str, field: &str| value.get("end").and_then(|v| v.get(sum)?.get(field).cloned());
    let rate = end("sum_received", "bits_per_second").and_then(|v| v.as_f64());
    let again = end("sum_sent", "retransmits").and_then(|v| v.as_u64());
    let fault = || value.get("error").map_or("no received rate".to_owned(), ToString::to_string);
    let streams = value.get("end").and_then(|end| end.get("streams")?.as_array());
    let received = |stream: &serde_json::Value| stream.get("receiver")?.get("bits_per_second")?.as_f64();
    let rates: Vec<f64> = streams.into_iter().flatten().filter_map(received).collect();
    let bits_per_second = rate.ok_or_else(|| bad(fault()))?;
    Ok(Report { bits_per_second, retransmits: again.unwrap_or(0), fairness: jain(&rates) })
}

/// Jain's fairness index (Jain, Chiu, Hawe 1984); 1 when there is nothing to share.
fn jain(rates: &[f64]) -> f64 {
    let (sum, squares) = rates.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (rates.len() as f64 * squares) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let json = r#"{"end":{"streams":[{"sender":{},"receiver":{"bits_per_second":0.5e9}},
            {"receiver":{"bits_per_second":1.5e9}}],
            "sum_sent":{"bits_per_second":2.1e9,"retransmits":7},"sum_received":{"bits_per_second":2.0e9}}}"#;
        assert_eq!(parse(json).unwrap(), Report { bits_per_second: 2.0e9, retransmits: 7, fairness: 0.8 });
        let text = parse(r#"{"error":"unable to connect"}"#).unwrap_err().to_string();
        assert!(text.contains("unable to connect"), "{text}");
    }

    #[test]
    fn fairness_falls_from_one_to_one_nth() {
        assert_eq!((jain(&[3.0; 16]), jain(&[9.0, 0.0, 0.0, 0.0]), jain(&[0.0; 4]), jain(&[])), (1.0, 0.25, 1.0, 1.0));
    }

    #[test]
    fn figures_name_what_differs_from_one_stream_on_one_core() {
        let figure = |streams, cores| Setup { mtu: 9000, streams, cores }.figure();
        assert_eq!(figure(1, Cores::One), "TCP Gbit/s, MTU 9000");
        assert_eq!(figure(16, Cores::Two), "TCP Gbit/s, MTU 9000, 16 streams, ends on two cores");
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
