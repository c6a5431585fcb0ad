//! Instructions per frame of the packet path in memory, counted by callgrind: a figure without noise.
//!
//! Every case runs twice under valgrind, with few and with many bursts; the difference is what the bursts cost,
//! without the set-up. What one memory port takes to receive and one to send is subtracted. The counts are compared
//! with the committed ones in `bench/bed/instructions.toml`, which hold for one version of the compiler:
//!
//! ```text
//! cargo bench -p bed --bench instructions             # compare; more than 5 % either way fails
//! cargo bench -p bed --bench instructions -- --write  # count anew and write the file
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bed::routed::Routed;
use bed::{Sink, Source, conversations, stations};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};
use switch::limits::{BURST, FRAMES_DEFAULT};
use switch::port::{FramePool, Frames, Port, SharedPool};

/// What is counted, by name: `ports_alone` is subtracted from the others.
const CASES: [&str; 7] =
    ["ports_alone", "unicast_2", "unicast_2k", "unicast_128k", "unicast_1m", "flood_8", "routed_1k"];

/// The case without a switch.
const BASE: &str = "ports_alone";

/// Bursts of the short and the long run.
const BURSTS: [u64; 2] = [64, 64 + 256];

/// Largest change of a count that passes.
const SLACK: f64 = 0.05;

/// Word that makes this program run one case instead of counting: `--run CASE BURSTS`.
const RUN: &str = "--run";

/// The committed counts.
#[derive(Serialize, Deserialize, Debug)]
struct Baseline {
    /// What `rustc --version` said, and the architecture.
    rustc: String,
    /// Instructions per frame received, less those of a port that receives and one that sends.
    instructions_per_frame: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|&word| word != "--bench").collect();
    match words[..] {
        [RUN, case, bursts] => {
            run(case, bursts.parse().expect("a number of bursts"));
            ExitCode::SUCCESS
        }
        ["--write"] => write(),
        _ => compare(words),
    }
}

/// The work of one case, done under callgrind.
fn run(case: &str, bursts: u64) {
    let mut bench = match case {
        BASE => return ports_alone(bursts),
        "routed_1k" => {
            let mut bench = Routed::new(1_000);
            return (0..bursts).for_each(|_| bench.turn());
        }
        "unicast_2" => bed::unicast(1),
        "unicast_2k" => bed::unicast(1_000),
        "unicast_128k" => bed::unicast(65_536),
        "unicast_1m" => bed::unicast(500_000),
        "flood_8" => bed::flood(),
        other => panic!("no case {other:?}"),
    };
    (0..bursts).for_each(|_| bench.turn());
}

fn ports_alone(bursts: u64) {
    let macs = stations(0x02, 1_000);
    let mut source = Source::new(conversations(&macs, &macs));
    let mut pool = FramePool::new(SharedPool::heap(FRAMES_DEFAULT));
    let (mut sink, mut frames) = (Sink, Frames::new());
    for _ in 0..bursts {
        source.rx(&mut pool, &mut frames);
        sink.tx(&mut pool, std::hint::black_box(&mut frames));
    }
}

/// Instructions per frame of a case, ports included.
fn count(case: &str) -> Result<f64, String> {
    let [short, long] = BURSTS;
    let instructions = total(case, long)?.saturating_sub(total(case, short)?);
    Ok(instructions as f64 / ((long - short) * BURST as u64) as f64)
}

/// Instructions that a whole run takes.
fn total(case: &str, bursts: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = valgrind.args([RUN, case, &bursts.to_string()]).output();
    let output = output.map_err(|error| format!("valgrind: {error}: install the package valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // `==123== Collected : 456`
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.filter(|_| output.status.success()).ok_or_else(|| format!("{case} under valgrind: {said}"))
}

/// Instructions per frame of a case, the ports subtracted from those of a switch.
fn net(case: &str, base: f64) -> Result<f64, String> {
    if case == BASE { Ok(base) } else { Ok(count(case)? - base) }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

fn rustc() -> String {
    let said = Command::new("rustc").arg("--version").output();
    let version = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{version} for {}", std::env::consts::ARCH)
}

fn write() -> ExitCode {
    let counted = || {
        let base = count(BASE)?;
        CASES.iter().map(|case| Ok((case.to_string(), (net(case, base)? * 10.0).round() / 10.0))).collect()
    };
    let counts: BTreeMap<String, f64> = match counted() {
        Ok(counts) => counts,
        Err::<_, String>(why) => {
            eprintln!("instructions: {why}");
            return ExitCode::FAILURE;
        }
    };
    let baseline = Baseline { rustc: rustc(), instructions_per_frame: counts };
    let text = toml::to_string(&baseline).expect("plain data");
    std::fs::write(file(), format!("# Written by `cargo bench -p bed --bench instructions -- --write`.\n{text}"))
        .unwrap_or_else(|error| panic!("{}: {error}", file().display()));
    print!("{text}");
    ExitCode::SUCCESS
}

/// Compares every case with the file, as a test of its own.
fn compare(words: Vec<&str>) -> ExitCode {
    let text = std::fs::read_to_string(file()).unwrap_or_else(|error| panic!("{}: {error}", file().display()));
    let baseline: Baseline = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file().display()));
    if baseline.rustc != rustc() {
        println!("SKIPPED: instructions per frame: counted with {}, this is {}", baseline.rustc, rustc());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instructions per frame: no valgrind: install the package valgrind");
        return ExitCode::SUCCESS;
    }
    let base = count(BASE);
    let trials = CASES.map(|case| {
        let (base, expected) = (base.clone(), baseline.instructions_per_frame.get(case).copied());
        Trial::test(case, move || check(case, net(case, base?)?, expected))
    });
    let arguments = Arguments::from_iter(std::iter::once("instructions").chain(words));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn check(case: &str, counted: f64, expected: Option<f64>) -> Result<(), Failed> {
    let expected = expected.ok_or_else(|| format!("{case} is not in {}: write it anew", file().display()))?;
    let change = counted / expected - 1.0;
    eprintln!("{case}: {counted:.1} instructions a frame, {:+.1} % of {expected:.1}", change * 100.0);
    if change.abs() > SLACK {
        let advice = "if that is meant: cargo bench -p bed --bench instructions -- --write";
        return Err(format!("{case}: {counted:.1} instructions a frame instead of {expected:.1}; {advice}").into());
    }
    Ok(())
}
