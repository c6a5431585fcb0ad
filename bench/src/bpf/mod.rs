//! Maps, programs and links of the kernel's BPF, by way of libbpf: what the sink and the flood load need, no more.
//! Everything made here is gone when the last descriptor of it is closed, also when the process is killed; a filter on
//! an old kernel goes with its interface.
//!
//! With [`crate::load`] the only place of the rig with unsafe code: every function of libbpf is foreign.

pub mod asm;

use asm::Insn;
use libxdp_sys as sys;
use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `BPF_TCX_INGRESS` (enum bpf_attach_type): programs in front of the ingress qdisc and of netfilter's ingress hook.
const BPF_TCX_INGRESS: sys::bpf_attach_type = 46;
/// Room for what the kernel's verifier says about a program it refuses, bytes.
const LOG_SIZE: usize = 1 << 18;

/// Kind of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs on frames before the kernel makes an skb of them.
    Xdp,
    /// Runs on skbs at an interface's ingress.
    Tcx,
}

/// A map with a single entry whose value is a row of 64-bit words: one row for all processors, or one for each.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    words: usize,
    /// Rows: processors the machine can have, or 1.
    rows: usize,
}

impl Map {
    /// One row that all processors share; programs may address it directly.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shared(name: &CStr, words: usize) -> io::Result<Self> {
        let fd = create_map(sys::bpf_map_type_BPF_MAP_TYPE_ARRAY, name, words)?;
        Ok(Map { fd, words, rows: 1 })
    }

    /// One row for each processor.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn per_cpu(name: &CStr, words: usize) -> io::Result<Self> {
        let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
        let rows = processors(&list).ok_or_else(|| io::Error::other(format!("no list of processors: {list}")))?;
        let fd = create_map(sys::bpf_map_type_BPF_MAP_TYPE_PERCPU_ARRAY, name, words)?;
        Ok(Map { fd, words, rows })
    }

    /// Its descriptor, to be named in a program.
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// All rows, one after the other.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self) -> io::Result<Vec<u64>> {
        let mut values = vec![0u64; self.words * self.rows];
        let key = 0u32;
        // SAFETY: the key has 4 bytes; the kernel writes `rows` values of `words` 8-byte words each, which is the size
        // of the vector.
        let answer = unsafe { sys::bpf_map_lookup_elem(self.fd(), pointer(&key), values.as_mut_ptr().cast()) };
        check(answer).map(|_| values)
    }

    /// Writes `row` for every processor; what it lacks to a full row is zero.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, row: &[u64]) -> io::Result<()> {
        let mut full = row.to_vec();
        full.resize(self.words, 0);
        let values = full.repeat(self.rows);
        let key = 0u32;
        // SAFETY: the key has 4 bytes; the kernel reads `rows` values of `words` words, which the vector has.
        check(unsafe { sys::bpf_map_update_elem(self.fd(), pointer(&key), values.as_ptr().cast(), 0) }).map(drop)
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program.
    ///
    /// # Errors
    /// The kernel's error, with the end of what its verifier says.
    pub fn load(kind: Kind, name: &CStr, code: &[Insn]) -> io::Result<Self> {
        let (prog_type, attach_type) = match kind {
            Kind::Xdp => (sys::bpf_prog_type_BPF_PROG_TYPE_XDP, sys::bpf_attach_type_BPF_XDP),
            Kind::Tcx => (sys::bpf_prog_type_BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS),
        };
        let insns: Vec<sys::bpf_insn> = code.iter().map(kernel_insn).collect();
        let load = |log: &mut [u8]| {
            // SAFETY: plain data with no invalid patterns; zero means "not given" for every option.
            let mut options: sys::bpf_prog_load_opts = unsafe { std::mem::zeroed() };
            options.sz = size_of::<sys::bpf_prog_load_opts>();
            options.expected_attach_type = attach_type;
            if !log.is_empty() {
                (options.log_buf, options.log_size, options.log_level) = (log.as_mut_ptr().cast(), log.len() as u32, 1);
            }
            let (license, insns, count) = (c"Dual MIT/GPL".as_ptr(), insns.as_ptr(), insns.len());
            // SAFETY: names are C strings; instructions, options and the log outlive the call, their lengths are given.
            owned(unsafe { sys::bpf_prog_load(prog_type, name.as_ptr(), license, insns, count, &mut options) })
        };
        load(&mut []).map(Program).map_err(|error| {
            let mut log = vec![0u8; LOG_SIZE];
            // Only for the verifier's words; the error is that of the first try.
            let _ = load(&mut log);
            let text = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(4).collect();
            if tail.is_empty() {
                return error;
            }
            io::Error::new(error.kind(), format!("{error}; {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | ")))
        })
    }

    /// Attaches a program of kind [`Kind::Tcx`] to the ingress of an interface of the calling thread's namespace: until
    /// the link is dropped, or, on kernels before 6.6, which know no tcx, as a filter that goes with the interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach(&self, index: u32) -> io::Result<Link> {
        // SAFETY: plain data with no invalid patterns; zero means "not given" for every option.
        let mut options: sys::bpf_link_create_opts = unsafe { std::mem::zeroed() };
        options.sz = size_of::<sys::bpf_link_create_opts>();
        // SAFETY: the options outlive the call.
        let fd = unsafe { sys::bpf_link_create(self.0.as_raw_fd(), index.cast_signed(), BPF_TCX_INGRESS, &options) };
        match owned(fd) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.attach_filter(index).map(|()| Link(None)),
            link => link.map(|fd| Link(Some(fd))),
        }
    }

    /// Attaches it as a direct-action filter of the `clsact` queueing discipline, which is made for it.
    fn attach_filter(&self, index: u32) -> io::Result<()> {
        // SAFETY: plain data with no invalid patterns. Zeroed, not built: libbpf refuses padding that is not 0.
        let (mut hook, mut options): (sys::bpf_tc_hook, sys::bpf_tc_opts) = unsafe { std::mem::zeroed() };
        hook.sz = size_of::<sys::bpf_tc_hook>();
        hook.ifindex = index.cast_signed();
        hook.attach_point = sys::bpf_tc_attach_point_BPF_TC_INGRESS;
        options.sz = size_of::<sys::bpf_tc_opts>();
        options.prog_fd = self.0.as_raw_fd();
        (options.handle, options.priority) = (1, 1);
        // SAFETY: the hook outlives the call and says its size.
        match check(unsafe { sys::bpf_tc_hook_create(&mut hook) }) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        // SAFETY: hook and options outlive the call and say their sizes.
        check(unsafe { sys::bpf_tc_attach(&hook, &mut options) }).map(drop)
    }

    /// Runs it once over `frame`, which becomes what the program makes of it, and returns its verdict. No frame goes
    /// anywhere, whatever the verdict.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&self, frame: &mut [u8]) -> io::Result<u32> {
        let mut options = run_options(frame);
        (options.data_out, options.data_size_out) = (frame.as_mut_ptr().cast(), frame.len() as u32);
        options.repeat = 1;
        // SAFETY: the frame outlives the call and its length is given; the kernel reads all of it before it writes.
        check(unsafe { sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &mut options) })?;
        Ok(options.retval)
    }

    /// Runs a program of kind [`Kind::Xdp`] over `repeat` live frames, each a copy of `frame` at first, `batch` between
    /// two flushes, and sends them where it says. What the program changes in a frame stays when the frame comes again.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run_live(&self, frame: &[u8], repeat: i32, batch: u32) -> io::Result<()> {
        let mut options = run_options(frame);
        (options.repeat, options.batch_size) = (repeat, batch);
        options.flags = sys::BPF_F_TEST_XDP_LIVE_FRAMES;
        // SAFETY: the frame outlives the call, its length is given, the kernel only reads it; no output is asked for.
        check(unsafe { sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &mut options) }).map(drop)
    }
}

/// Options of a test run over `frame`.
fn run_options(frame: &[u8]) -> sys::bpf_test_run_opts {
    // SAFETY: plain data with no invalid patterns; zero means "not given" for every option.
    let mut options: sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    options.sz = size_of::<sys::bpf_test_run_opts>();
    (options.data_in, options.data_size_in) = (frame.as_ptr().cast(), frame.len() as u32);
    options
}

/// An attached program; dropping it detaches, unless it is a filter.
#[derive(Debug)]
pub struct Link(Option<OwnedFd>);

impl Drop for Link {
    fn drop(&mut self) {
        let Some(link) = &self.0 else { return };
        // By name, since closing the descriptor waits for copies that a process being spawned may hold.
        // SAFETY: plain call on our own descriptor. It fails when the interface is gone, which detached it.
        unsafe { sys::bpf_link_detach(link.as_raw_fd()) };
    }
}

fn create_map(kind: sys::bpf_map_type, name: &CStr, words: usize) -> io::Result<OwnedFd> {
    let size = u32::try_from(words * size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the name is a C string; no options are given.
    owned(unsafe { sys::bpf_map_create(kind, name.as_ptr(), 4, size, 1, std::ptr::null()) })
}

/// Number of processors in a list like `0-3,8` (cpuset(7), "Formats").
fn processors(list: &str) -> Option<usize> {
    let count = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.parse::<usize>().ok()? + 1).checked_sub(first.parse().ok()?)
    };
    list.trim().split(',').map(count).sum()
}

fn pointer(key: &u32) -> *const c_void {
    std::ptr::from_ref(key).cast()
}

/// libbpf's low-level calls return a negative errno, or what was asked for.
fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(answer) }
}

fn owned(answer: i32) -> io::Result<OwnedFd> {
    let fd = check(answer)?;
    // SAFETY: the call just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        for (list, count) in [("0-1\n", Some(2)), ("0", Some(1)), ("0-3,8,10-11\n", Some(7)), ("", None), ("3-1", None)]
        {
            assert_eq!(processors(list), count, "{list}");
        }
    }

    #[test]
    fn instructions_have_the_kernels_layout() {
        let raw = kernel_insn(&Insn { code: 0x61, dst: 3, src: 6, off: 16, imm: -2 });
        assert_eq!((raw.code, raw.dst_reg(), raw.src_reg(), raw.off, raw.imm), (0x61, 3, 6, 16, -2));
    }
}
