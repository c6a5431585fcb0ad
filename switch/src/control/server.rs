//! The control socket's answering end: a Unix stream server inside the control thread's `mio::Poll`.
//!
//! The server owns the socket file, the clients and their buffers; a [`Handler`] owns the meaning of the
//! requests. Bounded on purpose, so that a client that is slow, silent, huge or malformed costs a
//! buffer and nothing else. Everything here runs on the control thread; nothing blocks.
//!
//! The loop around it: `poll(timeout)`; every event whose token the server [`owns`](Server::owns) goes to
//! [`on_event`](Server::on_event), which only notes it; then [`tick`](Server::tick) does one bounded round of
//! work and says how long the next `poll` may sleep.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ctl::codec::write_line;
use ctl::protocol::{Done, ErrorBody, ErrorLine, Item, Request};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use bind::SocketFile;
use connection::{Connection, Next};

mod bind;
mod connection;
mod peer;
#[cfg(test)]
mod tests;

pub use bind::ServerError;

/// Most clients at a time.
pub const CLIENTS_MAX: usize = 64;

/// Items a stream is asked for at a time.
pub const CHUNK_ITEMS: usize = 512;

/// Carries out requests. Called on the control thread, at most once per client and loop turn.
pub trait Handler {
    /// Carries out one request that is well formed ([`Request::check`] passed). Must not block: long
    /// work goes into a [`Reply::Stream`].
    fn handle(&mut self, request: Request) -> Reply;
}

/// What a request is answered with.
pub enum Reply {
    /// A few items (at most some hundred) and the end.
    Done(Vec<Item>, Done),
    /// The request was not carried out.
    Error(ErrorBody),
    /// Items, or an end, that come bit by bit.
    Stream(Box<dyn ResponseStream>),
}

/// A long answer, made in slices so that other clients and the rest of the control thread go on. It owns
/// what it reads (`Arc`s of shared tables) and is dropped early when its client leaves.
pub trait ResponseStream {
    /// Adds the next items to `out`, about `context.items_max` of them: called only while the client has
    /// room for them, at most once per loop turn. More than `items_max` is tolerated (the last bucket of
    /// a scan) and kept for the client, so a chunk must stay a small multiple of it.
    fn next_chunk(&mut self, out: &mut Vec<Item>, context: &ChunkContext) -> Progress;
}

/// What a stream may know about the turn it runs in.
#[derive(Clone, Copy, Debug)]
pub struct ChunkContext {
    /// Time of this loop turn.
    pub now: Instant,
    /// Items welcome now.
    pub items_max: usize,
}

/// How far a stream has come.
#[derive(Debug)]
pub enum Progress {
    /// There may be more: ask again as soon as the client has room.
    More,
    /// Nothing to do at the moment (waiting for a worker, say): ask again within some milliseconds.
    Wait,
    /// The answer is complete.
    Done(Done),
    /// The answer ends here because something went wrong.
    Failed(ErrorBody),
}

/// Clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Pause after a failed accept (no descriptors left, say): the kernel does not report the same client twice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// With all places taken, a client this long without a request loses its place to a new one.
const EVICT_AFTER: Duration = Duration::from_secs(5);

/// The control socket and its clients.
pub struct Server {
    listener: UnixListener,
    registry: Option<Registry>,
    /// Token of the listener; the clients' follow it.
    first: usize,
    clients: Vec<Option<Connection>>,
    accept_ready: bool,
    /// Accepting failed: not before this time again.
    accept_after: Option<Instant>,
    /// Removes the socket file when the server is dropped.
    _file: SocketFile,
}

impl Server {
    /// Tokens the server takes, from the one given to [`register`](Self::register).
    pub const TOKENS: usize = 1 + CLIENTS_MAX;

    /// Listens at `path` with exactly `mode`; `group` (a name of /etc/group or a number) gets the file. A stale
    /// socket is replaced; a live one and anything that is not a socket are left alone. A missing parent
    /// directory is made with mode 0755. Waits at most a second, for another switch starting there.
    ///
    /// # Errors
    /// [`ServerError`]: one line naming the path and the mend.
    pub fn bind(path: &Path, mode: u32, group: Option<&str>) -> Result<Server, ServerError> {
        let (listener, file) = bind::listen(path, mode, group)?;
        Ok(Server {
            listener,
            registry: None,
            first: 0,
            clients: (0..CLIENTS_MAX).map(|_| None).collect(),
            accept_ready: true,
            accept_after: None,
            _file: file,
        })
    }

    /// Joins a poll, with the [`TOKENS`](Self::TOKENS) tokens from `first` on.
    ///
    /// # Errors
    /// What epoll reports.
    pub fn register(&mut self, registry: &Registry, first: Token) -> io::Result<()> {
        let own = registry.try_clone()?;
        own.register(&mut self.listener, first, Interest::READABLE)?;
        self.first = first.0;
        self.registry = Some(own);
        Ok(())
    }

    /// True for tokens whose events belong here.
    pub fn owns(&self, token: Token) -> bool {
        (self.first..self.first + Self::TOKENS).contains(&token.0)
    }

    /// Notes that the socket behind `token` is ready; the work is done in [`tick`](Self::tick). Tokens of
    /// clients that have left meanwhile do nothing.
    pub fn on_event(&mut self, token: Token) {
        match token.0.checked_sub(self.first) {
            Some(0) => self.accept_ready = true,
            Some(slot) => {
                if let Some(Some(client)) = self.clients.get_mut(slot - 1) {
                    client.wake();
                }
            }
            None => {}
        }
    }

    /// One turn: accepts newcomers and does one piece of work for every client (a read, a request or one
    /// chunk, a write). Call it once after every `poll`. Returns how long the next `poll` may sleep as far as
    /// this server knows: zero when there is work, `None` for as long as it likes.
    pub fn tick(&mut self, now: Instant, handler: &mut dyn Handler) -> Option<Duration> {
        self.accept(now);
        let mut wake = self.accept_after;
        for slot in &mut self.clients {
            let Some(client) = slot else { continue };
            let at = match client.turn(now, handler) {
                Next::Turn => now,
                Next::At(at) => at,
                Next::Ready => continue,
                Next::Close(reason) => {
                    tracing::debug!(reason, "control client closed");
                    close(slot.take(), self.registry.as_ref());
                    continue;
                }
            };
            wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        }
        wake.map(|at| at.saturating_duration_since(now))
    }

    /// True while some client has not got the whole of its answer; a switch that ends turns on until it has, for
    /// a moment.
    pub fn owes_answers(&self) -> bool {
        self.clients.iter().flatten().any(Connection::owes)
    }

    /// Clients connected.
    pub fn clients(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    fn accept(&mut self, now: Instant) {
        if !self.accept_ready || self.accept_after.is_some_and(|at| now < at) {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_ready = false;
                    self.accept_after = None;
                    return;
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    if self.accept_after.is_none() {
                        tracing::warn!(%error, "control clients cannot be accepted");
                    }
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // There may be more: the next turn sees.
        self.accept_after = Some(now);
    }

    fn admit(&mut self, mut stream: UnixStream, now: Instant) {
        let Some(slot) = self.free_slot(now) else {
            let message = format!("{CLIENTS_MAX} clients are connected already: close one and try again");
            let mut line = Vec::new();
            // Best effort: a newcomer that cannot take one line is closed without it.
            if write_line(&mut line, &ErrorLine { id: 0, error: ErrorBody::refused(message) }).is_ok() {
                let _ = stream.write(&line);
            }
            return;
        };
        let Some(registry) = &self.registry else { return };
        let token = Token(self.first + 1 + slot);
        if let Err(error) = registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "a control client cannot be watched");
            return;
        }
        if let Some(place) = self.clients.get_mut(slot) {
            *place = Some(Connection::new(stream, now));
        }
    }

    /// An empty place, if need be that of the client that has been idle longest.
    fn free_slot(&mut self, now: Instant) -> Option<usize> {
        if let Some(empty) = self.clients.iter().position(Option::is_none) {
            return Some(empty);
        }
        let idle = self.clients.iter().enumerate().filter_map(|(i, c)| Some((c.as_ref()?.idle_since()?, i)));
        let (since, slot) = idle.min()?;
        if now.saturating_duration_since(since) < EVICT_AFTER {
            return None;
        }
        tracing::debug!("an idle control client gave its place to a new one");
        close(self.clients.get_mut(slot)?.take(), self.registry.as_ref());
        Some(slot)
    }
}

/// Takes a client out of the poll and hangs up.
fn close(client: Option<Connection>, registry: Option<&Registry>) {
    if let (Some(mut client), Some(registry)) = (client, registry) {
        // It is closed either way; epoll forgets a closed socket by itself.
        let _ = registry.deregister(client.stream_mut());
    }
}
