//! `--watch`: the same listing again and again, with rates from one to the next.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ctl::client::{Client, ClientError, TIMEOUT_DEFAULT};
use ctl::protocol::{Done, Request};

use super::Failure;
use super::columns::printable;
use super::tables::{Before, Listing, View};

/// Home and clear: the terminal shows one listing at a time.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How the repetitions look.
pub struct Screen {
    /// Pause between two, in seconds.
    pub seconds: f64,
    /// One listing a line, as JSON.
    pub json: bool,
    /// Redraw in place; else print blocks with a blank line between.
    pub terminal: bool,
}

/// Repeats until interrupted or the output is closed. A switch that restarts meanwhile is waited for; one
/// that was never there is an error.
pub fn run<T: Listing>(
    path: &Path,
    request: &Request,
    view: View,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = Some(Client::connect(path, TIMEOUT_DEFAULT)?);
    let mut before: Option<Before<T>> = None;
    let mut first = true;
    let mut next = Instant::now();
    let pause = Duration::from_secs_f64(screen.seconds);
    loop {
        let at = Instant::now();
        match look::<T>(&mut client, path, request) {
            Ok((mut items, done)) => {
                if let Some(before) = &mut before {
                    before.seconds = at.duration_since(before.at).as_secs_f64();
                    T::set_rates(&mut items, before);
                }
                frame(request, screen, first, out)?;
                draw(&items, before.as_ref(), &done, view, screen, out)?;
                before = Some(Before { items, at, seconds: screen.seconds });
                first = false;
            }
            Err(e) if e.is_gone() && !first => {
                // Counters start anew with the next switch, so rates do too.
                (client, before) = (None, None);
                super::complain(&e.to_string());
            }
            Err(e) => return Err(e.into()),
        }
        out.flush()?;
        next += pause;
        // After a long answer: go on from here instead of catching up.
        next = next.max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn look<T: Listing>(
    client: &mut Option<Client>,
    path: &Path,
    request: &Request,
) -> Result<(Vec<T>, Done), ClientError> {
    let connected = match client {
        Some(client) => client,
        None => client.insert(Client::connect(path, TIMEOUT_DEFAULT)?),
    };
    connected.collect(request.clone())
}

/// Sets one listing off from the one before.
fn frame(request: &Request, screen: &Screen, first: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if screen.json {
        return Ok(());
    }
    if screen.terminal {
        writeln!(out, "{CLEAR}switchctl {}, every {} s", request.name(), screen.seconds)?;
    }
    if screen.terminal || !first {
        writeln!(out)?;
    }
    Ok(())
}

fn draw<T: Listing>(
    items: &[T],
    before: Option<&Before<T>>,
    done: &Done,
    view: View,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if screen.json {
        T::json_line(items, out)?;
        return Ok(writeln!(out)?);
    }
    T::text(items, before, done, view, out)?;
    for note in &done.notes {
        writeln!(out, "note: {}", printable(note))?;
    }
    Ok(())
}
