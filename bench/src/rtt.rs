//! UDP ping-pong between A and B, both ends on the traffic core or the answering one on the device's: request, answer,
//! next request. Every round trip is timed; percentiles are of all of them. The ends are threads of this process.

use crate::device::{Kind, Settings};
use crate::error::{Error, Result};
use crate::netns;
use crate::rig::{A_IP, B_IP, Rig};
use crate::stop::Stop;
use crate::tcp::Cores;
use serde::Serialize;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PORT: u16 = 7;
/// Round trips before the first one that counts.
const WARM_UP: u64 = 1000;
/// How long these take at least: a device may adapt itself to the traffic within a second or two.
const WARM_UP_TIME: Duration = Duration::from_millis(2_500);
/// Payload: the sequence number and padding to a minimum-size frame.
const PAYLOAD: usize = 18;
/// An answer later than this is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Lost answers after which the test is given up.
const MAX_LOST: u64 = 50;

/// What one round-trip test measured.
#[derive(Clone, Debug, Serialize)]
pub struct Rtt {
    /// Device under test.
    pub device: Kind,
    /// Where the ends ran.
    pub cores: Cores,
    /// Round trips timed.
    pub count: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// Longest, microseconds.
    pub max_us: f64,
}

/// Makes a rig, starts the device, times `count` round trips.
///
/// # Errors
/// Those of [`Rig::build`] and [`Kind::start`]; [`Error::Device`] when answers do not come.
pub fn run(kind: Kind, cores: Cores, count: u64, settings: &Settings, stop: &Stop) -> Result<Rtt> {
    let rig = Rig::build(kind.shape(settings))?;
    let mut running = kind.start(&rig, settings, stop)?;
    let core = Some(settings.traffic_core);
    let over = Arc::new(AtomicBool::new(false));
    // Bound before the client starts, so that no request meets a closed port.
    let server_socket = netns::run(&rig.b(), None, || socket(B_IP, PORT))?;
    let seen = Arc::clone(&over);
    let server_core = match cores {
        Cores::One => settings.traffic_core,
        Cores::Two => settings.device_core,
    };
    let server = netns::spawn(&rig.b(), Some(server_core), move || {
        answer(&server_socket, &seen);
        Ok(())
    })?;
    let client_stop = stop.clone();
    let timed = netns::run(&rig.a(), core, move || ask(count, &client_stop));
    over.store(true, Ordering::Relaxed);
    netns::join(server)?;
    running.check()?;
    let (mut times_ns, lost) = timed?;
    if (times_ns.len() as u64) < count {
        let why = format!("{lost} of {} requests had no answer", times_ns.len() as u64 + lost);
        return Err(Error::Device { device: kind.name(), why });
    }
    times_ns.sort_unstable();
    let us = |share: f64| percentile(&times_ns, share) as f64 / 1000.0;
    let count = times_ns.len() as u64;
    let (p50_us, p99_us, p999_us, max_us) = (us(0.5), us(0.99), us(0.999), us(1.0));
    Ok(Rtt { device: kind, cores, count, lost, p50_us, p99_us, p999_us, max_us })
}

fn socket(ip: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    let what = || format!("UDP socket {ip}:{port}");
    let socket = UdpSocket::bind((ip, port)).map_err(|e| Error::io(what(), e))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(|e| Error::io(what(), e))?;
    Ok(socket)
}

/// Sends every datagram back until `over`.
fn answer(socket: &UdpSocket, over: &AtomicBool) {
    let mut data = [0u8; PAYLOAD];
    while !over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut data)
            && let Some(data) = data.get(..len)
        {
            // A failed answer is seen by the client as a lost one.
            let _ = socket.send_to(data, from);
        }
    }
}

/// Round-trip times in nanoseconds and the number of lost requests. Ends early after [`MAX_LOST`] losses.
fn ask(count: u64, stop: &Stop) -> Result<(Vec<u64>, u64)> {
    let socket = socket(A_IP, 0)?;
    let what = "round-trip client";
    socket.connect((B_IP, PORT)).map_err(|e| Error::io(what, e))?;
    let begin = Instant::now();
    let (mut times_ns, mut lost, mut sequence) = (Vec::with_capacity(count as usize), 0, 0u64);
    let (mut request, mut reply) = ([0u8; PAYLOAD], [0u8; PAYLOAD]);
    while (times_ns.len() as u64) < count && lost < MAX_LOST {
        stop.check()?;
        request[..8].copy_from_slice(&sequence.to_be_bytes());
        let start = Instant::now();
        socket.send(&request).map_err(|e| Error::io(what, e))?;
        // Late answers to requests already given up are passed over.
        let answered = loop {
            match socket.recv(&mut reply) {
                Ok(_) if reply == request => break true,
                Ok(_) if start.elapsed() < PATIENCE => {}
                _ => break false,
            }
        };
        let time = start.elapsed();
        match answered {
            true if sequence >= WARM_UP && begin.elapsed() >= WARM_UP_TIME => times_ns.push(time.as_nanos() as u64),
            true => {}
            false => lost += 1,
        }
        sequence += 1;
    }
    Ok((times_ns, lost))
}

/// The value below or at which `share` (0..=1) of a sorted series lies; 0 when it is empty.
fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let series: Vec<u64> = (1..=100).collect();
        for (share, value) in [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)] {
            assert_eq!(percentile(&series, share), value, "{share}");
        }
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
