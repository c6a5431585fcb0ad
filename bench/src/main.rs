//! `swbench`: measures switchd and its peers side by side. Arguments only; a test's glue is in `command`, the work in
//! the library.

mod cli;
mod command;

use bench::device::port_loop;
use bench::error::Result;
use bench::stop::Stop;
use bench::{campaign, compare, rig};
use clap::Parser;
use cli::{Cli, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Cli::parse().test) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("swbench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(test: &Test) -> Result<()> {
    match test {
        Test::PortLoop { first, second, core } => return port_loop::run([first, second], *core),
        Test::Compare { a, b } => {
            print!("{}", compare::table(&compare::File::read(a)?, &compare::File::read(b)?));
            return Ok(());
        }
        Test::Report { files, out } => return command::report::run(files, out),
        _ => {}
    }
    rig::check_machine()?;
    let stop = Stop::on_signals()?;
    let removed = rig::remove_stale()?;
    if !matches!(test, Test::Clean) {
        campaign::warn_if_busy(&stop)?;
    }
    if removed > 0 {
        eprintln!("removed {removed} namespaces of a killed swbench");
    }
    match test {
        Test::All(options) => command::all::run(options, &stop),
        Test::Run(options) => command::run::run(options, &stop),
        Test::Ndr(options) => command::ndr::run(options, &stop),
        Test::Latency(options) => command::latency::run(options, &stop),
        Test::Overload(options) => command::overload::run(options, &stop),
        Test::Tcp(options) => command::tcp::run(options, &stop),
        Test::Disturb(options) => command::disturb::run(options, &stop),
        Test::Idle(options) => command::idle::run(options, &stop),
        Test::Flooding(options) => options.run(&stop),
        Test::Mesh(options) => options.run(&stop),
        Test::Learning(options) => options.run(&stop),
        Test::Addresses(options) => options.run(&stop),
        Test::Rtt(options) => command::rtt::run(options, &stop),
        Test::Clean | Test::Compare { .. } | Test::Report { .. } | Test::PortLoop { .. } => Ok(()),
    }
}
