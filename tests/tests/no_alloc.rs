//! The packet path allocates nothing in steady state: an allocator that counts says so.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use switch::ids::Mac;
use tests::frames::{Checksum, Net, Packet, Transport, host, sized, tagged};
use tests::lab::{Lab, access, setup};

/// The system's allocator, counting the calls of threads that asked for it.
struct Counting;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    // No thread-local storage any more: the thread ends, nothing is measured.
    let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|calls| calls + 1)));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches a
// thread-local cell only, which needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocator calls that this thread makes in `work`.
fn calls(work: impl FnOnce()) -> u64 {
    COUNTED.set(Some(0));
    work();
    COUNTED.take().unwrap_or_default()
}

/// Sends `packets` frames round robin into port 0, one turn of the worker for each four, recycling what leaves.
/// Returns the allocator calls of the worker's turns alone.
fn run(lab: &mut Lab, frames: &[Vec<u8>], packets: usize) -> u64 {
    let mut total = 0;
    for at in 0..packets {
        lab.offer(0, &frames[at % frames.len()]);
        if at % 4 == 3 {
            total += calls(|| {
                lab.poll();
            });
            lab.recycle();
        }
        // The clock moves, so that stamps are refreshed.
        lab.now_ns += 1_000_000;
    }
    total
}

#[test]
fn the_allocator_is_counted() {
    assert_eq!(calls(|| drop(std::hint::black_box(vec![1u8; 100]))), 2);
}

#[test]
fn a_hundred_thousand_packets_allocate_nothing() {
    let ports = [access(0), access(1), setup(2, None, &[(10, 1)]), setup(3, Some(1), &[]), setup(4, None, &[(30, 1)])];
    let mut lab = Lab::new(&ports);
    for index in 0..ports.len() {
        lab.change(index, |port| port.mtu = 9000);
    }
    let (a, on_access, on_trunk, unknown) = (host(1), host(2), host(3), host(4));
    lab.send(1, &sized(Mac::BROADCAST, on_access, 60));
    lab.send(2, &tagged(&sized(Mac::BROADCAST, on_trunk, 60), 10));
    let partial = |net, len| {
        let packet = Packet::new(on_access, a, net, Transport::Tcp, vec![7; len]);
        Packet { checksum: Checksum::Partial, ..packet }.build()
    };
    let frames = [
        sized(on_access, a, 60),
        sized(on_trunk, a, 1514),
        sized(unknown, a, 60),
        sized(Mac::BROADCAST, a, 60),
        partial(Net::V4, 1400),
        partial(Net::V6, 8800),
        sized(on_trunk, a, 3840),
        sized(Mac::BROADCAST, a, 9014),
        sized(Mac::BROADCAST, Mac::BROADCAST, 60),
    ];
    run(&mut lab, &frames, 20_000);
    let (before, refreshed) = (lab.stats(2).tx_packets.get(), lab.port_of(a));
    assert_eq!(run(&mut lab, &frames, 100_000), 0);
    assert!(lab.stats(2).tx_packets.get() - before > 50_000 && refreshed == Some(0));
    assert!(lab.all_drops(2).is_empty(), "{:?}", lab.all_drops(2));
    lab.assert_no_frame_lost();
}
