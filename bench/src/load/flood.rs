//! The *flood* load: live XDP frames. `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` runs a small program over
//! frames from the kernel's own page pool, and the program stamps them and redirects them into the veth, so no skb is
//! made on the way (Documentation/bpf/bpf_prog_run.rst). The far end must run XDP, or the kernel drops the frames.

use super::address::{self, Choice};
use super::frame::{self, CHECKSUM_AT, SECOND_NS, SECONDS_AT, SEQUENCE_AT, STAMP_END, SUBSECONDS_AT};
use super::{Job, Load, Macs, Sent, Watch, fault};
use crate::bpf::asm::{Alu, Asm, Helper, Insn, Reg, When, Width};
use crate::bpf::{Kind, Map, Program};
use crate::error::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Frames of the first system call, from which the rate is estimated.
const FIRST_RUN: u64 = 1 << 16;
/// Length of the later calls. Each one makes the kernel wait for two RCU grace periods (it patches its XDP dispatcher,
/// net/bpf/test_run.c), some ten milliseconds in which nothing is sent: short calls would halve the load.
const RUN_TIME: Duration = Duration::from_secs(1);
/// Frames the kernel runs between two flushes of the redirect queue. Within a batch the receiving side, which shares
/// the generator's core, does not run.
pub const BATCH: u32 = 64;
/// Longest batch of a paced load, for the sake of latency.
const BATCH_TIME: Duration = Duration::from_micros(10);
/// Fields of `struct xdp_md` (linux/bpf.h).
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;

/// Longest call of a paced load: the pause between two is too short to matter, and a stop is not seen within one.
const PACED_RUN_TIME: Duration = Duration::from_secs(4);
/// Frames that share one look at the clock, at most: the kernel hands frames on in bundles of 16 (`DEV_MAP_BULK_SIZE`).
const GROUP: u32 = 16;
/// Lowest rate of a paced load: the program waits for the moment of each frame, and may not wait long.
pub const RATE_MIN: f64 = 50_000.0;
/// Looks at the clock before a frame is sent at the latest; at [`RATE_MIN`] fewer than half of them are needed.
const LOOKS_MAX: i32 = 4096;
/// A frame later than this is not caught up with, nanoseconds: the pause between two calls must not become a burst.
const LATE_NS: i32 = 200_000;
/// Fraction bits of times in the schedule.
const FRACTION_BITS: i32 = 8;

/// Words of the program's state.
mod state {
    /// Number of the next frame.
    pub const SEQUENCE: usize = 0;
    /// When the first and the last group of frames were begun, nanoseconds.
    pub const FIRST: usize = 1;
    pub const LAST: usize = 2;
    /// When the next one is due, with fraction bits.
    pub const DUE: usize = 3;
    /// Time between two groups, with fraction bits; 0 when there is no schedule.
    pub const INTERVAL: usize = 4;
    /// The time of the last group as it stands in its frames.
    pub const SECONDS: usize = 5;
    pub const SUBSECONDS: usize = 6;
    pub const WORDS: usize = 7;
}

/// Runs the load on the calling thread, which must be in the job's namespace.
///
/// # Errors
/// [`crate::error::Error::Generator`] when the kernel refuses the program or the run, or the rate is too low.
pub fn send(job: &Job) -> Result<Sent> {
    let bad = |what: &'static str| move |e: std::io::Error| fault(Load::Flood, format!("{what}: {e}"));
    if let Some(rate) = job.rate_pps.filter(|rate| *rate < RATE_MIN) {
        let why = format!("{rate:.0} frames per second are too few, give {RATE_MIN} or more, or use socket load");
        return Err(fault(Load::Flood, why));
    }
    let model = job.frames.first().ok_or_else(|| fault(Load::Flood, "no frame to send"))?;
    let shared = Map::shared(c"swbench_flood", state::WORDS).map_err(bad("make the program's state"))?;
    let mut start = [0u64; state::WORDS];
    let group = group(job.rate_pps);
    start[state::INTERVAL] = job.rate_pps.map_or(0, |rate| interval(rate / f64::from(group)));
    shared.write(&start).map_err(bad("set the schedule"))?;
    let code = instructions(job.index, shared.fd(), frame::checksum_base(model), group, job.macs);
    let program = Program::load(Kind::Xdp, c"swbench_flood", &code).map_err(bad("load the XDP program"))?;
    let (mut frames, watch) = (0u64, Watch::start());
    let mut next = job.rate_pps.map_or(FIRST_RUN, |rate| paced_run(rate, job.time, 0)).min(job.left(0));
    while !job.stop.raised() && next > 0 {
        let begun = watch.elapsed();
        program.run_live(model, next as i32, batch(job.rate_pps)).map_err(bad("run live frames"))?;
        frames += next;
        job.sent.store(frames, Ordering::Relaxed);
        let now = watch.elapsed();
        next = match job.rate_pps {
            Some(rate) => paced_run(rate, job.time, frames),
            None => next_run(next, now - begun, job.time.saturating_sub(now)),
        };
        next = next.min(job.left(frames));
    }
    let end = shared.read().map_err(bad("read the program's state"))?;
    let time_ns =
        end.get(state::LAST).zip(end.get(state::FIRST)).map_or(0, |(last, first)| last.saturating_sub(*first));
    Ok(Sent { time: Duration::from_nanos(time_ns), ..watch.sent(frames) })
}

/// Frames of a batch.
fn batch(rate_pps: Option<f64>) -> u32 {
    rate_pps.map_or(BATCH, |rate| ((rate * BATCH_TIME.as_secs_f64()) as u32).clamp(1, BATCH))
}

/// Frames of a group, a power of two.
fn group(rate_pps: Option<f64>) -> u32 {
    1 << batch(rate_pps).min(GROUP).ilog2()
}

/// Time between two events, as the program wants it.
fn interval(rate: f64) -> u64 {
    (SECOND_NS as f64 * f64::from(1 << FRACTION_BITS) / rate) as u64
}

/// Frames of the next call of a paced load that has sent `sent` of what `time` holds; 0 when it is over.
fn paced_run(rate_pps: f64, time: Duration, sent: u64) -> u64 {
    let left = ((rate_pps * time.as_secs_f64()) as u64).saturating_sub(sent);
    left.min((rate_pps * PACED_RUN_TIME.as_secs_f64()) as u64).min(i32::MAX as u64)
}

/// Frames of the next call, when the last one sent `frames` in `took` and `left` remains; 0 when it is over.
fn next_run(frames: u64, took: Duration, left: Duration) -> u64 {
    let rate = frames as f64 / took.as_secs_f64().max(1e-6);
    // A short call says little about the rate: grow step by step.
    let wanted = (rate * left.min(RUN_TIME).as_secs_f64()).min(frames as f64 * 8.0) as u64;
    // The kernel's count is a signed 32-bit number; fewer frames than a batch are not worth a call.
    if wanted < u64::from(BATCH) { 0 } else { wanted.min(i32::MAX as u64) }
}

/// Waits for the moment of a group at its first frame, writes addresses into every frame as [`Macs::write`] does and
/// stamps it as [`frame::stamp`] does, and returns `bpf_redirect(index, 0)`.
fn instructions(index: u32, shared: i32, checksum_base: u32, group: u32, macs: Macs) -> Vec<Insn> {
    let mut asm = Asm::default();
    let (send, timed) = (asm.label(), asm.label());
    asm.load(Width::Word, 7, 1, XDP_DATA);
    asm.load(Width::Word, 2, 1, XDP_DATA_END);
    asm.alu(Alu::Mov, 3, 7);
    asm.alu_imm(Alu::Add, 3, STAMP_END as i32);
    // Never: for the verifier.
    asm.jump(When::Above, 3, 2, send);
    asm.map_value(6, shared);
    asm.load(Width::Double, 1, 6, at(state::SEQUENCE));
    asm.alu_imm(Alu::And, 1, group as i32 - 1);
    asm.jump_imm(When::Differs, 1, 0, timed);
    wait(&mut asm);
    take_time(&mut asm);
    asm.place(timed);
    write_address(&mut asm, macs.destination, 0);
    write_address(&mut asm, macs.source, 6);
    write_stamp(&mut asm, checksum_base);
    asm.place(send);
    asm.set32(1, index);
    asm.alu_imm(Alu::Mov, 2, 0);
    asm.call(Helper::Redirect);
    asm.exit_r0();
    asm.finish()
}

/// Offset of a word of the state.
const fn at(word: usize) -> i16 {
    (word * size_of::<u64>()) as i16
}

/// Waits until the group is due, if there is a schedule, and enters when the next one is. r6 is the state; leaves the
/// time in r0.
fn wait(asm: &mut Asm) {
    let (paced, again, ready, in_time, done) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Width::Double, 1, 6, at(state::INTERVAL));
    asm.jump_imm(When::Differs, 1, 0, paced);
    asm.call(Helper::KtimeGetNs);
    asm.goto(done);
    asm.place(paced);
    asm.load(Width::Double, 9, 6, at(state::DUE));
    asm.alu_imm(Alu::Shr, 9, FRACTION_BITS);
    asm.alu_imm(Alu::Mov, 8, 0);
    asm.place(again);
    asm.call(Helper::KtimeGetNs);
    asm.jump(When::NotBelow, 0, 9, ready);
    asm.alu_imm(Alu::Add, 8, 1);
    asm.jump_imm(When::Below, 8, LOOKS_MAX, again);
    asm.place(ready);
    // Behind by more than LATE_NS, as at the very start: the schedule begins anew.
    asm.load(Width::Double, 2, 6, at(state::DUE));
    asm.alu(Alu::Mov, 1, 0);
    asm.alu(Alu::Sub, 1, 9);
    asm.jump_imm(When::Below, 1, LATE_NS, in_time);
    asm.alu(Alu::Mov, 2, 0);
    asm.alu_imm(Alu::Shl, 2, FRACTION_BITS);
    asm.place(in_time);
    asm.load(Width::Double, 1, 6, at(state::INTERVAL));
    asm.alu(Alu::Add, 2, 1);
    asm.store(Width::Double, 6, at(state::DUE), 2);
    asm.place(done);
}

/// Enters the time in r0, also as it stands in a frame; r6 is the state.
fn take_time(asm: &mut Asm) {
    let not_first = asm.label();
    asm.store(Width::Double, 6, at(state::LAST), 0);
    asm.load(Width::Double, 1, 6, at(state::SEQUENCE));
    asm.jump_imm(When::Differs, 1, 0, not_first);
    asm.store(Width::Double, 6, at(state::FIRST), 0);
    asm.place(not_first);
    asm.alu(Alu::Mov, 3, 0);
    asm.alu_imm(Alu::Div, 3, SECOND_NS as i32);
    asm.alu(Alu::Mov, 4, 3);
    asm.alu_imm(Alu::Mul, 4, SECOND_NS as i32);
    asm.alu(Alu::Sub, 0, 4);
    for (register, word) in [(3, state::SECONDS), (0, state::SUBSECONDS)] {
        asm.swap32(register);
        asm.store(Width::Double, 6, at(word), register);
    }
}

/// Writes the address of the next frame at `place` of the frame at r7; r6 is the state.
fn write_address(asm: &mut Asm, choice: Choice, place: i16) {
    let group = match choice {
        Choice::Built => return,
        Choice::InTurn(group) | Choice::Random(group) => group,
    };
    asm.load(Width::Double, 1, 6, at(state::SEQUENCE));
    // r1 = the number within the group
    asm.alu32(Alu::Mov, 1, 1);
    asm.set32(3, group.count.max(1));
    if let Choice::Random(_) = choice {
        mix(asm, 1, 2);
        asm.alu(Alu::Mul, 1, 3);
        asm.alu_imm(Alu::Shr, 1, 32);
    } else {
        asm.alu(Alu::Mod, 1, 3);
    }
    asm.alu32_imm(Alu::Xor, 1, u32::from(group.id) << address::GROUP_SHIFT);
    mix(asm, 1, 2);
    let [a, b, ..] = group.address(0);
    asm.store_imm(Width::Half, 7, place, i32::from(u16::from_ne_bytes([a, b])));
    // Two halves, since the place of a word here would not be a multiple of 4.
    for (at, shift) in if cfg!(target_endian = "little") { [(2, 0), (4, 16)] } else { [(2, 16), (4, 0)] } {
        asm.alu(Alu::Mov, 2, 1);
        asm.alu_imm(Alu::Shr, 2, shift);
        asm.store(Width::Half, 7, place + at, 2);
    }
}

/// [`address::mix`] of the low 32 bits of a register.
fn mix(asm: &mut Asm, register: Reg, scratch: Reg) {
    let [first, second] = address::MULTIPLIERS.map(Some);
    for (shift, multiplier) in address::SHIFTS.into_iter().zip([first, second, None]) {
        asm.alu32(Alu::Mov, scratch, register);
        asm.alu32_imm(Alu::Shr, scratch, shift);
        asm.alu32(Alu::Xor, register, scratch);
        if let Some(multiplier) = multiplier {
            asm.alu32_imm(Alu::Mul, register, multiplier);
        }
    }
}

/// Numbers and stamps the frame at r7; r6 is the state.
fn write_stamp(asm: &mut Asm, checksum_base: u32) {
    let some = asm.label();
    asm.load(Width::Double, 1, 6, at(state::SEQUENCE));
    asm.alu(Alu::Mov, 3, 1);
    asm.alu_imm(Alu::Add, 3, 1);
    asm.store(Width::Double, 6, at(state::SEQUENCE), 3);
    asm.swap32(1);
    asm.load(Width::Double, 3, 6, at(state::SECONDS));
    asm.load(Width::Double, 0, 6, at(state::SUBSECONDS));
    asm.set32(5, checksum_base);
    for (register, at) in [(1, SEQUENCE_AT), (3, SECONDS_AT), (0, SUBSECONDS_AT)] {
        asm.store(Width::Word, 7, at as i16, register);
        asm.alu(Alu::Add, 5, register);
    }
    // r5, of 34 bits, folded three times fits into 16
    for _ in 0..3 {
        asm.alu(Alu::Mov, 2, 5);
        asm.alu_imm(Alu::Shr, 2, 16);
        asm.alu_imm(Alu::And, 5, 0xffff);
        asm.alu(Alu::Add, 5, 2);
    }
    asm.alu_imm(Alu::Xor, 5, 0xffff);
    asm.jump_imm(When::Differs, 5, 0, some);
    asm.alu_imm(Alu::Mov, 5, 0xffff);
    asm.place(some);
    asm.store(Width::Half, 7, CHECKSUM_AT as i16, 5);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::address::Group;

    #[test]
    fn calls_grow_to_their_full_length_and_end_in_time() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        assert_eq!(next_run(1000, ms(1), s(9)), 8000);
        assert_eq!(next_run(4_000_000, s(1), s(9)), 4_000_000);
        assert_eq!(next_run(4_000_000, s(1), ms(250)), 1_000_000);
        assert_eq!(next_run(4_000_000, s(1), Duration::ZERO), 0);
        assert_eq!(next_run(u64::MAX / 16, ms(1), s(9)), i32::MAX as u64);
    }

    #[test]
    fn the_program_redirects_to_the_interface_and_exits() {
        let code = instructions(7, 3, 0, 1, Macs::default());
        let [.., index, _, call, exit] = code.as_slice() else { panic!("too short") };
        assert_eq!((index.code, index.dst, index.imm), (0xb4, 1, 7));
        assert_eq!((call.code, call.imm, exit.code), (0x85, 23, 0x95));
    }

    #[test]
    fn the_kernel_stamps_frames_as_the_other_loads_do() {
        const XDP_REDIRECT: u32 = 4;
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: bench: the flood load's program: needs root");
            return;
        }
        let (few, many) = (Group { id: 1, count: 7 }, Group { id: 2, count: 1_000_000 });
        let random = Macs { destination: Choice::Random(many), source: Choice::Random(few) };
        let in_turn = Macs { destination: Choice::Built, source: Choice::InTurn(few) };
        for (group, macs) in [(1, Macs::default()), (8, random), (1, in_turn)] {
            let mut frame = frame::build([2, 0, 0, 0, 0, 7], 60);
            let base = frame::checksum_base(&frame);
            let shared = Map::shared(c"swbench_test", state::WORDS).unwrap();
            let code = instructions(1, shared.fd(), base, group, macs);
            let program = Program::load(Kind::Xdp, c"swbench_test", &code).unwrap();
            let mut last_ns = 0;
            for sequence in 0..1000 {
                let before_ns = crate::sink::now_ns(rustix::time::ClockId::Monotonic);
                assert_eq!(program.run(&mut frame).unwrap(), XDP_REDIRECT);
                let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                let time_ns = u64::from(word(SECONDS_AT)) * SECOND_NS + u64::from(word(SUBSECONDS_AT));
                if sequence % group == 0 {
                    assert!(time_ns >= before_ns && time_ns - before_ns < SECOND_NS, "{time_ns} after {before_ns}");
                    last_ns = time_ns;
                }
                assert_eq!(time_ns, last_ns, "one time for a group of {group}");
                let mut same = frame::build([2, 0, 0, 0, 0, 7], 60);
                macs.write(&mut same, sequence);
                frame::stamp(&mut same, base, sequence, time_ns);
                assert_eq!(frame, same);
            }
            let end = shared.read().unwrap();
            assert_eq!((end[state::SEQUENCE], end[state::LAST]), (1000, last_ns));
            assert!(end[state::FIRST] > 0 && end[state::FIRST] < last_ns);
        }
    }

    #[test]
    fn a_paced_load_sends_what_its_time_holds_in_long_calls() {
        let (s, rate) = (Duration::from_secs, 1e6);
        assert_eq!(paced_run(rate, s(2), 0), 2_000_000);
        assert_eq!(paced_run(rate, s(9), 0), 4_000_000);
        assert_eq!(paced_run(rate, s(9), 8_000_000), 1_000_000);
        assert_eq!(paced_run(rate, s(9), 9_000_000), 0);
        assert_eq!(interval(1e6), 1000 << FRACTION_BITS);
        assert_eq!([None, Some(5e4), Some(1e6), Some(1e7)].map(batch), [BATCH, 1, 10, BATCH]);
        assert_eq!([None, Some(5e4), Some(1e6), Some(1e7)].map(group), [GROUP, 1, 8, GROUP]);
    }

    #[test]
    fn the_kernel_waits_for_the_moment_of_a_frame() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: bench: the flood load's schedule: needs root");
            return;
        }
        let mut frame = frame::build([2, 0, 0, 0, 0, 7], 60);
        let shared = Map::shared(c"swbench_test", state::WORDS).unwrap();
        let program =
            Program::load(Kind::Xdp, c"swbench_test", &instructions(1, shared.fd(), 0, 1, Macs::default())).unwrap();
        let mut words = [0u64; state::WORDS];
        words[state::INTERVAL] = interval(RATE_MIN);
        let wait_ns = SECOND_NS / RATE_MIN as u64;
        let mut waited = 0;
        for _ in 0..100 {
            // Due one interval from now, less what the call takes.
            let due_ns = crate::sink::now_ns(rustix::time::ClockId::Monotonic) + wait_ns;
            words[state::DUE] = due_ns << FRACTION_BITS;
            shared.write(&words).unwrap();
            program.run(&mut frame).unwrap();
            let end = shared.read().unwrap();
            assert!(end[state::LAST] >= due_ns, "sent {} before {due_ns}", end[state::LAST]);
            let late_ns = end[state::LAST] - due_ns;
            let next_ns = if late_ns < LATE_NS as u64 { due_ns } else { end[state::LAST] } + wait_ns;
            assert_eq!(end[state::DUE], next_ns << FRACTION_BITS);
            waited += u64::from(late_ns < 1000);
        }
        assert!(waited > 0, "no frame left within a microsecond of its moment");
    }
}
