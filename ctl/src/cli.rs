//! What switchctl does: arguments to a request, the answer to text or JSON, the outcome to an exit code.
//!
//! 0: done. 1: refused or failed, or no switchd. 2: wrong usage. Errors are one line on stderr. A reader that
//! goes away (`| head`) is no error.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use ctl::client::{Client, ClientError, TIMEOUT_DEFAULT};
use ctl::protocol::{
    BridgeStatus, ConfigSection, Done, DropStatus, ErrorCode, FdbEntry, HostStatus, LeaseEntry, NeighEntry, PortStatus,
    Request, RouteAnswer, RouteEntry, VersionReport, WorkerStatus,
};

use args::{Args, Command, Routing};
use tables::{Listing, View};

mod args;
mod columns;
mod load;
mod tables;
mod watch;

/// Why switchctl ends without success.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command makes no sense: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The switch or the way to it: exit code 1, or 2 where the switch calls it wrong usage.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be read.
    #[error("cannot read {0}: {1}")]
    File(String, io::Error),
    /// Lines of a file were refused; each was named.
    #[error("{0}")]
    Lines(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Client(ClientError::Server(error)) if error.code == ErrorCode::Usage => 2,
            _ => 1,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Output(error.into())
    }
}

/// Runs one command line to its exit code.
pub fn main() -> ExitCode {
    let args = match Args::try_parse_from(args::join_watch(std::env::args_os())) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let result = run(&args, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
            // What is still buffered has no reader; writing it on drop would only fail again.
            std::mem::forget(out);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Whatever arrived before the failure is worth seeing.
            let _ = out.flush();
            complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// Help and version go to stdout; anything else is wrong usage, told in one line.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => complain(&args::one_line(error)),
    }
    ExitCode::from(2)
}

/// One line on stderr, whatever the message holds.
fn complain(message: &str) {
    let line = columns::printable(message);
    let _ = writeln!(io::stderr(), "switchctl: {line}");
}

fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    if let Command::Completions { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "switchctl", &mut script);
        return Ok(out.write_all(&script)?);
    }
    let request = args.command.request();
    request.check().map_err(Failure::Usage)?;
    let view = View { all: args.command.shows_all(), detail: args.command.shows_one_port() };
    match request {
        Request::ShowRoutes(_) if args.watch.is_none() => show_routes(args, request, out),
        Request::ShowRoutes(_) => show::<RouteEntry>(args, request, view, out),
        Request::RouteGet(_) => show::<RouteAnswer>(args, request, view, out),
        Request::ShowNeigh(_) => show::<NeighEntry>(args, request, view, out),
        Request::ShowHost {} => show::<HostStatus>(args, request, view, out),
        Request::ShowDhcp { .. } => show::<LeaseEntry>(args, request, view, out),
        Request::ShowFdb(_) if args.watch.is_none() => show_fdb(args, request, out),
        Request::ShowFdb(_) => show::<FdbEntry>(args, request, view, out),
        Request::ShowPorts { .. } => show::<PortStatus>(args, request, view, out),
        Request::ShowBridges {} => show::<BridgeStatus>(args, request, view, out),
        Request::ShowWorkers {} => show::<WorkerStatus>(args, request, view, out),
        Request::ShowDrops { .. } => show::<DropStatus>(args, request, view, out),
        Request::ShowConfig {} if args.watch.is_some() => show::<ConfigSection>(args, request, view, out),
        _ if args.watch.is_some() => {
            Err(Failure::Usage(format!("--watch repeats show commands, not {}: leave it out", request.name())))
        }
        Request::LoadRoutes(_) => match &args.command {
            Command::Routing(Routing::LoadRoutes { file }) => load::run(&mut connect(args)?, file, args.json, out),
            _ => act(args, request, out),
        },
        Request::ShowConfig {} => show_config(args, request, out),
        Request::Version {} => version(args, request, out),
        _ => act(args, request, out),
    }
}

fn connect(args: &Args) -> Result<Client, ClientError> {
    Client::connect(&args.socket, TIMEOUT_DEFAULT)
}

/// Lists once, or again and again.
fn show<T: Listing>(args: &Args, request: Request, view: View, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(seconds) = args.watch {
        let screen = watch::Screen { seconds, json: args.json, terminal: io::stdout().is_terminal() };
        return watch::run::<T>(&args.socket, &request, view, &screen, out);
    }
    let (items, done) = connect(args)?.collect::<T>(request)?;
    if args.json {
        return array(items.iter(), out);
    }
    T::text(&items, None, &done, view, out)?;
    notes(&done);
    Ok(())
}

/// Lists the forwarding table as it comes, so that a million entries need no memory here either.
fn show_fdb(args: &Args, request: Request, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = connect(args)?;
    let mut items = client.request::<FdbEntry>(request)?;
    if args.json {
        let mut writer = ArrayWriter::new(out);
        for item in &mut items {
            writer.push(&item?)?;
        }
        return writer.end();
    }
    let mut table = tables::FdbTable::new();
    for item in &mut items {
        table.push(&item?, out)?;
    }
    let done = items.into_done();
    table.end(&done, out)?;
    notes(&done);
    Ok(())
}

/// Lists routes as they come, for the same reason.
fn show_routes(args: &Args, request: Request, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = connect(args)?;
    let mut items = client.request::<RouteEntry>(request)?;
    if args.json {
        let mut writer = ArrayWriter::new(out);
        for item in &mut items {
            writer.push(&item?)?;
        }
        return writer.end();
    }
    let mut lines = tables::RouteLines::default();
    for item in &mut items {
        lines.push(&item?, out)?;
    }
    notes(&items.into_done());
    Ok(lines.end(out)?)
}

fn show_config(args: &Args, request: Request, out: &mut dyn Write) -> Result<(), Failure> {
    let (sections, done) = connect(args)?.collect::<ConfigSection>(request)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &tables::config_json(&sections))?;
        writeln!(out)?;
    } else {
        tables::config_toml(&sections, out)?;
    }
    notes(&done);
    Ok(())
}

fn version(args: &Args, request: Request, out: &mut dyn Write) -> Result<(), Failure> {
    let (reports, _) = connect(args)?.collect::<VersionReport>(request)?;
    for report in &reports {
        if args.json {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)?;
        } else {
            tables::version_text(report, out)?;
        }
    }
    Ok(())
}

/// Carries out a command that lists nothing.
fn act(args: &Args, request: Request, out: &mut dyn Write) -> Result<(), Failure> {
    let name = request.name();
    let done = connect(args)?.call(request)?;
    if args.json {
        serde_json::to_writer(&mut *out, &done)?;
        writeln!(out)?;
        return Ok(());
    }
    match (&done.message, done.affected) {
        (Some(message), _) => writeln!(out, "{}", columns::printable(message))?,
        (None, Some(count)) => writeln!(out, "{name}: {count} changed")?,
        (None, None) => writeln!(out, "{name}: done")?,
    }
    notes(&done);
    Ok(())
}

/// Notes are for the user, not for whoever reads the table.
fn notes(done: &Done) {
    for note in &done.notes {
        complain(&format!("note: {note}"));
    }
}

fn array<'a, T: serde::Serialize + 'a>(items: impl Iterator<Item = &'a T>, out: &mut dyn Write) -> Result<(), Failure> {
    let mut writer = ArrayWriter::new(out);
    for item in items {
        writer.push(item)?;
    }
    writer.end()
}

/// A JSON array with one element a line: readable, greppable, and never whole in memory.
struct ArrayWriter<'a> {
    out: &'a mut dyn Write,
    empty: bool,
}

impl<'a> ArrayWriter<'a> {
    fn new(out: &'a mut dyn Write) -> ArrayWriter<'a> {
        ArrayWriter { out, empty: true }
    }

    fn push(&mut self, item: &impl serde::Serialize) -> Result<(), Failure> {
        self.out.write_all(if self.empty { b"[\n  " } else { b",\n  " })?;
        self.empty = false;
        Ok(serde_json::to_writer(&mut *self.out, item)?)
    }

    fn end(self) -> Result<(), Failure> {
        Ok(self.out.write_all(if self.empty { b"[]\n" } else { b"\n]\n" })?)
    }
}
