//! Containers that carry nothing but the test's own frames, and the question "who received what?".
//!
//! Nothing tells when a switch is done with a frame, least of all with one it drops. So each send ends with a
//! *marker*: a broadcast from the same container. A switch keeps the order of one port's frames, so what a receiver
//! has before the marker is all it will get.

use std::time::{Duration, Instant};

use super::raw::RawSocket;
use super::{Container, Lab, Link, stretched};

/// Ethertype of markers: the second one for local experiments (IEEE 802).
const MARKER_TYPE: u16 = 0x88b6;

/// Payload of a marker: enough for the smallest frame.
const MARKER_PAYLOAD: usize = 46;

/// How long a marker may take.
const MARKER_LIMIT: Duration = Duration::from_secs(5);

/// How long a container that shall get no marker is watched.
const SILENCE: Duration = Duration::from_millis(30);

/// The ethertype of ordinary test frames: the first one for local experiments (IEEE 802).
pub const TEST_TYPE: u16 = 0x88b5;

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Addresses that tests use for senders and receivers, beside those of the containers.
pub const fn station(number: u8) -> [u8; 6] {
    [0x02, 0x5e, 0, 0, 0, number]
}

/// A frame without a tag.
pub fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

/// The same frame with an 802.1Q tag: priority, drop eligible bit and VLAN id as in the tag's 16 bits.
pub fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0x00], &control.to_be_bytes(), rest].concat()
}

/// Containers with one packet socket each, known by their index.
#[derive(Debug)]
pub struct Stations {
    containers: Vec<Container>,
    sockets: Vec<RawSocket>,
    markers: u64,
}

impl Stations {
    /// Makes one container per host end.
    pub fn new(lab: &mut Lab, host_ends: &[&str], link: &Link) -> Stations {
        let link = Link { quiet: true, ..link.clone() };
        Stations::of(host_ends.iter().map(|end| lab.container(end, &link)).collect())
    }

    /// Uses containers that exist; their links should be quiet.
    pub fn of(containers: Vec<Container>) -> Stations {
        let sockets = containers.iter().map(|container| RawSocket::open(container.space(), "eth0")).collect();
        Stations { containers, sockets, markers: 0 }
    }

    /// One of the containers.
    pub fn container(&self, index: usize) -> &Container {
        &self.containers[index]
    }

    /// Makes a container's link again, after it was deleted.
    pub fn plug_again(&mut self, lab: &Lab, index: usize, link: &Link) {
        self.containers[index].plug(lab, &Link { quiet: true, ..link.clone() });
        self.sockets[index] = RawSocket::open(self.containers[index].space(), "eth0");
    }

    /// Forgets what has arrived so far everywhere.
    pub fn forget(&mut self) {
        self.sockets.iter_mut().for_each(|socket| drop(socket.drain(stretched(SILENCE))));
    }

    /// Sends frames from one container, untagged marker last; what each container received, in order.
    ///
    /// # Panics
    /// When the marker does not reach every other container.
    pub fn send(&mut self, from: usize, frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
        let others: Vec<usize> = (0..self.sockets.len()).filter(|index| *index != from).collect();
        self.send_among(from, frames, None, &others)
    }

    /// Sends frames from one container, then a marker with the tag `marker_tag`, which reaches `receivers`. What each
    /// container received; those that get no marker are watched for a moment, for frames that should not be there.
    ///
    /// # Panics
    /// When the marker does not reach one of `receivers`.
    pub fn send_among(
        &mut self,
        from: usize,
        frames: &[Vec<u8>],
        marker_tag: Option<u16>,
        receivers: &[usize],
    ) -> Vec<Vec<Vec<u8>>> {
        let marker = self.marker(from, marker_tag);
        frames.iter().for_each(|frame| self.sockets[from].send(frame));
        self.sockets[from].send(&marker);
        let mut received: Vec<Vec<Vec<u8>>> = vec![Vec::new(); self.sockets.len()];
        for index in receivers {
            let all = self.until_marker(*index, &marker[marker.len() - MARKER_PAYLOAD..]);
            let end = self.containers[*index].host_end();
            received[*index] = all.unwrap_or_else(|got| {
                panic!("the marker from {from} did not reach {index} ({end}); {} other frames did", got.len())
            });
        }
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            if !receivers.contains(&index) {
                received[index] = socket.drain(stretched(SILENCE));
            }
        }
        received
    }

    /// Sends markers until one gets through to every other container: all ports forward.
    ///
    /// # Panics
    /// When none does within five seconds.
    pub fn wait_forwarding(&mut self, from: usize, receivers: &[usize], marker_tag: Option<u16>) {
        let start = Instant::now();
        let mut missing = receivers.to_vec();
        while !missing.is_empty() {
            assert!(start.elapsed() < stretched(MARKER_LIMIT), "nothing gets from {from} to {missing:?}");
            let marker = self.marker(from, marker_tag);
            let _ = self.sockets[from].try_send(&marker);
            let payload = &marker[marker.len() - MARKER_PAYLOAD..];
            missing = receivers
                .iter()
                .copied()
                .filter(|index| {
                    let mut frames = std::iter::from_fn(|| self.sockets[*index].receive(SILENCE));
                    !frames.any(|frame| frame.ends_with(payload))
                })
                .collect();
        }
        self.forget();
    }

    fn marker(&mut self, from: usize, tag: Option<u16>) -> Vec<u8> {
        self.markers += 1;
        let mut payload = [0xa5; MARKER_PAYLOAD];
        payload[MARKER_PAYLOAD - 8..].copy_from_slice(&self.markers.to_be_bytes());
        let source = [0x02, 0xff, 0xff, 0xff, 0xff, from as u8];
        let plain = frame(BROADCAST, source, MARKER_TYPE, &payload);
        tag.map_or(plain.clone(), |tag| tagged(&plain, tag))
    }

    /// Frames before the marker, or all frames where the marker did not come.
    fn until_marker(&mut self, index: usize, payload: &[u8]) -> Result<Vec<Vec<u8>>, Vec<Vec<u8>>> {
        let (start, mut frames) = (Instant::now(), Vec::new());
        while let Some(frame) = self.sockets[index].receive(stretched(MARKER_LIMIT).saturating_sub(start.elapsed())) {
            if frame.ends_with(payload) {
                return Ok(frames);
            }
            frames.push(frame);
        }
        Err(frames)
    }
}
