//! The forwarding information base beside the tables that others would take: two crates (prefix-trie,
//! ip_network_table's tree bitmap) and DPDK's rte_lpm and rte_lpm6.
//!
//! ```text
//! cargo bench -p bench --bench fib                  # all: medians and ratios
//! cargo bench -p bench --bench fib -- --family ipv6 --rounds 9 --json FILE
//! ```
//!
//! Every table gets the same routes in the same order (see `routes`) and is asked for the same addresses, on the same
//! core, and must find the same. Each is measured in a process of its own, which starts with an empty heap; tables take
//! turns, round after round, so that a machine that slows down slows all of them. DPDK's tables are measured by
//! `bench/yardstick/rte_lpm.c`, which is compiled here if libdpdk-dev is installed, and left out with a line that says
//! so if it is not.
//!
//! The FIB's memory is put on huge pages, as it is in the switch; the time that takes is part of its load. The other
//! tables have the pages that the C library's allocator and the kernel give them.

mod candidates;
mod measure;
mod routes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench::beside::report::{self, Measured, Samples, Section, Unit};
use bench::beside::yardstick;
use bench::facts::Machine;
use clap::Parser;
use measure::{Figure, TABLES};
use routes::{Family, Routes};

/// Measure the forwarding information base beside other tables.
#[derive(Parser)]
struct Options {
    /// Routes in the IPv4 tables
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    ipv4: Vec<u32>,
    /// Routes in the IPv6 tables
    #[arg(long, value_delimiter = ',', default_value = "1,64,250000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    ipv6: Vec<u32>,
    /// One family only: ipv4 or ipv6
    #[arg(long)]
    family: Option<String>,
    /// Tables to measure; the first is the one the others are compared with [default: all]
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// How often each is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Write every value to this file (cargo runs benches in the directory bench/)
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure one table in this process: family, name, routes, core
    #[arg(long, hide = true, value_delimiter = ',')]
    child: Vec<String>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is printed, in this order.
const SECTIONS: [Section; 11] = [
    ("inside_bulk", Unit::Nanoseconds, "addresses of routes drawn at random, 64 at once: ns each"),
    ("inside_loop", Unit::Nanoseconds, "addresses of routes drawn at random, a call each: ns each"),
    ("anywhere_bulk", Unit::Nanoseconds, "addresses anywhere, 64 at once: ns each"),
    ("anywhere_loop", Unit::Nanoseconds, "addresses anywhere, a call each: ns each"),
    ("one_bulk", Unit::Nanoseconds, "one address again and again, 64 at once: ns each"),
    ("one_loop", Unit::Nanoseconds, "one address again and again, a call each: ns each"),
    ("load", Unit::Milliseconds, "all routes into an empty table: ms"),
    ("update", Unit::ThousandsPerSecond, "a route removed or inserted: thousands a second"),
    ("short", Unit::Microseconds, "the slowest change of a prefix of 0 to 16 bits: us"),
    ("resident", Unit::Megabytes, "memory that the process grew by: MB"),
    ("own", Unit::Megabytes, "memory by the table's own account: MB"),
];

/// The name of DPDK's tables here.
const RTE_LPM: &str = "rte_lpm";

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.child[..] {
        [] => campaign(&options),
        [family, name, routes, core] => child(family, name, routes, core),
        _ => Err("--child takes a family, a name, a number of routes and a core".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fib: {why}");
            ExitCode::FAILURE
        }
    }
}

fn child(family: &str, name: &str, routes: &str, core: &str) -> Result<(), String> {
    let table = TABLES.iter().find(|(its_family, its_name, _)| *its_family == family && *its_name == name);
    let (_, _, measure) = table.ok_or(format!("no table {name} of {family}"))?;
    let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{text}: {error}"));
    measure(number(routes)?, number(core)?);
    Ok(())
}

fn campaign(options: &Options) -> Result<(), String> {
    // The last core: the first has most of the kernel's work.
    let core = core_affinity::get_core_ids().and_then(|all| all.last().copied()).ok_or("no core to run on")?.id;
    let program = yardstick::build(RTE_LPM, Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let machine = Machine::here(core);
    println!("# {}, kernel {}, core {core}", machine.cpu, machine.kernel);
    println!("# median of {} (lowest and highest), and how many times what the first table takes", options.rounds);
    let mut samples = Samples::new();
    if options.family.as_deref().is_none_or(|only| only == u32::NAME) {
        family::<u32>(options, &options.ipv4, core, program.as_deref(), &mut samples)?;
    }
    if options.family.as_deref().is_none_or(|only| only == u128::NAME) {
        family::<u128>(options, &options.ipv6, core, program.as_deref(), &mut samples)?;
    }
    let Some(path) = &options.json else { return Ok(()) };
    std::fs::write(path, report::json(&samples)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Measures the tables of one family and prints what came out.
fn family<A: Family>(
    options: &Options,
    sizes: &[u32],
    core: usize,
    program: Option<&Path>,
    samples: &mut Samples,
) -> Result<(), String> {
    let own = TABLES.iter().filter(|(family, ..)| *family == A::NAME).map(|(_, name, _)| *name);
    let all: Vec<&str> = own.chain(program.map(|_| RTE_LPM)).collect();
    let find = |name: &String| all.iter().find(|table| *table == name).copied();
    let chosen = options.tables.iter().map(|name| find(name).ok_or(format!("no table {name}: {}", all.join(", "))));
    let chosen: Vec<&str> = chosen.collect::<Result<_, _>>()?;
    let tables = if chosen.is_empty() { all } else { chosen };
    let sizes: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fib-{}-{}", A::NAME, std::process::id()));
    for &size in &sizes {
        let mut sums = HashMap::new();
        if tables.contains(&RTE_LPM) {
            let written = Routes::<A>::draw(size).write(&file);
            written.map_err(|error| format!("{}: {error}", file.display()))?;
        }
        for round in 0..options.rounds {
            eprintln!("fib: {} with {size} routes, round {} of {}", A::NAME, round + 1, options.rounds);
            for &table in &tables {
                let mut command = command::<A>(table, size, core, program, &file)?;
                measure::<A>(&mut command, table, size, &mut sums, samples)?;
            }
        }
    }
    // The figures stand without it.
    let _ = std::fs::remove_file(&file);
    println!("\n{}", A::NAME);
    print!("{}", report::text(samples, &SECTIONS, A::ROUTES, &tables, &sizes));
    Ok(())
}

/// What measures one table.
fn command<A: Family>(
    table: &str,
    size: usize,
    core: usize,
    program: Option<&Path>,
    file: &Path,
) -> Result<Command, String> {
    if let Some(program) = program.filter(|_| table == RTE_LPM) {
        let mut command = Command::new(program);
        command.arg(A::NAME).arg(file).arg(core.to_string());
        return Ok(command);
    }
    let this = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut command = Command::new(this);
    command.args(["--child", &format!("{},{table},{size},{core}", A::NAME)]);
    Ok(command)
}

/// Runs it and keeps the figures it prints, a line each. What was found must be what other tables found.
fn measure<A: Family>(
    command: &mut Command,
    table: &str,
    size: usize,
    sums: &mut HashMap<String, u64>,
    samples: &mut Samples,
) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{table}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{table} with {size} routes: {}: {}", output.status, said.trim()));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let figure = serde_json::from_str(line);
        let Figure { figure, value, sum } =
            figure.map_err(|error| format!("{table} with {size} routes said something else: {error}"))?;
        if let Some(sum) = sum {
            let asked = figure.split('_').next().unwrap_or_default().to_owned();
            let expected = *sums.entry(asked).or_insert(sum);
            if sum != expected {
                return Err(format!("{table} with {size} routes, {figure}: found {sum}, not {expected} as others did"));
            }
        }
        let measured = Measured { entries: A::ROUTES, count: size, table: table.to_owned(), figure };
        samples.entry(measured).or_default().push(value);
    }
    Ok(())
}
