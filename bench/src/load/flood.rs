//! The *flood* load: live XDP frames. `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` runs a small program over
//! frames from the kernel's own page pool, and the program redirects them into the veth, so no skb is made on the way
//! (Documentation/bpf/bpf_prog_run.rst). The far end must run XDP, or the kernel drops the frames.

use super::{Job, Load, Sent, Watch, fault};
use crate::error::Result;
use libxdp_sys::{
    BPF_F_TEST_XDP_LIVE_FRAMES, bpf_insn, bpf_prog_load, bpf_prog_load_opts, bpf_prog_test_run_opts, bpf_test_run_opts,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Frames of the first system call, from which the rate is estimated.
const FIRST_RUN: u64 = 1 << 16;
/// Length of the later calls. Each one makes the kernel wait for two RCU grace periods (it patches its XDP dispatcher,
/// net/bpf/test_run.c), some ten milliseconds in which nothing is sent: short calls would halve the load.
const RUN_TIME: Duration = Duration::from_secs(1);
/// Frames the kernel runs between two flushes of the redirect queue.
const BATCH: u32 = 64;
/// Helper number of `bpf_redirect` (include/uapi/linux/bpf.h).
const BPF_REDIRECT: i32 = 23;
/// `BPF_PROG_TYPE_XDP`.
const PROG_TYPE_XDP: u32 = 6;

/// Runs the load on the calling thread, which must be in the job's namespace.
///
/// # Errors
/// [`crate::error::Error::Generator`] when the kernel refuses the program or the run.
pub fn send(job: &Job) -> Result<Sent> {
    let program = load(job.index).map_err(|e| fault(Load::Flood, format!("load the XDP program: {e}")))?;
    let (mut frames, mut next, watch) = (0u64, FIRST_RUN, Watch::start());
    while !job.stop.raised() {
        let begun = watch.elapsed();
        run(&program, &job.frame, next as i32).map_err(|e| fault(Load::Flood, format!("run live frames: {e}")))?;
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

/// `return bpf_redirect(index, 0)`, as machine code: opcode, destination register, immediate.
fn program(index: u32) -> [(u8, u8, i32); 4] {
    const MOV64_IMM: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    [(MOV64_IMM, 1, index as i32), (MOV64_IMM, 2, 0), (CALL, 0, BPF_REDIRECT), (EXIT, 0, 0)]
}

fn load(index: u32) -> io::Result<OwnedFd> {
    let code = program(index).map(|(code, register, imm)| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(register, 0),
        off: 0,
        imm,
    });
    let mut options = zeroed_load_opts();
    options.sz = size_of::<bpf_prog_load_opts>();
    // SAFETY: strings are NUL-terminated, code and options live across the call and their lengths are given.
    let fd = unsafe {
        bpf_prog_load(
            PROG_TYPE_XDP,
            c"swbench_flood".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len(),
            &mut options,
        )
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn run(program: &OwnedFd, frame: &[u8], repeat: i32) -> io::Result<()> {
    let mut options = zeroed_run_opts();
    options.sz = size_of::<bpf_test_run_opts>();
    options.data_in = frame.as_ptr().cast();
    options.data_size_in = frame.len() as u32;
    options.repeat = repeat;
    options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    options.batch_size = BATCH;
    // SAFETY: the frame lives across the call, its length is given, the kernel only reads it; no output is asked for.
    let answer = unsafe { bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
    if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-answer)) }
}

fn zeroed_load_opts() -> bpf_prog_load_opts {
    // SAFETY: a plain C struct of integers and pointers, for which all zeroes is the documented default.
    unsafe { std::mem::zeroed() }
}

fn zeroed_run_opts() -> bpf_test_run_opts {
    // SAFETY: as above.
    unsafe { std::mem::zeroed() }
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
        let code = program(7);
        assert_eq!(code[0], (0xb7, 1, 7));
        assert_eq!(code[2].2, BPF_REDIRECT);
        assert_eq!(code[3].0, 0x95);
    }
}
