//! What a container receives, written down and judged by tshark.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

use super::process::{installed, output};
use super::raw::RawSocket;
use super::{Container, skipped};

/// Most frames kept of one capture.
const FRAMES_MAX: usize = 200_000;

/// Received frames of a container's `eth0`, from [`start`](Capture::start) to [`stop`](Capture::stop).
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Begins; every frame that arrives after the return is in it, up to 200,000.
    pub fn start(container: &Container) -> Capture {
        let mut socket = RawSocket::open(container.space(), "eth0");
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let collect = move || {
            let mut frames = Vec::new();
            while frames.len() < FRAMES_MAX {
                match socket.receive(Duration::from_millis(50)) {
                    Some(frame) => frames.push(frame),
                    None if end.load(Ordering::Relaxed) => break,
                    None => {}
                }
            }
            frames
        };
        Capture { stop, thread: std::thread::spawn(collect) }
    }

    /// Ends; the frames in the order of their arrival.
    ///
    /// # Panics
    /// When the capturing thread did.
    pub fn stop(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Writes frames to a pcap file.
///
/// # Panics
/// When the file cannot be written.
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let file = File::create(path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
    let header = PcapHeader { datalink: DataLink::ETHERNET, snaplen: 1 << 18, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header).expect("a pcap header can be written");
    for (at, frame) in frames.iter().enumerate() {
        let stamp = Duration::from_micros(at as u64);
        let length = u32::try_from(frame.len()).expect("a frame's length fits");
        writer.write_packet(&PcapPacket::new(stamp, length, frame)).expect("a packet can be written");
    }
}

/// Lines of tshark for frames that are malformed or whose IPv4, TCP, UDP, ICMP or ICMPv6 checksum is wrong.
/// What goes from or to a port of 32768 or more, which the kernel gives, is not looked into: tshark would take random
/// bytes for some protocol at times.
/// `None`, after a line that says so, where tshark is not installed.
///
/// # Panics
/// When tshark fails or sees another number of frames.
pub fn tshark_complaints(test: &str, frames: &[Vec<u8>], directory: &Path) -> Option<Vec<String>> {
    if !installed("tshark") {
        skipped(test, "the part that needs tshark, which is not installed");
        return None;
    }
    let path = directory.join("capture.pcap");
    write_pcap(&path, frames);
    let checked = ["ip", "tcp", "udp"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
    let bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 \
               || icmp.checksum.status == 0 || icmpv6.checksum.status == 0";
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(&path);
    command.args(["-d", "tcp.port==32768-65535,data", "-d", "udp.port==32768-65535,data"]);
    checked.iter().for_each(|option| {
        command.arg("-o").arg(option);
    });
    let done = output(command.args(["-T", "fields", "-e", "frame.number", "-e", "_ws.col.Info", "-Y", bad]));
    assert!(done.code == 0, "tshark failed: {}", done.stderr);
    // A zero checksum of TCP may be written as either zero of one's complement; switchd writes, as the kernel's own
    // software does, the one that UDP must have, and tshark wants to see the other.
    let other_zero = |line: &&str| line.contains("CHECKSUM 0xFFFF");
    Some(done.stdout.lines().filter(|line| !other_zero(line)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4/UDP frame with `checksum` in its UDP header: 10.0.0.1:1 to `port` of 10.0.0.2, its payload two bytes.
    fn udp(port: u16, checksum: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 10]);
        frame.extend(checksum.to_be_bytes());
        frame.extend([0, 0]);
        frame
    }

    #[test]
    fn tshark_tells_right_from_wrong_checksums() {
        let directory = tempfile::tempdir().unwrap();
        // Pseudo header and header sum to 0x1429 + port, so 0xebd6 - port is right. 44818 is Ethernet/IP's, whose
        // messages are longer.
        let frames = [udp(2, 0xebd4), udp(2, 0xebd5), udp(44818, 0x3cc4)];
        if let Some(lines) = tshark_complaints("tshark_tells_right_from_wrong", &frames, directory.path()) {
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].starts_with('2'), "{lines:?}");
        }
    }
}
