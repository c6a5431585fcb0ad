//! The forwarding database beside the tables that others would take: hashbrown's map (for one thread only: the floor),
//! two concurrent maps (dashmap, papaya) and DPDK's rte_hash, with and without lock-free readers.
//!
//! ```text
//! cargo bench -p bench --bench tables                  # all, in a minute and a half: medians and ratios
//! cargo bench -p bench --bench tables -- --rounds 9 --pages huge --json FILE
//! ```
//!
//! Every table gets the same random addresses in the same order (see `keys`), on the same core. Each is measured in a
//! process of its own, which starts with an empty heap; tables take turns, round after round, so that a machine that
//! slows down slows all of them. rte_hash is measured by `bench/yardstick/rte_hash.c`, which is compiled here if
//! libdpdk-dev is installed, and left out with a line that says so if it is not.

mod candidates;
mod keys;
mod measure;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench::beside::report::{self, Measured, Samples, Section, Unit};
use bench::beside::yardstick;
use bench::facts::Machine;
use clap::{Parser, ValueEnum};
use keys::Keys;
use measure::{About, Figure, TABLES};

/// Measure the forwarding database beside other tables.
#[derive(Parser)]
struct Options {
    /// Addresses in the table
    #[arg(long, value_delimiter = ',', default_value = "1000,65536,1000000", value_parser = size)]
    sizes: Vec<usize>,
    /// Tables to measure; the first is the one the others are compared with [default: all]
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Memory pages of all tables: of 4 KiB, or transparent ones of 2 MiB
    #[arg(long, default_value = "small")]
    pages: Pages,
    /// Write every value to this file (cargo runs benches in the directory bench/)
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure one table in this process
    #[arg(long, hide = true)]
    child: Option<String>,
    /// Cores of that measurement
    #[arg(long, hide = true, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// At least a burst; the most that the FDB takes.
fn size(text: &str) -> Result<usize, String> {
    let sizes = switch::limits::BURST..=switch::limits::FDB_ENTRIES_MAX as usize;
    let wrong = || format!("{} to {} addresses", sizes.start(), sizes.end());
    text.parse().ok().filter(|size| sizes.contains(size)).ok_or_else(wrong)
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pages {
    Small,
    Huge,
}

impl Pages {
    fn name(self) -> &'static str {
        if self == Pages::Small { "small" } else { "huge" }
    }
}

/// What a table has entries of.
const ADDRESSES: &str = "addresses";

/// Figure that every table has: memory.
const BYTES: &str = "bytes";

/// What is printed, in this order.
const SECTIONS: [Section; 10] = [
    ("hit_bulk", Unit::Nanoseconds, "known addresses, 64 at once: ns each"),
    ("hit_loop", Unit::Nanoseconds, "known addresses, a call each: ns each"),
    ("hit_chained", Unit::Nanoseconds, "known addresses, each call waiting for the last answer: ns each"),
    ("miss_bulk", Unit::Nanoseconds, "unknown addresses, 64 at once: ns each"),
    ("miss_loop", Unit::Nanoseconds, "unknown addresses, a call each: ns each"),
    ("miss_chained", Unit::Nanoseconds, "unknown addresses, each call waiting for the last answer: ns each"),
    ("hit_two", Unit::MillionsPerSecond, "known addresses, two threads: millions a second, of both together"),
    ("learn", Unit::MillionsPerSecond, "new addresses into an empty table: millions a second"),
    ("learn_two", Unit::MillionsPerSecond, "new addresses, two threads: millions a second, of both together"),
    (BYTES, Unit::Bytes, "memory: bytes for each address"),
];

/// The ways in which rte_hash is used: name here, and what its program calls it.
const RTE_HASH: [(&str, &str); 2] = [("rte_hash", "plain"), ("rte_hash_lf", "lf")];

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.child {
        Some(name) => child(name, &options),
        None => campaign(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tables: {why}");
            ExitCode::FAILURE
        }
    }
}

fn child(name: &str, options: &Options) -> Result<(), String> {
    let (_, measure) = TABLES.iter().find(|(table, _)| *table == name).ok_or(format!("no table {name}"))?;
    measure(options.sizes[0], &options.cores);
    Ok(())
}

/// The last core first: the first has most of the kernel's work. One thread runs there, a second on the other.
fn cores() -> Result<Vec<usize>, String> {
    let all = core_affinity::get_core_ids().filter(|all| !all.is_empty()).ok_or("no core to run on")?;
    let mut cores = vec![all[all.len() - 1].id];
    cores.extend(all.first().map(|core| core.id).filter(|&core| core != cores[0]));
    Ok(cores)
}

fn campaign(options: &Options) -> Result<(), String> {
    let cores = cores()?;
    if options.pages == Pages::Small {
        let done = rustix::thread::disable_transparent_huge_pages(true);
        done.map_err(|error| format!("transparent huge pages cannot be turned off for this process: {error}"))?;
    }
    let program = yardstick::build("rte_hash", Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let tables = chosen(&options.tables, program.is_some())?;
    if cores.len() < 2 {
        println!("SKIPPED: two threads: this machine has one core");
    }
    let mut dpdk = None;
    let mut samples = Samples::new();
    for round in 0..options.rounds {
        eprintln!("tables: round {} of {}", round + 1, options.rounds);
        for &size in &options.sizes {
            let expected = format!("{:016x}", Keys::draw(size).sum);
            for &table in &tables {
                let command = command(table, size, options.pages, &cores, program.as_deref())?;
                let about = measure(command, table, size, &mut samples)?;
                if about.keys != expected {
                    return Err(format!("{table} drew other addresses than keys.rs: {} for {expected}", about.keys));
                }
                dpdk = about.version.zip(about.tsc_hz).or(dpdk);
            }
        }
    }
    let machine = Machine::here(cores[0]);
    println!("# {}, kernel {}, cores {cores:?}, {} pages", machine.cpu, machine.kernel, options.pages.name());
    if let Some((version, hz)) = dpdk {
        println!("# {version}; 1 ns is {:.2} cycles of the time stamp counter", hz as f64 / 1e9);
    }
    let brackets = "in brackets: lowest and highest";
    println!("# median of {} ({brackets}), and how many times the time (or memory) of {}", options.rounds, tables[0]);
    print!("{}", report::text(&samples, &SECTIONS, ADDRESSES, &tables, &options.sizes));
    let Some(path) = &options.json else { return Ok(()) };
    std::fs::write(path, report::json(&samples)).map_err(|error| format!("{}: {error}", path.display()))
}

/// The tables asked for, or all there are.
fn chosen(names: &[String], dpdk: bool) -> Result<Vec<&'static str>, String> {
    let there = RTE_HASH.iter().filter(|_| dpdk).map(|(name, _)| *name);
    let all: Vec<&str> = TABLES.iter().map(|(name, _)| *name).chain(there).collect();
    let find = |name: &String| all.iter().find(|table| *table == name).copied();
    let chosen = names.iter().map(|name| find(name).ok_or(format!("no table {name}: there are {}", all.join(", "))));
    let chosen: Vec<&str> = chosen.collect::<Result<_, _>>()?;
    Ok(if chosen.is_empty() { all } else { chosen })
}

/// What measures one table.
fn command(table: &str, size: usize, pages: Pages, cores: &[usize], program: Option<&Path>) -> Result<Command, String> {
    let cores = cores.iter().map(usize::to_string);
    if let Some(((_, way), program)) = RTE_HASH.iter().find(|(name, _)| *name == table).zip(program) {
        let mut command = Command::new(program);
        command.args([way, pages.name(), &size.to_string()]).args(cores);
        return Ok(command);
    }
    let this = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut command = Command::new(this);
    command.args(["--child", table, "--sizes", &size.to_string(), "--cores"]).arg(cores.collect::<Vec<_>>().join(","));
    if pages == Pages::Huge {
        // The C library's allocator asks for transparent huge pages (glibc 2.35 or newer).
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    }
    Ok(command)
}

/// Runs it and keeps what it prints: a line about the table, then its figures.
fn measure(mut command: Command, table: &str, size: usize, samples: &mut Samples) -> Result<About, String> {
    let output = command.output().map_err(|error| format!("{table}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{table} with {size} addresses: {}: {}", output.status, said.trim()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines();
    let unreadable = |error: serde_json::Error| format!("{table} with {size} addresses said something else: {error}");
    let about: About = serde_json::from_str(lines.next().unwrap_or_default()).map_err(unreadable)?;
    let mut keep = |figure: String, value| {
        let measured = Measured { entries: ADDRESSES, count: size, table: table.to_owned(), figure };
        samples.entry(measured).or_default().push(value);
    };
    keep(BYTES.to_owned(), about.bytes as f64 / size as f64);
    for line in lines {
        let Figure { figure, ns } = serde_json::from_str(line).map_err(unreadable)?;
        keep(figure, ns);
    }
    Ok(about)
}
