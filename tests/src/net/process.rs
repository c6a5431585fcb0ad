//! Programs that tests run or keep running. Kept ones are killed by process id when dropped; any thread.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::stretched;

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; -1 for an end by signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn output(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Runs a program that must succeed; its standard output.
///
/// # Panics
/// When it fails, with what it said.
pub fn must(program: &str, args: &[&str]) -> String {
    let done = output(Command::new(program).args(args));
    assert!(done.code == 0, "{program} {} ended with {}: {}", args.join(" "), done.code, done.stderr.trim());
    done.stdout
}

/// Runs a program that must succeed with `input` on its standard input.
///
/// # Panics
/// When it fails, with what it said.
pub fn must_with_input(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {program}: {e}"));
    // Dropping the pipe is what ends the program's input; a program that ended early is told by its status.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    let done = child.wait_with_output().expect("a started child can be waited for");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {} failed: {}\n{input}", args.join(" "), said.trim());
}

/// True where a program of this name is on the PATH.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A program that runs beside the test. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stderr: PathBuf,
}

impl Process {
    /// Starts it; standard error goes to the file `stderr`, which is created or emptied.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command, stderr: &Path) -> Process {
        let file = File::create(stderr).unwrap_or_else(|e| panic!("cannot create {}: {e}", stderr.display()));
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Process { child, stderr: stderr.to_owned() }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a started child can be asked for")
    }

    /// Sends a signal; one to a process that has ended does nothing.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // The child has not been reaped (that takes `&mut self`), so the id is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it still runs after `limit`, stretched, with what it said.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let (start, limit) = (Instant::now(), stretched(limit));
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let pid = self.pid();
            assert!(start.elapsed() < limit, "process {pid} still runs after {limit:?}:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Time its threads ran on a processor so far, in user space and in the kernel.
    pub fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        // Nanoseconds on a processor: the first field of schedstat (Documentation/scheduler/sched-stats.rst).
        let run_ns = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(run_ns.sum())
    }

    /// Resident memory of its own in bytes: without mapped files, of which the kernel keeps as much as it likes, and
    /// exact, unlike VmRSS, which older kernels count for each thread in batches.
    pub fn resident_bytes(&self) -> u64 {
        let sums = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap_or_default();
        kib_after(&sums, "Anonymous:") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory of the kernel: vmalloc areas and slabs, in bytes. Counts the whole machine, so compare over short times.
pub fn kernel_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (kib_after(&info, "VmallocUsed:") + kib_after(&info, "Slab:")) * 1024
}

/// The number after `key` in text like `/proc/meminfo`; 0 where there is none.
fn kib_after(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Calls `look` every few milliseconds until it finds something.
///
/// # Panics
/// When `limit`, stretched, has passed first; `what` names the thing that did not happen.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let (start, limit) = (Instant::now(), stretched(limit));
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "did not happen within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Keeps the calling thread, and threads that it starts, on one core until dropped.
pub struct OnCore(CpuSet);

impl OnCore {
    /// On this core.
    ///
    /// # Panics
    /// When the thread may not run there.
    pub fn new(core: usize) -> OnCore {
        let before = sched_getaffinity(None).expect("the thread has cores");
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one).unwrap_or_else(|e| panic!("cannot run on core {core}: {e}"));
        OnCore(before)
    }

    /// True if the calling thread may run on this core.
    pub fn may_be(core: usize) -> bool {
        sched_getaffinity(None).is_ok_and(|cores| cores.is_set(core))
    }

    /// On the first core that it may use.
    ///
    /// # Panics
    /// When it may use none.
    pub fn first() -> OnCore {
        let cores = sched_getaffinity(None).expect("the thread has cores");
        OnCore::new((0..CpuSet::MAX_CPU).find(|core| cores.is_set(*core)).expect("a core"))
    }
}

impl Drop for OnCore {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_after_its_key() {
        let text = "Slab:  1200 kB\nVmallocUsed:\t  34 kB\n";
        assert_eq!((kib_after(text, "VmallocUsed:"), kib_after(text, "Slab:"), kib_after(text, "X:")), (34, 1200, 0));
    }

    #[test]
    fn a_program_reports_code_and_text() {
        let done = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", "err\n"));
    }

    #[test]
    fn a_kept_program_is_gone_after_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let process = Process::start(command, &dir.path().join("stderr"));
        let path = format!("/proc/{}", process.pid());
        assert!(Path::new(&path).exists() && process.resident_bytes() > 0);
        drop(process);
        assert!(!Path::new(&path).exists());
    }
}
