//! A small assembler for eBPF: instructions as method calls, jumps to labels. Pure; what it makes is checked by the
//! kernel when it is loaded. Used on the main thread and by the generators, before a load starts.

/// One instruction, in the fields of `struct bpf_insn` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation: class, size or source, mode or operation.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Offset of a memory access, or distance of a jump.
    pub off: i16,
    /// Immediate value.
    pub imm: i32,
}

/// A register. 0 holds results, 1 to 5 arguments (a call destroys them), 6 to 9 survive calls, 10 is the frame pointer.
pub type Reg = u8;

/// Two-operand arithmetic on 64 bits (`BPF_ALU64`).
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Alu {
    /// dst += src
    Add = 0x00,
    /// dst -= src
    Sub = 0x10,
    /// dst *= src
    Mul = 0x20,
    /// dst /= src, unsigned
    Div = 0x30,
    /// dst |= src
    Or = 0x40,
    /// dst &= src
    And = 0x50,
    /// dst <<= src
    Shl = 0x60,
    /// dst >>= src, unsigned
    Shr = 0x70,
    /// dst %= src, unsigned
    Mod = 0x90,
    /// dst ^= src
    Xor = 0xa0,
    /// dst = src
    Mov = 0xb0,
}

/// Conditions of a jump; comparisons are of 64 bits and unsigned unless the name says otherwise.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum When {
    /// dst == src
    Equal = 0x10,
    /// dst > src
    Above = 0x20,
    /// dst >= src
    NotBelow = 0x30,
    /// dst & src is not zero
    AnyBit = 0x40,
    /// dst != src
    Differs = 0x50,
    /// dst >= src, signed
    NotLessSigned = 0x70,
    /// dst < src
    Below = 0xa0,
}

/// Widths of a memory access.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Width {
    /// 4 bytes
    Word = 0x00,
    /// 2 bytes
    Half = 0x08,
    /// 8 bytes
    Double = 0x18,
}

/// Kernel functions a program may call (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Helper {
    /// r0 = pointer to the value of map r1 under the key at r2, or null
    MapLookup = 1,
    /// r0 = CLOCK_MONOTONIC in nanoseconds
    KtimeGetNs = 5,
    /// Sends the frame out of interface r1
    Redirect = 23,
    /// Makes the first r2 bytes of the frame of context r1 readable
    SkbPullData = 39,
}

/// A place in the code that jumps can name before it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

const CLASS_LDX_MEM: u8 = 0x61;
const CLASS_STX_MEM: u8 = 0x63;
const CLASS_ST_MEM: u8 = 0x62;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU: u8 = 0x04;
const CLASS_ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const LOAD_IMM64: u8 = 0x18;
const TO_BIG_ENDIAN: u8 = 0xdc;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Source register of a 64-bit load: the value is a map, or the value of a one-entry array map.
const MAP_FD: u8 = 1;
const MAP_VALUE: u8 = 2;

/// A program being written.
#[derive(Debug, Default)]
pub struct Asm {
    insns: Vec<Insn>,
    /// Where each label stands.
    labels: Vec<Option<usize>>,
    /// Jumps and their targets.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    fn push(&mut self, code: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        self.insns.push(Insn { code, dst, src, off, imm });
    }

    /// A new label that stands nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn place(&mut self, label: Label) {
        if let Some(at) = self.labels.get_mut(label.0) {
            *at = Some(self.insns.len());
        }
    }

    /// dst = dst `op` src.
    pub fn alu(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.push(CLASS_ALU64 | FROM_REGISTER | op as u8, dst, src, 0, 0);
    }

    /// dst = dst `op` imm.
    pub fn alu_imm(&mut self, op: Alu, dst: Reg, imm: i32) {
        self.push(CLASS_ALU64 | op as u8, dst, 0, 0, imm);
    }

    /// The same on the low 32 bits; the high ones become zero.
    pub fn alu32(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.push(CLASS_ALU | FROM_REGISTER | op as u8, dst, src, 0, 0);
    }

    /// The same with a constant.
    pub fn alu32_imm(&mut self, op: Alu, dst: Reg, value: u32) {
        self.push(CLASS_ALU | op as u8, dst, 0, 0, value.cast_signed());
    }

    /// dst = imm, 32 bits; the high ones become zero.
    pub fn set32(&mut self, dst: Reg, value: u32) {
        self.push(CLASS_ALU | Alu::Mov as u8, dst, 0, 0, value.cast_signed());
    }

    /// Swaps the low 4 bytes of dst between host and network order (nothing to do on big-endian hosts).
    pub fn swap32(&mut self, dst: Reg) {
        self.push(TO_BIG_ENDIAN, dst, 0, 0, 32);
    }

    /// dst = memory at src + off.
    pub fn load(&mut self, width: Width, dst: Reg, src: Reg, off: i16) {
        self.push(CLASS_LDX_MEM | width as u8, dst, src, off, 0);
    }

    /// Memory at dst + off = src.
    pub fn store(&mut self, width: Width, dst: Reg, off: i16, src: Reg) {
        self.push(CLASS_STX_MEM | width as u8, dst, src, off, 0);
    }

    /// Memory at dst + off = imm.
    pub fn store_imm(&mut self, width: Width, dst: Reg, off: i16, imm: i32) {
        self.push(CLASS_ST_MEM | width as u8, dst, 0, off, imm);
    }

    /// Adds 1 to the 8 bytes at base + off, by way of `scratch`.
    pub fn count(&mut self, base: Reg, off: i16, scratch: Reg) {
        self.load(Width::Double, scratch, base, off);
        self.alu_imm(Alu::Add, scratch, 1);
        self.store(Width::Double, base, off, scratch);
    }

    /// Jumps when dst `when` src.
    pub fn jump(&mut self, when: When, dst: Reg, src: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP | FROM_REGISTER | when as u8, dst, src, 0, 0);
    }

    /// Jumps when dst `when` imm.
    pub fn jump_imm(&mut self, when: When, dst: Reg, imm: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP | when as u8, dst, 0, 0, imm);
    }

    /// Jumps when the low 32 bits of dst `when` imm.
    pub fn jump32_imm(&mut self, when: When, dst: Reg, imm: u32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP32 | when as u8, dst, 0, 0, imm.cast_signed());
    }

    /// Jumps.
    pub fn goto(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP, 0, 0, 0, 0);
    }

    /// dst = the map with this descriptor, to be given to a helper.
    pub fn map(&mut self, dst: Reg, fd: i32) {
        self.push(LOAD_IMM64, dst, MAP_FD, 0, fd);
        self.push(0, 0, 0, 0, 0);
    }

    /// dst = address of the value of a one-entry array map.
    pub fn map_value(&mut self, dst: Reg, fd: i32) {
        self.push(LOAD_IMM64, dst, MAP_VALUE, 0, fd);
        self.push(0, 0, 0, 0, 0);
    }

    /// Calls a kernel function.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// Ends the program with `value`.
    pub fn exit(&mut self, value: i32) {
        self.alu_imm(Alu::Mov, 0, value);
        self.exit_r0();
    }

    /// Ends the program with what is in register 0.
    pub fn exit_r0(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The instructions, with every jump resolved. A jump to a label that was never placed leads to itself, which the
    /// kernel refuses.
    pub fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels.get(label.0).copied().flatten().unwrap_or(at);
            if let Some(insn) = self.insns.get_mut(at) {
                // Distances are counted from the next instruction.
                insn.off = (target as i64 - at as i64 - 1) as i16;
            }
        }
        self.insns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_counted_from_the_next_instruction() {
        let mut asm = Asm::default();
        let (forward, back) = (asm.label(), asm.label());
        asm.place(back);
        asm.jump_imm(When::Equal, 3, 7, forward);
        asm.goto(back);
        asm.place(forward);
        asm.exit(2);
        let code = asm.finish();
        assert_eq!(code[0], Insn { code: 0x15, dst: 3, src: 0, off: 1, imm: 7 });
        assert_eq!((code[1].code, code[1].off), (0x05, -2));
        assert_eq!((code[2].code, code[2].imm, code[3].code), (0xb7, 2, 0x95));
    }

    #[test]
    fn operations_have_the_kernels_codes() {
        let mut asm = Asm::default();
        asm.load(Width::Word, 2, 1, 76);
        asm.store(Width::Double, 9, 8, 1);
        asm.store_imm(Width::Word, 10, -4, 0);
        asm.alu(Alu::Add, 1, 2);
        asm.alu32(Alu::Mov, 5, 5);
        asm.swap32(4);
        asm.call(Helper::KtimeGetNs);
        let codes: Vec<u8> = asm.finish().iter().map(|insn| insn.code).collect();
        assert_eq!(codes, [0x61, 0x7b, 0x62, 0x0f, 0xbc, 0xdc, 0x85]);
    }
}
