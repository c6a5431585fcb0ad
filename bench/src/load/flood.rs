//! The *flood* load: live XDP frames. `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` runs a small program over
//! frames from the kernel's own page pool, and the program stamps them and redirects them into the veth, so no skb is
//! made on the way (Documentation/bpf/bpf_prog_run.rst). The far end must run XDP, or the kernel drops the frames.

use super::frame::{self, CHECKSUM_AT, SECOND_NS, SECONDS_AT, SEQUENCE_AT, STAMP_END, SUBSECONDS_AT};
use super::{Job, Load, Sent, Watch, fault};
use crate::bpf::asm::{Alu, Asm, Helper, Insn, When, Width};
use crate::bpf::{Kind, Map, Program};
use crate::error::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Frames of the first system call, from which the rate is estimated.
const FIRST_RUN: u64 = 1 << 16;
/// Length of the later calls. Each one makes the kernel wait for two RCU grace periods (it patches its XDP dispatcher,
/// net/bpf/test_run.c), some ten milliseconds in which nothing is sent: short calls would halve the load.
const RUN_TIME: Duration = Duration::from_secs(1);
/// Frames the kernel runs between two flushes of the redirect queue.
const BATCH: u32 = 64;
/// Fields of `struct xdp_md` (linux/bpf.h).
const XDP_DATA: i16 = 0;
const XDP_DATA_END: i16 = 4;

/// Runs the load on the calling thread, which must be in the job's namespace.
///
/// # Errors
/// [`crate::error::Error::Generator`] when the kernel refuses the program or the run.
pub fn send(job: &Job) -> Result<Sent> {
    let bad = |what: &'static str| move |e: std::io::Error| fault(Load::Flood, format!("{what}: {e}"));
    let counter = Map::shared(c"swbench_flood", 1).map_err(bad("make the counter of frames"))?;
    let code = instructions(job.index, counter.fd(), frame::checksum_base(&job.frame));
    let program = Program::load(Kind::Xdp, c"swbench_flood", &code).map_err(bad("load the XDP program"))?;
    let (mut frames, mut next, watch) = (0u64, FIRST_RUN, Watch::start());
    while !job.stop.raised() {
        let begun = watch.elapsed();
        program.run_live(&job.frame, next as i32, BATCH).map_err(bad("run live frames"))?;
        frames += next;
        job.sent.store(frames, Ordering::Relaxed);
        let now = watch.elapsed();
        next = next_run(next, now - begun, job.time.saturating_sub(now));
        if next == 0 {
            break;
        }
    }
    Ok(watch.sent(frames))
}

/// Frames of the next call, when the last one sent `frames` in `took` and `left` remains; 0 when it is over.
fn next_run(frames: u64, took: Duration, left: Duration) -> u64 {
    let rate = frames as f64 / took.as_secs_f64().max(1e-6);
    // A short call says little about the rate: grow step by step.
    let wanted = (rate * left.min(RUN_TIME).as_secs_f64()).min(frames as f64 * 8.0) as u64;
    // The kernel's count is a signed 32-bit number; fewer frames than a batch are not worth a call.
    if wanted < u64::from(BATCH) { 0 } else { wanted.min(i32::MAX as u64) }
}

/// Stamps the frame as [`frame::stamp`] does, counting in the map, and returns `bpf_redirect(index, 0)`.
fn instructions(index: u32, counter: i32, checksum_base: u32) -> Vec<Insn> {
    let mut asm = Asm::default();
    let (send, some) = (asm.label(), asm.label());
    asm.load(Width::Word, 7, 1, XDP_DATA);
    asm.load(Width::Word, 2, 1, XDP_DATA_END);
    asm.alu(Alu::Mov, 3, 7);
    asm.alu_imm(Alu::Add, 3, STAMP_END as i32);
    // Never: for the verifier.
    asm.jump(When::Above, 3, 2, send);
    asm.call(Helper::KtimeGetNs);
    asm.map_value(2, counter);
    // r1 = sequence number, r3 = seconds, r0 = nanoseconds of the second
    asm.load(Width::Double, 1, 2, 0);
    asm.alu(Alu::Mov, 3, 1);
    asm.alu_imm(Alu::Add, 3, 1);
    asm.store(Width::Double, 2, 0, 3);
    asm.alu(Alu::Mov, 3, 0);
    asm.alu_imm(Alu::Div, 3, SECOND_NS as i32);
    asm.alu(Alu::Mov, 4, 3);
    asm.alu_imm(Alu::Mul, 4, SECOND_NS as i32);
    asm.alu(Alu::Sub, 0, 4);
    asm.set32(5, checksum_base);
    for (register, at) in [(1, SEQUENCE_AT), (3, SECONDS_AT), (0, SUBSECONDS_AT)] {
        asm.swap32(register);
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
    asm.place(send);
    asm.set32(1, index);
    asm.alu_imm(Alu::Mov, 2, 0);
    asm.call(Helper::Redirect);
    asm.exit_r0();
    asm.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let code = instructions(7, 3, 0);
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
        let mut frame = frame::build([2, 0, 0, 0, 0, 7], 60);
        let base = frame::checksum_base(&frame);
        let counter = Map::shared(c"swbench_test", 1).unwrap();
        let program = Program::load(Kind::Xdp, c"swbench_test", &instructions(1, counter.fd(), base)).unwrap();
        for sequence in 0..1000 {
            let before_ns = crate::sink::now_ns(rustix::time::ClockId::Monotonic);
            assert_eq!(program.run(&mut frame).unwrap(), XDP_REDIRECT);
            let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let time_ns = u64::from(word(SECONDS_AT)) * SECOND_NS + u64::from(word(SUBSECONDS_AT));
            assert!(time_ns >= before_ns && time_ns - before_ns < SECOND_NS, "{time_ns} after {before_ns}");
            let mut same = frame.clone();
            frame::stamp(&mut same, base, sequence, time_ns);
            assert_eq!(frame, same);
        }
        assert_eq!(counter.read().unwrap(), [1000]);
    }
}
