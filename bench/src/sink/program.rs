//! The sink's program, run for every frame that arrives at b0 before any qdisc, firewall or stack sees it. Generated
//! frames are counted and dropped, all others counted and passed:
//!
//! ```text
//! if source address is not the generator's:  others++, pass
//! received++, bytes;  if no magic:            unstamped++, drop
//! latency = max(0, now - time in the frame); sum, max, histogram
//! seen before (window of 65536):             duplicates++
//! sequence ahead of next:                    gaps++, next = sequence + 1
//! sequence behind next:                      reordered++           (RFC 4737, type-P-reordered)
//! ```
//!
//! Behind a device that writes addresses anew, and for loads of many addresses, generated frames are known by the magic
//! instead, and there are no unstamped ones.
//!
//! Tallies are kept per processor. The state of the sequence is one for all: the frames of a flow arrive on one
//! processor at a time.

use super::Marks;
use crate::bpf::asm::{Alu, Asm, Helper, Insn, Reg, When, Width};
use crate::latency::{BUCKETS, MAX_NS, SUB_BITS};
use crate::load::frame::{MAGIC, MAGIC_AT, SECOND_NS, SECONDS_AT, SEQUENCE_AT, SOURCE_MAC, STAMP_END, SUBSECONDS_AT};

/// Words of the tallies, in order; the histogram follows.
pub(super) mod tally {
    pub const RECEIVED: usize = 0;
    pub const OTHERS: usize = 1;
    pub const UNSTAMPED: usize = 2;
    pub const REORDERED: usize = 3;
    pub const DUPLICATES: usize = 4;
    pub const GAPS: usize = 5;
    pub const SUM_NS: usize = 6;
    pub const MAX_NS: usize = 7;
    pub const BYTES: usize = 8;
    pub const HISTOGRAM: usize = 9;
}
/// Words of one processor's tallies.
pub(super) const TALLY_WORDS: usize = tally::HISTOGRAM + BUCKETS;

/// Words of the shared state, in order; the window of seen sequence numbers follows.
pub(super) mod state {
    /// The sequence number expected next, in the first 32 bits in memory.
    pub const NEXT: usize = 0;
    /// Nanoseconds in one unit of the rest of the second.
    pub const UNIT_NS: usize = 1;
    /// What is to be taken from a frame's time to get CLOCK_MONOTONIC, nanoseconds.
    pub const OFFSET_NS: usize = 2;
    /// The sequence number of the first frame; not read by the program.
    pub const FIRST: usize = 3;
    pub const SEEN: usize = 4;
}
/// Words of the window. Each has the sequence number without its low 5 bits above, and a bit for each of 32 below.
const SEEN_WORDS: usize = 2048;
/// Words of the shared state.
pub(super) const STATE_WORDS: usize = state::SEEN + SEEN_WORDS;

/// Fields of `struct __sk_buff` (linux/bpf.h).
const SKB_LEN: i16 = 0;
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;
/// Verdicts of a tcx program (enum tcx_action_base).
pub(super) const PASS: i32 = 0;
pub(super) const DROP: i32 = 2;

/// Registers that keep their meaning through the program.
const CONTEXT: Reg = 6;
const DATA: Reg = 7;
const TALLY: Reg = 9;
/// From the sequence part on: registers that no call threatens any more.
const STATE: Reg = 3;

/// Offset of a word of a row.
const fn at(word: usize) -> i16 {
    (word * size_of::<u64>()) as i16
}

/// The program, for maps with these descriptors.
pub(super) fn instructions(marks: Marks, tallies: i32, shared: i32) -> Vec<Insn> {
    let mut asm = Asm::default();
    let (other, short, unstamped, drop) = (asm.label(), asm.label(), asm.label(), asm.label());
    let start = asm.label();
    let mac = SOURCE_MAC;

    asm.alu(Alu::Mov, CONTEXT, 1);
    asm.store_imm(Width::Word, 10, -4, 0);
    asm.alu(Alu::Mov, 2, 10);
    asm.alu_imm(Alu::Add, 2, -4);
    asm.map(1, tallies);
    asm.call(Helper::MapLookup);
    asm.jump_imm(When::Equal, 0, 0, drop);
    asm.alu(Alu::Mov, TALLY, 0);

    // The headers and the stamp lie in one piece, but for frames whose skb was made of fragments.
    data_or(&mut asm, short);
    asm.place(start);
    let magic = u32::from_ne_bytes(MAGIC.to_be_bytes());
    match marks {
        Marks::Source => {
            asm.load(Width::Word, 1, DATA, 6);
            asm.jump32_imm(When::Differs, 1, u32::from_ne_bytes([mac[0], mac[1], mac[2], mac[3]]), other);
            asm.load(Width::Half, 1, DATA, 10);
            asm.jump32_imm(When::Differs, 1, u32::from(u16::from_ne_bytes([mac[4], mac[5]])), other);
        }
        Marks::Magic => {
            asm.load(Width::Word, 1, DATA, MAGIC_AT as i16);
            asm.jump32_imm(When::Differs, 1, magic, other);
        }
    }
    asm.count(TALLY, at(tally::RECEIVED), 1);
    asm.load(Width::Word, 1, CONTEXT, SKB_LEN);
    asm.load(Width::Double, 2, TALLY, at(tally::BYTES));
    asm.alu(Alu::Add, 2, 1);
    asm.store(Width::Double, TALLY, at(tally::BYTES), 2);
    asm.load(Width::Word, 1, DATA, MAGIC_AT as i16);
    asm.jump32_imm(When::Differs, 1, magic, unstamped);
    latency(&mut asm, shared);
    sequence(&mut asm, drop);

    asm.place(drop);
    asm.exit(DROP);

    asm.place(unstamped);
    asm.count(TALLY, at(tally::UNSTAMPED), 1);
    asm.exit(DROP);

    asm.place(short);
    asm.alu(Alu::Mov, 1, CONTEXT);
    asm.alu_imm(Alu::Mov, 2, STAMP_END as i32);
    asm.call(Helper::SkbPullData);
    data_or(&mut asm, other);
    asm.goto(start);

    asm.place(other);
    asm.count(TALLY, at(tally::OTHERS), 1);
    asm.exit(PASS);
    asm.finish()
}

/// DATA = start of the frame, when the frame's first [`STAMP_END`] bytes can be read; otherwise goes to `short`.
fn data_or(asm: &mut Asm, short: crate::bpf::asm::Label) {
    asm.load(Width::Word, DATA, CONTEXT, SKB_DATA);
    asm.load(Width::Word, 2, CONTEXT, SKB_DATA_END);
    asm.alu(Alu::Mov, 1, DATA);
    asm.alu_imm(Alu::Add, 1, STAMP_END as i32);
    asm.jump(When::Above, 1, 2, short);
}

/// Takes the time and enters the latency. Leaves STATE.
fn latency(asm: &mut Asm, shared: i32) {
    let (positive, in_range, not_longest) = (asm.label(), asm.label(), asm.label());
    // r0 = now - (seconds * 10^9 + rest * unit - offset), at least 0
    asm.call(Helper::KtimeGetNs);
    asm.map_value(STATE, shared);
    asm.load(Width::Word, 1, DATA, SECONDS_AT as i16);
    asm.swap32(1);
    asm.alu_imm(Alu::Mul, 1, SECOND_NS as i32);
    asm.load(Width::Word, 2, DATA, SUBSECONDS_AT as i16);
    asm.swap32(2);
    asm.load(Width::Double, 4, STATE, at(state::UNIT_NS));
    asm.alu(Alu::Mul, 2, 4);
    asm.alu(Alu::Add, 1, 2);
    asm.load(Width::Double, 4, STATE, at(state::OFFSET_NS));
    asm.alu(Alu::Sub, 1, 4);
    asm.alu(Alu::Sub, 0, 1);
    asm.jump_imm(When::NotLessSigned, 0, 0, positive);
    asm.alu_imm(Alu::Mov, 0, 0);
    asm.place(positive);

    asm.load(Width::Double, 1, TALLY, at(tally::SUM_NS));
    asm.alu(Alu::Add, 1, 0);
    asm.store(Width::Double, TALLY, at(tally::SUM_NS), 1);
    asm.load(Width::Double, 1, TALLY, at(tally::MAX_NS));
    asm.jump(When::Above, 1, 0, not_longest);
    asm.store(Width::Double, TALLY, at(tally::MAX_NS), 0);
    asm.place(not_longest);

    // r0 = min(r0, MAX_NS); r2 = how far to shift it right to leave 32..=63
    asm.alu_imm(Alu::Mov, 1, 1);
    asm.alu_imm(Alu::Shl, 1, (MAX_NS + 1).trailing_zeros() as i32);
    asm.jump(When::Below, 0, 1, in_range);
    asm.alu(Alu::Mov, 0, 1);
    asm.alu_imm(Alu::Sub, 0, 1);
    asm.place(in_range);
    asm.alu(Alu::Mov, 1, 0);
    asm.alu_imm(Alu::Shr, 1, SUB_BITS as i32);
    asm.alu_imm(Alu::Mov, 2, 0);
    for bits in [16, 8, 4, 2, 1] {
        let smaller = asm.label();
        asm.jump_imm(When::Below, 1, 1 << bits, smaller);
        asm.alu_imm(Alu::Shr, 1, bits);
        asm.alu_imm(Alu::Add, 2, bits);
        asm.place(smaller);
    }
    // r2 = bucket = shift * 32 + (r0 >> shift); histogram[r2]++
    let in_row = asm.label();
    asm.alu(Alu::Shr, 0, 2);
    asm.alu_imm(Alu::Shl, 2, SUB_BITS as i32);
    asm.alu(Alu::Add, 2, 0);
    // Always so; for the verifier, which does not see it.
    asm.jump_imm(When::Below, 2, BUCKETS as i32, in_row);
    asm.alu_imm(Alu::Mov, 2, BUCKETS as i32 - 1);
    asm.place(in_row);
    asm.alu_imm(Alu::Shl, 2, 3);
    asm.alu(Alu::Add, 2, TALLY);
    asm.count(2, at(tally::HISTOGRAM), 1);
}

/// Looks at the sequence number. Needs STATE; jumps to `done` or falls through.
fn sequence(asm: &mut Asm, done: crate::bpf::asm::Label) {
    let (same_tag, duplicate, late, no_gap) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Width::Word, 1, DATA, SEQUENCE_AT as i16);
    asm.swap32(1);
    // r5 = the word of the window, r2 = its content, emptied when it is of another 32 numbers; r0 = the bit
    asm.alu(Alu::Mov, 4, 1);
    asm.alu_imm(Alu::Shr, 4, 5);
    asm.alu(Alu::Mov, 5, 4);
    asm.alu_imm(Alu::And, 5, SEEN_WORDS as i32 - 1);
    asm.alu_imm(Alu::Shl, 5, 3);
    asm.alu(Alu::Add, 5, STATE);
    asm.load(Width::Double, 2, 5, at(state::SEEN));
    asm.alu(Alu::Mov, 0, 2);
    asm.alu_imm(Alu::Shr, 0, 32);
    asm.jump(When::Equal, 0, 4, same_tag);
    asm.alu(Alu::Mov, 2, 4);
    asm.alu_imm(Alu::Shl, 2, 32);
    asm.place(same_tag);
    asm.alu(Alu::Mov, 4, 1);
    asm.alu_imm(Alu::And, 4, 31);
    asm.alu_imm(Alu::Mov, 0, 1);
    asm.alu(Alu::Shl, 0, 4);
    asm.jump(When::AnyBit, 2, 0, duplicate);
    asm.alu(Alu::Or, 2, 0);
    asm.store(Width::Double, 5, at(state::SEEN), 2);

    // r4 = sequence - next, modulo 2^32
    asm.load(Width::Word, 2, STATE, at(state::NEXT));
    asm.alu(Alu::Mov, 4, 1);
    asm.alu32(Alu::Sub, 4, 2);
    asm.set32(2, 1 << 31);
    asm.jump(When::AnyBit, 4, 2, late);
    asm.alu_imm(Alu::Add, 1, 1);
    asm.store(Width::Word, STATE, at(state::NEXT), 1);
    asm.jump_imm(When::Equal, 4, 0, no_gap);
    asm.count(TALLY, at(tally::GAPS), 1);
    asm.place(no_gap);
    asm.goto(done);

    asm.place(duplicate);
    asm.count(TALLY, at(tally::DUPLICATES), 1);
    asm.goto(done);
    asm.place(late);
    asm.count(TALLY, at(tally::REORDERED), 1);
}
