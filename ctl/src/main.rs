//! switchctl, the command line of switchd. No logic here: see `cli`.
#![deny(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
