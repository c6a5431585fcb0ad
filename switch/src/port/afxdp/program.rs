//! The XDP program: one for all ports, written here as a table of instructions.
//!
//! It sends every frame of an attached interface to the AF_XDP socket of its receive queue:
//!
//! ```text
//! first = direct[ctx->ingress_ifindex], or hashed[...] for an index beyond the direct map
//! return bpf_redirect_map(xsks, first + ctx->rx_queue_index, XDP_PASS)
//! ```
//!
//! `direct` is an array from interface index to the first slot of the interface, which the kernel's compiler turns
//! into a few instructions of the program itself; `hashed` serves the large indexes of hosts that have made many
//! interfaces. With the hash map alone the sender's core, which runs this for every frame, was 3 % slower. `xsks` is
//! the map of sockets; its slot 0 stays empty, so that 0 says "no port". A frame without a socket goes on to the
//! host's stack. One program rather than one per port, because the kernel calls up to 48 different XDP programs
//! directly and any further one through a retpoline (kernel/bpf/dispatcher.c). Attached by the control thread,
//! detached by the one that closes ports.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libxdp_sys as sys;

use crate::limits::{PORTS_MAX, QUEUES_MAX};

/// Sockets the map has room for: every queue of every port. Slots are numbered from 1.
const SLOTS: u32 = (PORTS_MAX * QUEUES_MAX) as u32;

/// Interface indexes below this are looked up directly; the array takes 8 bytes of kernel memory for each.
const DIRECT_INDEXES: u32 = 1 << 16;

/// `XDP_PASS` of linux/bpf.h: what happens to a frame that has no socket.
const XDP_PASS: i32 = 2;
/// `XDP_FLAGS_DRV_MODE` of linux/if_link.h: native XDP or nothing.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// One eBPF instruction, in the fields of `struct bpf_insn` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

/// Operation codes used here: class | size or source | mode or operation (linux/bpf_common.h, linux/bpf.h).
mod op {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const STORE_WORD: u8 = 0x63;
    pub(super) const LOAD_IMM64: u8 = 0x18;
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const MOVE_IMM: u8 = 0xb7;
    pub(super) const ADD: u8 = 0x0f;
    pub(super) const ADD_IMM: u8 = 0x07;
    pub(super) const JUMP_EQUAL: u8 = 0x15;
    pub(super) const JUMP_AT_LEAST: u8 = 0x35;
    pub(super) const JUMP: u8 = 0x05;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// Source register of a 64-bit load whose value is a map's file descriptor (`BPF_PSEUDO_MAP_FD`).
const MAP_FD: u8 = 1;
/// Offsets in `struct xdp_md` (linux/bpf.h).
const INGRESS_IFINDEX: i16 = 12;
const RX_QUEUE_INDEX: i16 = 16;
/// Helper numbers (`enum bpf_func_id`).
const MAP_LOOKUP_ELEM: i32 = 1;
const REDIRECT_MAP: i32 = 51;

/// The program, for maps with these descriptors.
#[rustfmt::skip]
fn instructions(direct: RawFd, hashed: RawFd, xsks: RawFd) -> [Insn; 25] {
    [
        insn(op::MOVE, 6, 1, 0, 0),                    // r6 = ctx
        insn(op::LOAD_WORD, 3, 1, INGRESS_IFINDEX, 0), // key = ctx->ingress_ifindex
        insn(op::STORE_WORD, 10, 3, -4, 0),
        insn(op::MOVE, 2, 10, 0, 0),                   // r2 = &key
        insn(op::ADD_IMM, 2, 0, 0, -4),
        insn(op::JUMP_AT_LEAST, 3, 0, 4, DIRECT_INDEXES as i32),
        insn(op::LOAD_IMM64, 1, MAP_FD, 0, direct),    // r1 = direct (two slots)
        insn(0, 0, 0, 0, 0),
        insn(op::CALL, 0, 0, 0, MAP_LOOKUP_ELEM),      // r0 = &first slot
        insn(op::JUMP, 0, 0, 3, 0),
        insn(op::LOAD_IMM64, 1, MAP_FD, 0, hashed),    // large index: r1 = hashed (two slots)
        insn(0, 0, 0, 0, 0),
        insn(op::CALL, 0, 0, 0, MAP_LOOKUP_ELEM),      // r0 = &first slot, or null
        insn(op::JUMP_EQUAL, 0, 0, 9, 0),              // not ours: pass
        insn(op::LOAD_WORD, 2, 0, 0, 0),               // r2 = first slot; 0 in the array is not ours
        insn(op::JUMP_EQUAL, 2, 0, 7, 0),
        insn(op::LOAD_WORD, 3, 6, RX_QUEUE_INDEX, 0),  // r2 += ctx->rx_queue_index
        insn(op::ADD, 2, 3, 0, 0),
        insn(op::LOAD_IMM64, 1, MAP_FD, 0, xsks),      // r1 = xsks (two slots)
        insn(0, 0, 0, 0, 0),
        insn(op::MOVE_IMM, 3, 0, 0, XDP_PASS),         // without a socket: pass
        insn(op::CALL, 0, 0, 0, REDIRECT_MAP),
        insn(op::EXIT, 0, 0, 0, 0),
        insn(op::MOVE_IMM, 0, 0, 0, XDP_PASS),
        insn(op::EXIT, 0, 0, 0, 0),
    ]
}

/// Why the program could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    /// A map or the program was refused at start.
    #[error("cannot create the {what}: {source}; the kernel must be 5.15 or later and allow bpf(2) to this process")]
    Create {
        /// Map or program.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// More queues than [`SLOTS`].
    #[error("no room for {queues} more receive queues: detach some of the other ports first")]
    Full {
        /// Queues asked for.
        queues: u32,
    },
    /// A system call on a map or link.
    #[error("{what}: {source}")]
    Call {
        /// The operation.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The loaded program and its maps. Shared by the factory and every attachment.
pub(super) struct Program {
    program: OwnedFd,
    ports: PortMaps,
    xsks: OwnedFd,
    /// Loaded with the multi-buffer flag.
    pub(super) frags: bool,
    slots: Mutex<Slots>,
}

impl Program {
    /// Creates the maps and loads the program: with support for multi-buffer frames if that is `wanted` and the
    /// kernel has it (5.18).
    pub(super) fn load(wanted: bool) -> Result<Program, ProgramError> {
        let ports = PortMaps::create()?;
        let xsks = create_map("socket map", c"switchd_xsks", sys::bpf_map_type_BPF_MAP_TYPE_XSKMAP, SLOTS + 1)?;
        let table = instructions(ports.direct.as_raw_fd(), ports.hashed.as_raw_fd(), xsks.as_raw_fd());
        let loaded = load_program(&table, if wanted { sys::BPF_F_XDP_HAS_FRAGS } else { 0 });
        let loaded = match loaded {
            Err(error) if wanted && error.raw_os_error() == Some(libc::EINVAL) => {
                load_program(&table, 0).map(|program| (program, false))
            }
            other => other.map(|program| (program, wanted)),
        };
        let (program, frags) = loaded.map_err(|source| ProgramError::Create { what: "XDP program", source })?;
        Ok(Program { program, ports, xsks, frags, slots: Mutex::new(Slots::default()) })
    }

    /// Connects the sockets of interface `ifindex`, one per receive queue in order, and attaches the program to it
    /// in native mode. Dropping the result undoes both. The error of the attach itself is `Err(Err(errno))`,
    /// for the caller to explain.
    pub(super) fn attach(
        self: &Arc<Program>,
        ifindex: u32,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<Result<Link, io::Error>, ProgramError> {
        let queues = sockets.len() as u32;
        let base = self.slots().take(queues).ok_or(ProgramError::Full { queues })?;
        // Undoes what follows if any of it fails.
        let mut link = Link { program: Arc::clone(self), ifindex, base, queues, link: None };
        for (slot, socket) in (base..).zip(sockets) {
            map_set(&self.xsks, slot, socket.as_raw_fd() as u32)
                .map_err(|source| ProgramError::Call { what: "cannot enter a socket in the socket map", source })?;
        }
        self.slots().owners.insert(ifindex, base);
        self.ports
            .set(ifindex, base)
            .map_err(|source| ProgramError::Call { what: "cannot enter the interface in the port map", source })?;
        match create_link(&self.program, ifindex) {
            Ok(fd) => link.link = Some(fd),
            Err(error) => return Ok(Err(error)),
        }
        Ok(Ok(link))
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The two maps from interface index to first slot.
struct PortMaps {
    direct: OwnedFd,
    hashed: OwnedFd,
}

impl PortMaps {
    fn create() -> Result<PortMaps, ProgramError> {
        let (array, hash) = (sys::bpf_map_type_BPF_MAP_TYPE_ARRAY, sys::bpf_map_type_BPF_MAP_TYPE_HASH);
        let direct = create_map("port map", c"switchd_direct", array, DIRECT_INDEXES)?;
        let hashed = create_map("port map", c"switchd_hashed", hash, PORTS_MAX as u32)?;
        Ok(PortMaps { direct, hashed })
    }

    fn set(&self, ifindex: u32, first: u32) -> io::Result<()> {
        map_set(if ifindex < DIRECT_INDEXES { &self.direct } else { &self.hashed }, ifindex, first)
    }

    /// Entries of an array cannot be deleted; 0 says "no port" there.
    fn clear(&self, ifindex: u32) -> io::Result<()> {
        if ifindex < DIRECT_INDEXES { map_set(&self.direct, ifindex, 0) } else { map_delete(&self.hashed, ifindex) }
    }
}

/// An attached interface; detaches when dropped, as it does when the process ends in any way.
pub(super) struct Link {
    program: Arc<Program>,
    ifindex: u32,
    base: u32,
    queues: u32,
    link: Option<OwnedFd>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // First the program, so that no frame looks for slots that are no longer there. Detached by name, since
        // closing the descriptor waits for a copy that a process being spawned holds until its exec.
        if let Some(link) = self.link.take() {
            // SAFETY: plain system call on our own descriptor. It fails if the interface is gone, which detached it.
            unsafe { sys::bpf_link_detach(link.as_raw_fd()) };
        }
        // Entries can be gone already: the kernel takes closed sockets out of the map itself.
        let mut slots = self.program.slots();
        // An interface made meanwhile may have been given the same index, and be served already.
        if slots.owners.get(&self.ifindex) == Some(&self.base) {
            slots.owners.remove(&self.ifindex);
            let _ = self.program.ports.clear(self.ifindex);
        }
        drop(slots);
        for slot in self.base..self.base + self.queues {
            let _ = map_delete(&self.program.xsks, slot);
        }
        self.program.slots().give(self.base, self.queues);
    }
}

/// The free ranges of the socket map: first slot (from 1) to length, never adjacent.
struct Slots {
    free: BTreeMap<u32, u32>,
    /// First slot of each interface, by interface index.
    owners: BTreeMap<u32, u32>,
}

impl Default for Slots {
    fn default() -> Slots {
        Slots { free: BTreeMap::from([(1, SLOTS)]), owners: BTreeMap::new() }
    }
}

impl Slots {
    /// `count` consecutive slots, from the first range that has them.
    fn take(&mut self, count: u32) -> Option<u32> {
        let (&base, &len) = self.free.iter().find(|&(_, &len)| len >= count)?;
        self.free.remove(&base);
        if len > count {
            self.free.insert(base + count, len - count);
        }
        Some(base)
    }

    /// Gives a range back and joins it with its neighbours.
    fn give(&mut self, mut base: u32, mut count: u32) {
        if let Some(after) = self.free.remove(&(base + count)) {
            count += after;
        }
        if let Some((&before, &len)) = self.free.range(..base).next_back()
            && before + len == base
        {
            base = before;
            count += len;
        }
        self.free.insert(base, count);
    }
}

/// libbpf's low-level calls return a negative errno, or a descriptor.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn owned(result: i32) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create_map(what: &'static str, name: &CStr, kind: sys::bpf_map_type, entries: u32) -> Result<OwnedFd, ProgramError> {
    // SAFETY: the name is a C string, keys and values are 4 bytes, and no options are given.
    let fd = unsafe { sys::bpf_map_create(kind, name.as_ptr(), 4, 4, entries, std::ptr::null()) };
    owned(fd).map_err(|source| ProgramError::Create { what, source })
}

fn load_program(table: &[Insn], flags: u32) -> io::Result<OwnedFd> {
    let insns: Vec<sys::bpf_insn> = table.iter().map(kernel_insn).collect();
    // SAFETY: plain data with no invalid patterns; zero means "not given" for every option.
    let mut options: sys::bpf_prog_load_opts = unsafe { std::mem::zeroed() };
    options.sz = size_of::<sys::bpf_prog_load_opts>();
    options.prog_flags = flags;
    options.expected_attach_type = sys::bpf_attach_type_BPF_XDP;
    let kind = sys::bpf_prog_type_BPF_PROG_TYPE_XDP;
    // SAFETY: names are C strings, the instructions and options outlive the call.
    let fd = unsafe {
        sys::bpf_prog_load(kind, c"switchd".as_ptr(), c"MIT".as_ptr(), insns.as_ptr(), insns.len(), &mut options)
    };
    owned(fd)
}

fn kernel_insn(insn: &Insn) -> sys::bpf_insn {
    let mut raw = sys::bpf_insn {
        code: insn.code,
        _bitfield_align_1: [],
        _bitfield_1: Default::default(),
        off: insn.off,
        imm: insn.imm,
    };
    raw.set_dst_reg(insn.dst);
    raw.set_src_reg(insn.src);
    raw
}

fn create_link(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain data with no invalid patterns; zero means "not given" for every option.
    let mut options: sys::bpf_link_create_opts = unsafe { std::mem::zeroed() };
    options.sz = size_of::<sys::bpf_link_create_opts>();
    options.flags = XDP_FLAGS_DRV_MODE;
    let target = i32::try_from(ifindex).map_err(io::Error::other)?;
    // SAFETY: the options outlive the call.
    owned(unsafe { sys::bpf_link_create(program.as_raw_fd(), target, sys::bpf_attach_type_BPF_XDP, &options) })
}

/// The id of the XDP program on an interface, whoever attached it.
pub(super) fn attached_program(ifindex: u32) -> Option<u32> {
    let mut id = 0;
    // SAFETY: `id` outlives the call.
    check(unsafe { sys::bpf_xdp_query_id(i32::try_from(ifindex).ok()?, 0, &mut id) }).ok()?;
    (id != 0).then_some(id)
}

fn map_set(map: &OwnedFd, key: u32, value: u32) -> io::Result<()> {
    let (key, value) = (std::ptr::from_ref(&key).cast(), std::ptr::from_ref(&value).cast());
    // SAFETY: keys and values of both maps are 4 bytes; the kernel reads them during the call.
    check(unsafe { sys::bpf_map_update_elem(map.as_raw_fd(), key, value, 0) }).map(drop)
}

fn map_delete(map: &OwnedFd, key: u32) -> io::Result<()> {
    // SAFETY: keys of both maps are 4 bytes; the kernel reads it during the call.
    check(unsafe { sys::bpf_map_delete_elem(map.as_raw_fd(), std::ptr::from_ref(&key).cast()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One instruction in the notation of `bpftool prog dump xlated`.
    fn disassemble(insn: &Insn) -> String {
        let Insn { code, dst, src, off, imm } = *insn;
        match code {
            op::MOVE => format!("r{dst} = r{src}"),
            op::MOVE_IMM => format!("r{dst} = {imm}"),
            op::ADD => format!("r{dst} += r{src}"),
            op::ADD_IMM => format!("r{dst} += {imm}"),
            op::LOAD_WORD => format!("r{dst} = *(u32 *)(r{src} {off:+})"),
            op::STORE_WORD => format!("*(u32 *)(r{dst} {off:+}) = r{src}"),
            op::LOAD_IMM64 => format!("r{dst} = map[fd:{imm}]"),
            op::JUMP_EQUAL => format!("if r{dst} == {imm} goto pc{off:+}"),
            op::JUMP_AT_LEAST => format!("if r{dst} >= {imm} goto pc{off:+}"),
            op::JUMP => format!("goto pc{off:+}"),
            op::CALL => format!("call #{imm}"),
            op::EXIT => "exit".to_string(),
            0 => "-".to_string(),
            _ => format!("? {insn:?}"),
        }
    }

    #[test]
    fn the_program_reads_as_intended() {
        let text: Vec<String> = instructions(7, 8, 9).iter().map(disassemble).collect();
        let expected = "\
r6 = r1
r3 = *(u32 *)(r1 +12)
*(u32 *)(r10 -4) = r3
r2 = r10
r2 += -4
if r3 >= 65536 goto pc+4
r1 = map[fd:7]
-
call #1
goto pc+3
r1 = map[fd:8]
-
call #1
if r0 == 0 goto pc+9
r2 = *(u32 *)(r0 +0)
if r2 == 0 goto pc+7
r3 = *(u32 *)(r6 +16)
r2 += r3
r1 = map[fd:9]
-
r3 = 2
call #51
exit
r0 = 2
exit";
        assert_eq!(text.join("\n"), expected);
    }

    #[test]
    fn instructions_have_the_kernels_layout() {
        let raw = kernel_insn(&insn(op::LOAD_WORD, 3, 6, 16, -2));
        assert_eq!((raw.code, raw.dst_reg(), raw.src_reg(), raw.off, raw.imm), (0x61, 3, 6, 16, -2));
    }

    #[test]
    fn slots_are_reused_and_joined() {
        let mut slots = Slots::default();
        let first = slots.take(4).unwrap();
        let second = slots.take(1).unwrap();
        let third = slots.take(2).unwrap();
        assert_eq!((first, second, third), (1, 5, 6));
        slots.give(second, 1);
        assert_eq!(slots.take(1), Some(5));
        slots.give(first, 4);
        slots.give(third, 2);
        slots.give(5, 1);
        assert_eq!(slots.free, BTreeMap::from([(1, SLOTS)]));
        assert_eq!(slots.take(SLOTS + 1), None);
        assert_eq!(slots.take(SLOTS), Some(1));
        assert_eq!(slots.take(1), None);
    }
}
