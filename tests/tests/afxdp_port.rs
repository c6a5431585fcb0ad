//! The AF_XDP port carrying frames over real veths, without the switch around it.
//!
//! Every test makes network namespaces of its own (`swt-<pid>-<number>-<name>`), removes them at the end, also when it
//! fails, and runs on a thread that moved into the one that stands for the host. They need root; without it each
//! says SKIPPED and passes.

mod veth;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use switch::port::{Frame, FramePool, Frames, Port, SharedPool};
use tests::net::Lab;
use veth::*;

/// Two ports joined by a wire: everything received on one is sent on the other.
struct Wire {
    ports: [Box<dyn Port>; 2],
    pool: FramePool,
    carried: usize,
    longest: usize,
    refused: usize,
}

impl Wire {
    fn new(ports: [Box<dyn Port>; 2], shared: &Arc<SharedPool>) -> Wire {
        Wire { ports, pool: FramePool::new(Arc::clone(shared)), carried: 0, longest: 0, refused: 0 }
    }

    fn turn(&mut self) {
        for side in 0..2 {
            let mut frames = Frames::new();
            self.ports[side].rx(&mut self.pool, &mut frames);
            self.carried += frames.len();
            self.longest = frames.iter().map(Frame::len).fold(self.longest, usize::max);
            self.ports[1 - side].tx(&mut self.pool, &mut frames);
            assert!(frames.is_empty(), "the transmit ring is full");
        }
        for port in &mut self.ports {
            self.refused += port.service(&mut self.pool).unwrap().refused as usize;
        }
    }

    /// Runs until `done` says so.
    fn run_until(&mut self, done: &AtomicBool) {
        while !done.load(Ordering::Acquire) {
            self.turn();
        }
    }

    /// Closes both ports and gives every frame back.
    fn close(self, shared: &Arc<SharedPool>) {
        let Wire { ports, mut pool, .. } = self;
        for port in ports {
            let held = port.held();
            let frames = port.close();
            assert_eq!(frames.len(), held);
            shared.reclaim(frames);
        }
        pool.give_all();
    }
}

/// What a ping from `a` to `b` did.
struct Pinged {
    all_answered: bool,
    text: String,
    /// Frames carried both ways, and the longest of them.
    carried: usize,
    longest: usize,
}

fn ping_through(mtu: u32, arguments: &[&str]) -> Option<Pinged> {
    let net = Net::new(&["a", "b"], mtu)?;
    let (factory_and_ports, shared) = net.inside("sw", || {
        let (mut factory, shared) = factory();
        let ports = ["a0", "b0"].map(|name| one(open(&mut factory, name)));
        ((factory, ports), shared)
    });
    let (_factory, [(a, a_attached), (b, b_attached)]) = factory_and_ports;
    let mut wire = Wire::new([a, b], &shared);
    let done = AtomicBool::new(false);
    let (ok, text) = std::thread::scope(|scope| {
        let ping = scope.spawn(|| {
            let result = net.run("a", &[&["ping", "-n", "-q", "-W", "2"], arguments, &["10.9.0.2"]].concat());
            done.store(true, Ordering::Release);
            result
        });
        wire.run_until(&done);
        ping.join().unwrap()
    });
    let all_answered = ok && text.contains(" 0% packet loss");
    let pinged = Pinged { all_answered, text, carried: wire.carried, longest: wire.longest };
    assert_eq!(wire.refused, 0);
    net.inside("sw", || drop((a_attached, b_attached)));
    wire.close(&shared);
    assert_eq!(free_frames(&shared), FRAMES as usize);
    Some(pinged)
}

#[test]
fn ping_crosses_two_ports() {
    let Some(pinged) = ping_through(1500, &["-c", "20", "-i", "0.01"]) else { return };
    assert!(pinged.all_answered, "{}", pinged.text);
    assert!(pinged.carried >= 40 && pinged.longest < 200, "{} frames", pinged.carried);
}

#[test]
fn the_longest_frames_cross_whole() {
    let Some(lab) = Lab::new("the_longest_frames_cross_whole") else { return };
    // With a kernel that carries packets of several chunks, three of them; otherwise one chunk.
    let mtu = lab.mtu(9000);
    let payload = (mtu - 28).to_string();
    let Some(pinged) = ping_through(mtu, &["-c", "20", "-i", "0.01", "-s", &payload]) else { return };
    assert!(pinged.all_answered, "{}", pinged.text);
    assert_eq!(pinged.longest, mtu as usize + 14);
}

#[test]
fn a_burst_of_pings_is_carried_whole() {
    let Some(pinged) = ping_through(1500, &["-c", "1000", "-l", "500", "-i", "0.001"]) else { return };
    // Not asked: that ping takes every answer from its socket before that overflows.
    assert!(pinged.carried >= 2000, "{} frames: {}", pinged.carried, pinged.text);
}

#[test]
fn a_thousand_frames_arrive_in_order() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send_numbered(&net, "a", 1000));
            let mut next = 0u32;
            wait_for("1000 frames", || {
                let mut frames = Frames::new();
                port.rx(&mut pool, &mut frames);
                port.service(&mut pool).unwrap();
                for frame in frames.drain(..) {
                    let bytes = pool.region().head(&frame);
                    if bytes.len() == 46 && bytes[12..14] == [8, 0] {
                        assert_eq!(bytes[42..46], next.to_be_bytes());
                        next += 1;
                    }
                    pool.free(frame);
                }
                next == 1000
            });
            sender.join().unwrap();
        });
        assert_eq!(port.kernel_counters().rx_dropped, 0);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn a_thousand_frames_are_sent_and_come_back() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let before = net.inside("a", received);
        let mut completed = 0;
        let mut waiting = Frames::new();
        for _ in 0..1000 {
            waiting.push(broadcast_frame(&mut pool, 60));
            port.tx(&mut pool, &mut waiting);
            assert!(waiting.is_empty());
            completed += port.service(&mut pool).unwrap().completed;
        }
        wait_for("completions", || {
            completed += port.service(&mut pool).unwrap().completed;
            completed == 1000
        });
        wait_for("arrival", || net.inside("a", received) - before >= 1000);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn frames_that_the_kernel_would_not_complete_are_refused_here() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let mut frames = Frames::new();
        frames.push(pool.alloc().unwrap());
        frames.push(broadcast_frame(&mut pool, 13 + 1));
        let twice = broadcast_frame(&mut pool, 60);
        frames.push(pool.region().share(&twice));
        frames.push(twice);
        let mut short_tail = broadcast_frame(&mut pool, 60);
        let empty = pool.alloc().unwrap();
        pool.region().append(&mut short_tail, empty).unwrap();
        frames.push(short_tail);
        port.tx(&mut pool, &mut frames);
        assert!(frames.is_empty());
        let mut refused = 0;
        wait_for("two sent, three refused", || {
            refused += port.service(&mut pool).unwrap().refused;
            refused >= 3 && port.held() == FILL as usize
        });
        assert_eq!((refused, port.kernel_counters().tx_invalid), (3, 0));
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn a_link_that_is_down_refuses_and_recovers() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let send = |port: &mut Box<dyn Port>, pool: &mut FramePool| {
            let mut frames = Frames::new();
            frames.push(broadcast_frame(pool, 60));
            port.tx(pool, &mut frames);
            assert!(frames.is_empty());
            port.service(pool).unwrap()
        };
        ip(&["-n", &net.name("sw"), "link", "set", "a0", "down"]);
        let mut refused = 0;
        for _ in 0..100 {
            let done = send(&mut port, &mut pool);
            assert_eq!(done.unsent, 0);
            refused += done.refused;
        }
        assert_eq!(refused, 99, "all but the one that found out");
        assert_eq!(port.held(), FILL as usize + 1);
        ip(&["-n", &net.name("sw"), "link", "set", "a0", "up"]);
        let before = net.inside("a", received);
        send(&mut port, &mut pool);
        wait_for("both frames", || {
            port.service(&mut pool).unwrap();
            port.held() == FILL as usize
        });
        wait_for("arrival", || net.inside("a", received) - before >= 2);
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

/// Takes one burst off a port and forgets it; how many frames it was.
fn take(port: &mut Box<dyn Port>, pool: &mut FramePool) -> u32 {
    let mut frames = Frames::new();
    port.rx(pool, &mut frames);
    let count = frames.len() as u32;
    frames.drain(..).for_each(|frame| pool.free(frame));
    count
}

/// Sends more than any ring here holds into a port that is not serviced meanwhile; how many frames found a place.
fn depth(net: &Net, port: &mut Box<dyn Port>, pool: &mut FramePool, expected: u32) -> u32 {
    send_numbered(net, "a", 1700);
    let mut got = 0;
    wait_for("the ring is used up", || {
        got += take(port, pool);
        got >= expected
    });
    // The kernel may still be at work on the rest, which must find no place.
    std::thread::sleep(std::time::Duration::from_millis(50));
    got += std::iter::repeat_with(|| take(port, pool)).take_while(|count| *count > 0).sum::<u32>();
    port.service(pool).unwrap();
    got
}

#[test]
fn a_fill_ring_follows_its_target() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        assert_eq!(depth(&net, &mut port, &mut pool, FILL), FILL);
        port.set_fill_target(1536);
        port.service(&mut pool).unwrap();
        assert_eq!(depth(&net, &mut port, &mut pool, 1536), 1536, "a larger ring at once");
        port.set_fill_target(128);
        port.service(&mut pool).unwrap();
        assert_eq!(depth(&net, &mut port, &mut pool, 1536), 1536, "what is in the ring stays there");
        assert_eq!(depth(&net, &mut port, &mut pool, 128), 128, "but is not replaced");
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn a_ring_that_bursts_bring_low_stays_deep() {
    let Some(net) = Net::new(&["a"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        let (mut port, attached) = one(open(&mut factory, "a0"));
        let mut pool = FramePool::new(Arc::clone(&shared));
        port.set_fill_target(2048);
        port.service(&mut pool).unwrap();
        // More frames in all than a calm stream needs to make the ring shallow, but never a calm one.
        for round in 0..180 {
            send_numbered(&net, "a", 1600);
            let mut got = 0;
            // As a worker does it: a burst, then the fill ring topped up.
            wait_for(&format!("1600 frames in round {round}"), || {
                got += take(&mut port, &mut pool);
                port.service(&mut pool).unwrap();
                got >= 1600
            });
        }
        drop(attached);
        shared.reclaim(port.close());
        drop(pool);
        assert_eq!(free_frames(&shared), FRAMES as usize);
    });
}

#[test]
fn ports_close_side_by_side_while_another_opens() {
    let Some(net) = Net::new(&["a", "b", "c", "d"], 1500) else { return };
    net.inside("sw", || {
        let (mut factory, shared) = factory();
        // Each round attaches again what the one before gave up: a socket that lingered would refuse it.
        for _ in 0..3 {
            let closing = ["a0", "b0", "c0"].map(|name| one(open(&mut factory, name)));
            let close = |(port, attached): (Box<dyn Port>, _)| {
                drop(attached);
                let held = port.held();
                let frames = port.close();
                assert_eq!((frames.len(), held), (FILL as usize, FILL as usize));
                shared.reclaim(frames);
            };
            std::thread::scope(|scope| {
                for port in closing {
                    scope.spawn(|| close(port));
                }
                close(one(open(&mut factory, "d0")));
            });
            assert_eq!(free_frames(&shared), FRAMES as usize);
        }
    });
}
