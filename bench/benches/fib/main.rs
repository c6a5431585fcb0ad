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

mod candidates;
mod measure;
mod report;
mod routes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bench::facts::Machine;
use clap::Parser;
use measure::{Figure, TABLES};
use report::Samples;
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
    let program = match build_rte_lpm() {
        Ok(program) => Some(program),
        Err(Missing::Dpdk(why)) => {
            println!("SKIPPED: {RTE_LPM}: {why}");
            None
        }
        Err(Missing::Program(why)) => return Err(why),
    };
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
    print!("{}", report::text(samples, A::NAME, &tables, &sizes));
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
        samples.entry((A::NAME, table.to_owned(), size, figure)).or_default().push(value);
    }
    Ok(())
}

/// Why there is no program that measures DPDK's tables.
enum Missing {
    /// The library is not installed.
    Dpdk(String),
    /// It is, and the program cannot be made.
    Program(String),
}

/// Compiles `bench/yardstick/rte_lpm.c` with what pkg-config says.
fn build_rte_lpm() -> Result<PathBuf, Missing> {
    let flags = |which: &str| {
        let output = Command::new("pkg-config").args([which, "libdpdk"]).output();
        let output = output.map_err(|error| Missing::Dpdk(format!("pkg-config: {error}: run make bench-deps")))?;
        if !output.status.success() {
            return Err(Missing::Dpdk("libdpdk-dev is not installed: run make bench-deps".to_owned()));
        }
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(words.split_whitespace().map(str::to_owned).collect::<Vec<String>>())
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("yardstick/rte_lpm.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rte_lpm");
    let mut compiler = Command::new("cc");
    compiler.args(["-O3", "-std=gnu11", "-Wall", "-Wextra"]).args(flags("--cflags")?);
    compiler.arg("-o").arg(&program).arg(&source).args(flags("--libs")?);
    let output = compiler.output().map_err(|error| Missing::Program(format!("cc: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Missing::Program(format!("cc does not compile {}:\n{}", source.display(), said.trim())));
    }
    Ok(program)
}
