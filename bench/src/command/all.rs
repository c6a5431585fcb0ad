//! `swbench all`: every test, one after another, then the report. Each test is a process of its own, so that one that
//! dies takes no other with it and its file names the command that made it. Main thread.

use super::report;
use crate::cli::All;
use bench::device::Kind;
use bench::error::{Error, Result};
use bench::publish::Results;
use bench::stop::Stop;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Trials per device, whole and quick.
const RUNS: [u16; 2] = [5, 3];
/// Seconds that a test takes per device to collect the facts.
const FACTS_SECONDS: f64 = 2.0;

/// A test of the campaign.
struct Test {
    /// Name of its file.
    name: &'static str,
    /// Its command line, whole.
    whole: &'static str,
    /// The same with --quick.
    quick: &'static str,
    /// About how many seconds it takes per device and run, whole and quick; for the estimate only.
    seconds: [f64; 2],
}

const fn test(name: &'static str, whole: &'static str, quick: &'static str, seconds: [f64; 2]) -> Test {
    Test { name, whole, quick, seconds }
}

/// All tests, in the order in which they run. With --quick a rate may lose 0.5 %: on a machine that is not idle no rate
/// may be without loss.
const TESTS: &[Test] = &[
    test("run", "run --seconds 2 --size rfc2544,imix", "run --seconds 1 --size 60,1514", [45.0, 8.0]),
    test("ndr", "ndr", "ndr --loss-percent 0.5 --seconds 1 --verify 1 --verify-seconds 2", [400.0, 25.0]),
    test("latency", "latency", "latency --loss-percent 0.5 --seconds 1", [45.0, 15.0]),
    test("overload", "overload", "overload --loss-percent 0.5 --seconds 1", [40.0, 20.0]),
    test("tcp", "tcp --seconds 3 --mtu 1500,9000,60000 --streams 1,16", "tcp --seconds 1 --streams 1,16", [30.0, 5.0]),
    test("rtt", "rtt", "rtt --count 2000", [6.0, 5.0]),
    test("flooding", "flooding", "flooding --seconds 1", [15.0, 9.0]),
    test("mesh", "mesh", "mesh --seconds 1", [6.0, 4.0]),
    test("learning", "learning", "learning --most 16384", [120.0, 60.0]),
    test("addresses", "addresses", "addresses --seconds 1 --counts 1,1000,64000", [60.0, 15.0]),
    test("idle", "idle", "idle --ports 16 --wakeups 10", [150.0, 20.0]),
    test("disturb", "disturb", "disturb --loss-percent 0.5 --seconds 1", [40.0, 25.0]),
];

impl Test {
    /// Where its result is.
    fn file(&self, out: &Path) -> PathBuf {
        out.join(format!("{}.json", self.name))
    }

    /// Arguments of swbench that run it.
    fn words(&self, options: &All) -> Vec<String> {
        let own = if options.quick { self.quick } else { self.whole };
        let mut words: Vec<String> = own.split(' ').map(str::to_owned).collect();
        let names: Vec<&str> = options.devices.iter().map(|kind| kind.name()).collect();
        let mut give = |option: &str, value: String| words.extend([option.to_owned(), value]);
        give("--devices", names.join(","));
        give("--runs", runs(options).to_string());
        give("--device-core", options.device_core.to_string());
        give("--traffic-core", options.traffic_core.to_string());
        if let Some(switchd) = &options.switchd {
            give("--switchd", switchd.display().to_string());
        }
        give("--json", self.file(&options.out).display().to_string());
        words
    }

    /// About how long it takes with so many devices.
    fn estimate(&self, options: &All, devices: usize) -> Duration {
        let seconds = self.seconds[usize::from(options.quick)];
        Duration::from_secs_f64(devices as f64 * (FACTS_SECONDS + seconds * f64::from(runs(options))))
    }
}

fn runs(options: &All) -> u16 {
    options.runs.unwrap_or(RUNS[usize::from(options.quick)])
}

/// Whether a name is that of a test.
pub fn named(name: &str) -> std::result::Result<String, String> {
    let names: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
    if names.contains(&name) { Ok(name.to_owned()) } else { Err(format!("give some of {}", names.join(", "))) }
}

/// Runs the tests that were asked for and writes the report of all that there is in the directory.
///
/// # Errors
/// [`Error::Tests`] when some failed; the others have run. [`Error::Interrupted`]; [`Error::Io`] for the directory.
pub fn run(options: &All, stop: &Stop) -> Result<()> {
    std::fs::create_dir_all(&options.out).map_err(|e| Error::io(format!("create {}", options.out.display()), e))?;
    let asked: Vec<&Test> =
        TESTS.iter().filter(|test| options.tests.is_empty() || options.tests.iter().any(|t| t == test.name)).collect();
    let (done, to_do): (Vec<&Test>, Vec<&Test>) =
        asked.iter().partition(|test| options.resume && is_done(&test.file(&options.out)));
    done.iter().for_each(|test| eprintln!("{}: there already: {}", test.name, test.file(&options.out).display()));
    announce(options, &to_do);
    let mut failed = Vec::new();
    for (at, test) in to_do.iter().enumerate() {
        let (start, words) = (Instant::now(), test.words(options));
        eprintln!("== {} of {}: swbench {}", at + 1, to_do.len(), words.join(" "));
        remove_old(&test.file(&options.out))?;
        let took = |outcome: &str| eprintln!("== {}: {outcome} after {}", test.name, human(start.elapsed()));
        match one(&words, stop) {
            Ok(()) => took("done"),
            Err(Error::Interrupted) => {
                eprintln!("to go on from here, give the same command with --resume");
                return Err(Error::Interrupted);
            }
            Err(error) => {
                took(&format!("FAILED: {error}"));
                failed.push(test.name);
            }
        }
    }
    let files: Vec<PathBuf> = TESTS.iter().map(|test| test.file(&options.out)).filter(|file| file.exists()).collect();
    report::run(&files, &options.out)?;
    match failed.len() {
        0 => Ok(()),
        _ => Err(Error::Tests { failed: failed.join(", "), asked: to_do.len() }),
    }
}

/// Says what is to come and how long it will take.
fn announce(options: &All, to_do: &[&Test]) {
    let settings = options.settings();
    let devices = options.devices.iter().filter(|kind: &&Kind| kind.available(&settings).is_ok()).count();
    let total: Duration = to_do.iter().map(|test| test.estimate(options, devices)).sum();
    let (tests, runs) = (to_do.len(), runs(options));
    eprintln!("{tests} tests, devices: {devices}, runs of each: {runs}; about {}", human(total));
    for test in to_do {
        eprintln!("  {:<10} about {}", test.name, human(test.estimate(options, devices)));
    }
}

/// Whether a file holds the result of a test; one that is broken is named and measured again.
fn is_done(file: &Path) -> bool {
    file.exists()
        && match Results::read(file) {
            Ok(_) => true,
            Err(error) => {
                eprintln!("measured again: {error}");
                false
            }
        }
}

/// A test that fails must not leave an older result to be taken for its own.
fn remove_old(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", file.display()), e)),
        _ => Ok(()),
    }
}

/// Runs swbench with these arguments to its end.
fn one(words: &[String], stop: &Stop) -> Result<()> {
    let exe = std::env::current_exe().map_err(|e| Error::io("this program's own path", e))?;
    let fail = |why: String| Error::Command { command: format!("swbench {}", words.join(" ")), why };
    // Not in the terminal's group: an interruption reaches it once, from here, and it has time to clean up. The same
    // when this process is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(exe).args(words).process_group(0);
    let mut child = command.spawn().map_err(|e| fail(e.to_string()))?;
    let status = wait(&mut child, stop).map_err(|e| fail(e.to_string()))?;
    stop.check()?;
    if status.success() { Ok(()) } else { Err(fail(status.to_string())) }
}

/// Waits for the end of a child, which is told to end when `stop` is raised.
fn wait(child: &mut Child, stop: &Stop) -> std::io::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.raised() && !told {
            told = true;
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                // It may have ended just now, which the next turn sees.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A time for people: seconds, minutes, or hours and minutes.
fn human(time: Duration) -> String {
    match time.as_secs() {
        s if s < 100 => format!("{s} s"),
        s if s < 6000 => format!("{} min", (s + 30) / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use std::io::Read;
    use std::process::Stdio;

    fn options(words: &str) -> All {
        match Cli::try_parse_from(format!("swbench all {words}").split(' ')).map(|cli| cli.test) {
            Ok(crate::cli::Test::All(all)) => all,
            Ok(_) => panic!("another test"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_line_of_the_table_is_a_command_with_a_file_of_its_own() {
        for words in ["--out x", "--out x --quick --switchd y --runs 2 --devices bridge,ovs --traffic-core 3"] {
            let options = options(words);
            for test in TESTS {
                let words = test.words(&options);
                let read = Cli::try_parse_from(["swbench".to_owned()].iter().chain(&words));
                assert!(read.is_ok(), "{}: {}", test.name, read.err().map_or(String::new(), |e| e.to_string()));
                assert!(words.ends_with(&["--json".to_owned(), format!("x/{}.json", test.name)]), "{words:?}");
            }
        }
        let mut names: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TESTS.len());
    }

    #[test]
    fn runs_and_estimates_are_those_asked_for() {
        let (whole, quick) = (options("--out x"), options("--out x --quick"));
        assert_eq!((runs(&whole), runs(&quick), runs(&options("--out x --quick --runs 9"))), (5, 3, 9));
        for test in TESTS {
            assert!(test.estimate(&quick, 2) < test.estimate(&whole, 2), "{}", test.name);
            assert_eq!(test.estimate(&quick, 4), test.estimate(&quick, 2) * 2);
        }
        let times = [99, 100, 5999, 7290].map(|s| human(Duration::from_secs(s)));
        assert_eq!(times, ["99 s", "2 min", "100 min", "2 h 1 min"]);
    }

    #[test]
    fn unknown_tests_are_refused_with_the_known_ones() {
        assert!(Cli::try_parse_from(["swbench", "all", "--out", "x", "--tests", "ndr,rtt"]).is_ok());
        let refused = Cli::try_parse_from(["swbench", "all", "--out", "x", "--tests", "ndr,nd"]);
        let text = refused.err().map_or(String::new(), |e| e.to_string());
        assert!(text.contains("'nd'") && text.contains("give some of run, ndr"), "{text}");
    }

    #[test]
    fn an_interruption_reaches_the_child_once() {
        let stop = Stop::default();
        stop.raise();
        // Ends with 7 when it is told, and with 9 when it is told twice.
        let script = "n=0; trap 'n=$((n+1))' TERM; echo set; while [ $n -eq 0 ]; do sleep 0.1; done; sleep 0.3; \
                      exit $((5 + 2 * n))";
        let mut bash = Command::new("bash");
        let mut child = bash.args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().expect("bash");
        // Not before the trap is set.
        child.stdout.take().expect("a pipe").read_exact(&mut [0; 4]).expect("a word");
        assert_eq!(wait(&mut child, &stop).expect("an end").code(), Some(7));
        assert!(matches!(one(&["--version".to_owned()], &stop), Err(Error::Interrupted)));
    }
}
