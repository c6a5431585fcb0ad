//! `load-routes`: a file of routes, sent in pieces that fit a request, with the errors named by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;

use ctl::client::Client;
use ctl::codec::REQUEST_MAX;
use ctl::protocol::{Done, LoadError, LoadRoutes, Request};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::columns::printable;
use super::{Failure, complain};

/// Bytes of lines in one request. JSON writes a newline or a quote as two bytes.
const PIECE_MAX: usize = REQUEST_MAX / 2 - 256;

/// Longest line: no route is longer, even with all next hops that one may have.
const LINE_MAX: usize = 8 * 1024;

/// What a load did.
#[derive(Serialize)]
struct Report {
    added: u64,
    errors: Vec<LoadError>,
}

/// Lines to be sent.
struct Piece {
    first_line: u64,
    text: String,
}

/// Sends the whole file; says what became of it.
pub fn run(client: &mut Client, file: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let stdin = file == Path::new("-");
    let open = |error| Failure::File(file.display().to_string(), error);
    let (reader, bytes): (Box<dyn BufRead>, Option<u64>) = if stdin {
        (Box::new(io::stdin().lock()), None)
    } else {
        let opened = File::open(file).map_err(open)?;
        let bytes = opened.metadata().ok().filter(|data| data.is_file()).map(|data| data.len());
        (Box::new(BufReader::with_capacity(1 << 16, opened)), bytes)
    };
    let bar = progress(bytes, json);
    let mut report = Report { added: 0, errors: Vec::new() };
    let result = send(client, reader, &bar, &mut report, json, open);
    bar.finish_and_clear();
    if json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        let routes = if report.added == 1 { "route" } else { "routes" };
        writeln!(out, "{} {routes} added, until the next reload", report.added)?;
    }
    out.flush()?;
    result?;
    match report.errors.len() {
        0 => Ok(()),
        1 => Err(Failure::Lines("1 line was refused".to_owned())),
        more => Err(Failure::Lines(format!("{more} lines were refused"))),
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: Option<u64>, json: bool) -> ProgressBar {
    if json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes}/{total_bytes}, {msg} ({eta})"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {msg}"),
    };
    // The templates are right; without a style there is still a bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn send(
    client: &mut Client,
    mut reader: Box<dyn BufRead>,
    bar: &ProgressBar,
    report: &mut Report,
    json: bool,
    open: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut piece = Piece { first_line: 1, text: String::new() };
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(&open)? == 0 {
            return piece.send(client, bar, report, json);
        }
        number += 1;
        bar.inc(line.len() as u64);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = match readable(text) {
            Ok(text) => text,
            Err(message) => {
                let error = LoadError { line: number, message: message.to_owned() };
                tell(error, report, json);
                ""
            }
        };
        if piece.text.len() + text.len() >= PIECE_MAX {
            let full = std::mem::replace(&mut piece, Piece { first_line: number, text: String::new() });
            full.send(client, bar, report, json)?;
        }
        piece.text.push_str(text);
        piece.text.push('\n');
    }
}

/// A line that a request can carry.
fn readable(line: &[u8]) -> Result<&str, &'static str> {
    if line.len() > LINE_MAX {
        return Err("the line is too long for a route");
    }
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("the line has control characters");
    }
    Ok(text)
}

fn tell(error: LoadError, report: &mut Report, json: bool) {
    if !json {
        complain(&format!("line {}: {}", error.line, printable(&error.message)));
    }
    report.errors.push(error);
}

impl Piece {
    fn send(self, client: &mut Client, bar: &ProgressBar, report: &mut Report, json: bool) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        let request = Request::LoadRoutes(LoadRoutes { first_line: self.first_line, text: self.text });
        let (errors, done): (Vec<LoadError>, Done) = client.collect(request)?;
        bar.suspend(|| errors.into_iter().for_each(|error| tell(error, report, json)));
        report.added += done.affected.unwrap_or_default();
        bar.set_message(format!("{} routes", report.added));
        done.notes.iter().for_each(|note| complain(&format!("note: {note}")));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_no_request_can_carry_are_named() {
        assert_eq!(readable(b"10.0.0.0/8\tblackhole"), Ok("10.0.0.0/8\tblackhole"));
        assert_eq!(readable(b"10.0.0.0/8 \x1b[2J"), Err("the line has control characters"));
        assert_eq!(readable(b"\xff"), Err("the line is not UTF-8"));
        assert_eq!(readable(&[b'1'; LINE_MAX + 1]), Err("the line is too long for a route"));
    }
}
