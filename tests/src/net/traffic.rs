//! Traffic between containers: std sockets on threads inside their namespaces, and ping.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::process::output;
use super::{Container, slowness, stretched};

/// A wait that ends a test: nothing on one machine takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes written and read at a time.
const CHUNK: usize = 64 * 1024;

/// Sends `count` pings of `size` payload bytes, 20 ms apart; how many were answered.
pub fn ping(from: &Container, to: IpAddr, size: usize, count: usize) -> usize {
    let (size, count_text, target) = (size.to_string(), count.to_string(), to.to_string());
    // Also what every unanswered ping costs.
    let wait = slowness().min(3).to_string();
    let mut command = from.space().command("ping");
    // No fragments: a frame is as long as the test says.
    command.args(["-n", "-q", "-M", "do", "-i", "0.02", "-W", &wait, "-s", &size, "-c", &count_text, &target]);
    let text = output(&mut command).stdout;
    // "3 packets transmitted, 3 received, 0% packet loss, time 41ms"
    let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    let answered = line.split(", ").nth(1).and_then(|part| part.split(' ').next());
    answered.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Pings until there is an answer: neighbour discovery done, ports forwarding.
///
/// # Panics
/// When none comes within five seconds.
pub fn wait_reachable(from: &Container, to: IpAddr) {
    let start = Instant::now();
    while ping(from, to, 56, 1) == 0 {
        let (host_end, waited) = (from.host_end(), start.elapsed());
        assert!(waited < stretched(Duration::from_secs(5)), "no answer from {to} to the container behind {host_end}");
    }
}

/// Answers every datagram with itself until dropped.
#[derive(Debug)]
pub struct UdpEcho {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts one on an address of the container.
    ///
    /// # Panics
    /// When the address cannot be used.
    pub fn start(container: &Container, ip: IpAddr) -> UdpEcho {
        let socket = container.space().run(|| UdpSocket::bind((ip, 0))).expect("a UDP socket can be bound");
        let address = socket.local_addr().expect("a bound socket has an address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let echo = move || {
            let mut buffer = vec![0; CHUNK];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], peer);
                }
            }
        };
        UdpEcho { address, stop, thread: Some(std::thread::spawn(echo)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A UDP socket in a container that talks to one peer; receiving gives up after a second.
///
/// # Panics
/// When it cannot be made.
pub fn udp_to(from: &Container, own: IpAddr, peer: SocketAddr) -> UdpSocket {
    let made = from.space().run(|| {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect(peer)?;
        socket.set_read_timeout(Some(stretched(Duration::from_secs(1))))?;
        Ok::<_, std::io::Error>(socket)
    });
    made.unwrap_or_else(|e| panic!("no UDP socket to {peer}: {e}"))
}

/// Sends a datagram of `size` bytes to an echo and waits for it; how long it took, if it came back whole.
pub fn udp_round_trip(socket: &UdpSocket, size: usize, seed: u64) -> Option<Duration> {
    let (mut sent, mut received) = (vec![0; size], vec![0; CHUNK]);
    fill(&mut sent, seed);
    let start = Instant::now();
    socket.send(&sent).ok()?;
    loop {
        let length = socket.recv(&mut received).ok()?;
        if received[..length] == sent[..] {
            return Some(start.elapsed());
        }
        // A late answer to an earlier datagram: wait on, but not for ever.
        if start.elapsed() > stretched(Duration::from_secs(1)) {
            return None;
        }
    }
}

/// Numbered datagrams from one container to another at a steady rate, counted at the receiver.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Received>,
}

/// What arrived of a [`Stream`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams.
    pub count: u64,
    /// Datagrams whose number was not above the highest before.
    pub misordered: u64,
    /// Longest time between two datagrams.
    pub longest_gap: Duration,
}

impl Stream {
    /// Starts a stream of `rate` datagrams of 64 bytes a second; fewer where the machine is slow.
    ///
    /// # Panics
    /// When the sockets cannot be made.
    pub fn start(from: &Container, to: &Container, rate: u32) -> Stream {
        let inbox = to.space().run(|| UdpSocket::bind((to.v4(), 0))).expect("a UDP socket can be bound");
        inbox.set_read_timeout(Some(stretched(Duration::from_millis(300)))).expect("a timeout can be set");
        // A receiver that waits for a processor must not look like a switch that loses.
        setsockopt(&inbox, sockopt::RcvBufForce, &(16 << 20)).expect("root may have a large buffer");
        let outbox = udp_to(from, from.v4(), inbox.local_addr().expect("a bound socket has an address"));
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, number, rate) = (stop.clone(), sent.clone(), (rate / slowness()).max(1));
        let sender = std::thread::spawn(move || send_steadily(&outbox, rate, &end, &number));
        let end = stop.clone();
        let receiver = std::thread::spawn(move || receive_numbered(&inbox, &end));
        Stream { stop, sent, sender, receiver }
    }

    /// Stops sending and waits for what is under way: datagrams sent, and what arrived of them.
    ///
    /// # Panics
    /// When one of the threads did.
    pub fn stop(self) -> (u64, Received) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender does not panic");
        let received = self.receiver.join().expect("the receiver does not panic");
        (self.sent.load(Ordering::Relaxed), received)
    }
}

fn send_steadily(socket: &UdpSocket, rate: u32, stop: &AtomicBool, sent: &AtomicU64) {
    let (start, mut number) = (Instant::now(), 0_u64);
    let mut payload = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs(number) / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        payload[..8].copy_from_slice(&number.to_be_bytes());
        number += 1;
        if socket.send(&payload).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn receive_numbered(socket: &UdpSocket, stop: &AtomicBool) -> Received {
    let (mut received, mut next, mut last) = (Received::default(), 0, None::<Instant>);
    let mut buffer = [0; 64];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if length == buffer.len() => {
                let now = Instant::now();
                received.longest_gap = received.longest_gap.max(last.map_or(Duration::ZERO, |last| now - last));
                last = Some(now);
                let number = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| buffer[at]));
                received.misordered += u64::from(number < next);
                next = next.max(number + 1);
                received.count += 1;
            }
            Ok(_) => {}
            Err(_) if stop.load(Ordering::Relaxed) => return received,
            Err(_) => {}
        }
    }
}

/// SHA-256 of what is written to it, by coreutils' sha256sum.
struct Digest(Child);

impl Digest {
    fn start() -> Digest {
        let child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Digest(child.expect("sha256sum of coreutils can be started"))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.stdin.as_mut().expect("the pipe is open").write_all(bytes).expect("sha256sum takes its input");
    }

    fn finish(self) -> String {
        let done = self.0.wait_with_output().expect("a started child can be waited for");
        String::from_utf8_lossy(&done.stdout).split_whitespace().next().unwrap_or_default().to_owned()
    }
}

/// Sends `bytes` seeded bytes over one TCP connection; the digests of what was sent and of what arrived.
///
/// # Errors
/// What the sockets say, such as a connection that does not come about or stands still.
pub fn tcp_transfer(
    from: &Container,
    to: &Container,
    target: IpAddr,
    bytes: u64,
    seed: u64,
) -> std::io::Result<(String, String)> {
    let listener = to.space().run(|| TcpListener::bind((target, 0)))?;
    let address = listener.local_addr()?;
    let receiver = std::thread::spawn(move || {
        let (stream, _) = accept(&listener)?;
        receive_all(stream)
    });
    let stream = from.space().run(|| TcpStream::connect_timeout(&address, stretched(PATIENCE)));
    let sent = stream.and_then(|stream| send_seeded(stream, bytes, seed));
    let received = receiver.join().expect("the receiver does not panic");
    Ok((sent?, received?))
}

/// As `TcpListener::accept`, but not for ever.
fn accept(listener: &TcpListener) -> std::io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && start.elapsed() < stretched(PATIENCE) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn send_seeded(mut stream: TcpStream, bytes: u64, seed: u64) -> std::io::Result<String> {
    stream.set_write_timeout(Some(stretched(PATIENCE)))?;
    let (mut digest, mut buffer, mut left) = (Digest::start(), vec![0; CHUNK], bytes);
    while left > 0 {
        fill(&mut buffer, seed ^ left);
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&buffer[..length])?;
        digest.add(&buffer[..length]);
        left -= length as u64;
    }
    drop(stream);
    Ok(digest.finish())
}

fn receive_all(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(stretched(PATIENCE)))?;
    let (mut digest, mut buffer) = (Digest::start(), vec![0; CHUNK]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(digest.finish()),
            length => digest.add(&buffer[..length]),
        }
    }
}

/// Fills a buffer with bytes that depend on the seed only (the splitmix64 sequence).
pub fn fill(buffer: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in buffer.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        let length = chunk.len();
        chunk.copy_from_slice(&word.to_be_bytes()[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_bytes_repeat_and_differ_by_seed() {
        let bytes = |seed| {
            let mut buffer = [0; 21];
            fill(&mut buffer, seed);
            buffer
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        // First word of splitmix64 for the seed 0.
        assert_eq!(bytes(0)[..8], 0xe220_a839_7b1d_cdaf_u64.to_be_bytes());
    }

    #[test]
    fn the_digest_is_sha_256() {
        let mut digest = Digest::start();
        digest.add(b"a");
        digest.add(b"bc");
        // FIPS 180-4, example "abc".
        assert_eq!(digest.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
