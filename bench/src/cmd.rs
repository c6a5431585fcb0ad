//! Helper programs: short ones run to their end, long ones held by a guard that ends them by process id.
//! Called by the rig, the devices and the TCP test, on the main thread.

use crate::error::{Error, Result};
use crate::stop::Stop;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where and how a helper program runs. Built up with the chained setters, then [`run`](Self::run) or
/// [`spawn`](Self::spawn).
#[derive(Clone, Debug, Default)]
pub struct Cmd {
    words: Vec<String>,
    env: Vec<(String, String)>,
    netns: Option<String>,
    core: Option<usize>,
    nice: Option<i32>,
}

/// Makes a [`Cmd`] from a program and its arguments.
pub fn cmd<I, S>(words: I) -> Cmd
where
    I: IntoIterator<Item = S>,
    S: Into<String>,
{
    Cmd { words: words.into_iter().map(Into::into).collect(), ..Cmd::default() }
}

impl Cmd {
    /// Runs it inside the named network namespace, with a /sys that shows that namespace.
    pub fn in_netns(mut self, name: &str) -> Self {
        self.netns = Some(name.to_owned());
        self
    }

    /// Lets it run on this core only (its threads may choose others for themselves).
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Gives it this niceness (-20 is the most favoured).
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// The full argument vector. Every wrapper replaces itself with the next one, so the process id of the first is the
    /// process id of the program itself.
    fn argv(&self) -> Vec<String> {
        let mut argv: Vec<String> = Vec::new();
        let mut wrap = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
        if let Some(name) = &self.netns {
            wrap(&["ip", "netns", "exec", name]);
        }
        if let Some(core) = self.core {
            wrap(&["taskset", "-c", &core.to_string()]);
        }
        if let Some(nice) = self.nice {
            wrap(&["nice", "-n", &nice.to_string()]);
        }
        argv.extend(self.words.iter().cloned());
        argv
    }

    fn command(&self, argv: &[String]) -> Command {
        let mut command = Command::new(argv.first().map_or("", String::as_str));
        command.args(argv.iter().skip(1)).envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs it to its end and returns what it wrote on stdout.
    ///
    /// # Errors
    /// [`Error::Command`] when it cannot be started or does not exit with 0; carries its stderr.
    pub fn run(&self) -> Result<String> {
        let argv = self.argv();
        let fail = |why: String| Error::Command { command: argv.join(" "), why };
        let out = self.command(&argv).stdin(Stdio::null()).output().map_err(|e| fail(e.to_string()))?;
        if !out.status.success() {
            return Err(fail(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim())));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Starts it in the background with stdout and stderr going to the file `log`. Call it from the main thread: the
    /// kernel is asked to kill the program when the starting thread ends, so that it cannot outlive the rig.
    ///
    /// # Errors
    /// [`Error::Io`] for the log file, [`Error::Command`] when it cannot be started.
    pub fn spawn(&self, log: &Path) -> Result<Process> {
        // A session of its own, so that a Ctrl-C meant for the rig does not race with the rig's own clean-up.
        let mut argv = ["setsid", "setpriv", "--pdeathsig", "KILL"].map(str::to_owned).to_vec();
        argv.extend(self.argv());
        let file = File::create(log).map_err(|e| Error::io(format!("create {}", log.display()), e))?;
        let file2 = file.try_clone().map_err(|e| Error::io(format!("clone {}", log.display()), e))?;
        let child = self
            .command(&argv)
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(file2)
            .spawn()
            .map_err(|e| Error::Command { command: argv.join(" "), why: e.to_string() })?;
        let process = Process { child, log: log.to_owned() };
        if let Some(nice) = self.nice {
            process.favour_session(nice);
        }
        Ok(process)
    }
}

/// A program in the background. Dropping it ends it: SIGTERM, five seconds of patience, SIGKILL; by process id.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where the kernel groups tasks by session (sched(7), "The autogroup feature"), niceness counts only inside the
    /// group; the group's own is set here. Nothing to do on other kernels.
    fn favour_session(&self, nice: i32) {
        let session = || std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok();
        let own = self.id().to_string();
        // The child becomes the leader of its session a moment after it was started.
        let deadline = Instant::now() + Duration::from_secs(1);
        while session().and_then(|stat| session_of(&stat)).is_some_and(|id| id != own) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = std::fs::write(format!("/proc/{}/autogroup", self.id()), nice.to_string());
    }

    /// Exit status when it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end and returns its stdout and stderr.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or [`Error::Command`] when it fails or needs longer than `limit`.
    pub fn wait(mut self, limit: Duration, stop: &Stop) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            stop.check()?;
            let text = || std::fs::read_to_string(&self.log).unwrap_or_default();
            let fail = |why| Err(Error::Command { command: format!("process logging to {}", self.log.display()), why });
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(text()),
                Ok(Some(status)) => return fail(format!("{status}: {}", self.log_tail())),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => return fail(format!("still running after {} s", limit.as_secs())),
                Err(e) => return fail(e.to_string()),
            }
        }
    }

    /// The last lines it wrote.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32)
            && self.ended().is_none()
        {
            // Closing stdin first: some programs read commands there and leave at its end.
            drop(self.child.stdin.take());
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.ended().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Session id in a line of /proc/PID/stat (proc(5), the fourth field after the name).
fn session_of(stat: &str) -> Option<String> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(3).map(str::to_owned)
}

/// Whether a program of this name is found on PATH or in the system directories that a user's PATH may lack.
pub fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_come_in_the_order_that_keeps_the_process_id() {
        let c = cmd(["prog", "-x"]).nice(-20).on_core(1).in_netns("n");
        assert_eq!(c.argv().join(" "), "ip netns exec n taskset -c 1 nice -n -20 prog -x");
    }

    #[test]
    fn a_failing_command_reports_its_stderr() {
        let err = cmd(["sh", "-c", "echo broken >&2; exit 3"]).run().unwrap_err().to_string();
        assert!(err.contains("broken") && err.contains('3'), "{err}");
        assert_eq!(cmd(["echo", "fine"]).run().unwrap(), "fine\n");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let log = std::env::temp_dir().join(format!("swbench-test-{}.log", std::process::id()));
        let process = cmd(["sleep", "60"]).spawn(&log).unwrap();
        let pid = Pid::from_raw(process.id() as i32).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(process);
        assert!(rustix::process::test_kill_process(pid).is_err());
        let _ = std::fs::remove_file(log);
    }

    #[test]
    fn a_background_process_leads_its_session() {
        assert_eq!(session_of("12 (a) b) S 1 12 77 0 -1").as_deref(), Some("77"));
        let log = std::env::temp_dir().join(format!("swbench-test-session-{}.log", std::process::id()));
        let process = cmd(["sleep", "60"]).nice(0).spawn(&log).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        assert_eq!(session_of(&stat), Some(process.id().to_string()));
        drop(process);
        let _ = std::fs::remove_file(log);
    }

    #[test]
    fn waiting_returns_the_output_or_the_failure() {
        let log = std::env::temp_dir().join(format!("swbench-test-wait-{}.log", std::process::id()));
        let stop = Stop::default();
        let good = cmd(["echo", "out"]).spawn(&log).unwrap();
        assert_eq!(good.wait(Duration::from_secs(10), &stop).unwrap(), "out\n");
        let slow = cmd(["sleep", "60"]).spawn(&log).unwrap();
        assert!(slow.wait(Duration::from_millis(50), &stop).unwrap_err().to_string().contains("still running"));
        let _ = std::fs::remove_file(log);
    }

    #[test]
    fn only_existing_programs_are_installed() {
        assert!(installed("sh"));
        assert!(!installed("no-such-program-of-anyone"));
    }
}
