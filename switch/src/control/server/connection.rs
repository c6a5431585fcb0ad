//! One client of the control socket: its buffers, the answer under way, its patience. Control thread.
//!
//! A connection does a bounded amount of work per turn: one read, one request or one chunk, one write. What
//! it holds is bounded too: [`OUTPUT_MAX`] and a line of output, one chunk of items, one request of input.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use ctl::codec::{LineBuffer, REQUEST_MAX, write_line};
use ctl::protocol::{Done, DoneLine, ErrorBody, ErrorLine, Item, ItemLine, RequestLine};
use mio::net::UnixStream;

use super::peer::peer;
use super::{CHUNK_ITEMS, ChunkContext, Handler, Progress, Reply, ResponseStream};

/// Output bytes a client may leave unread before nothing more is made for it.
const OUTPUT_MAX: usize = 128 * 1024;

/// Output bytes below which the next request or chunk is worth starting.
const OUTPUT_LOW: usize = 32 * 1024;

/// How long a client may leave its answer unread, or a request half sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How soon a stream with nothing to do is asked again.
const WAIT: Duration = Duration::from_millis(5);

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Another turn at once.
    Turn,
    /// A turn at this time, unless the socket is ready earlier.
    At(Instant),
    /// Nothing until the socket is ready.
    Ready,
    /// To be closed; why, for the log.
    Close(&'static str),
}

/// How an answer ends.
enum Ending {
    Done(Done),
    Error(ErrorBody),
}

/// The answer under way.
struct Answer {
    id: u64,
    /// Items made and not yet in the output.
    staged: VecDeque<Item>,
    /// Where more come from; `None` when `ending` is known.
    stream: Option<Box<dyn ResponseStream>>,
    ending: Option<Ending>,
    /// Items put into the output.
    items: u64,
    /// The stream had nothing last time.
    waiting: bool,
}

/// One client.
pub(super) struct Connection {
    stream: UnixStream,
    input: LineBuffer,
    output: Vec<u8>,
    /// Bytes of `output` already written.
    sent: usize,
    answer: Option<Answer>,
    readable: bool,
    writable: bool,
    input_ended: bool,
    /// No more requests: write what is left and close.
    closing: bool,
    /// When the output last moved or became non-empty.
    output_moved: Instant,
    /// When the unfinished request in `input` began.
    partial_since: Option<Instant>,
    /// When the client was last heard or served.
    active: Instant,
    chunk: Vec<Item>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, now: Instant) -> Connection {
        Connection {
            stream,
            input: LineBuffer::new(REQUEST_MAX),
            output: Vec::new(),
            sent: 0,
            answer: None,
            // Edge-triggered: what came before registration is only found by trying.
            readable: true,
            writable: true,
            input_ended: false,
            closing: false,
            output_moved: now,
            partial_since: None,
            active: now,
            chunk: Vec::new(),
        }
    }

    pub(super) fn stream_mut(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// The socket became ready in some way; the next turn finds out which.
    pub(super) fn wake(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    /// Since when the client has neither been served nor owed anything; `None` while it is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.answer.is_none() && self.unsent() == 0).then_some(self.active)
    }

    /// True while an answer is not wholly written.
    pub(super) fn owes(&self) -> bool {
        self.answer.is_some() || self.unsent() > 0
    }

    /// Bytes of output and staged items held for the client, for tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let staged = self.answer.as_ref().map_or(0, |a| a.staged.len() * size_of::<Item>());
        self.output.capacity() + staged
    }

    /// Does one bounded piece of work.
    pub(super) fn turn(&mut self, now: Instant, handler: &mut dyn Handler) -> Next {
        let step = if self.unsent() >= OUTPUT_LOW {
            Ok(())
        } else if self.answer.is_some() {
            self.advance(now);
            Ok(())
        } else {
            self.take_request(now, handler)
        };
        if step.and_then(|()| self.flush(now)).is_err() {
            return Next::Close("it is gone");
        }
        self.next(now)
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Reads once and starts the next request, if there is a whole one.
    fn take_request(&mut self, now: Instant, handler: &mut dyn Handler) -> io::Result<()> {
        if self.closing || self.begin_line(now, handler) {
            return Ok(());
        }
        if self.readable && !self.input_ended {
            match self.input.fill(&mut self.stream) {
                Ok(0) => self.input_ended = true,
                Ok(_) => self.active = now,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !self.begin_line(now, handler) && self.input_ended {
            // A peer that ends without a newline has still said what it wanted.
            let rest = self.input.take_rest();
            self.partial_since = None;
            self.closing = true;
            self.begin(&rest, now, handler);
        }
        Ok(())
    }

    /// Starts the request of the next whole line, if there is one; false when more bytes are needed.
    fn begin_line(&mut self, now: Instant, handler: &mut dyn Handler) -> bool {
        let line = match self.input.next_line() {
            Ok(Some(line)) => line.to_vec(),
            Ok(None) => {
                let partial = self.input.pending() > 0;
                self.partial_since = partial.then(|| self.partial_since.unwrap_or(now));
                return false;
            }
            Err(e) => {
                self.refuse(ErrorLine::usage(0, format!("{e}: the connection is closed; send shorter requests")), now);
                self.closing = true;
                return true;
            }
        };
        self.partial_since = None;
        self.begin(&line, now, handler);
        true
    }

    /// Carries out one line; an empty one says nothing.
    fn begin(&mut self, line: &[u8], now: Instant, handler: &mut dyn Handler) {
        if line.trim_ascii().is_empty() {
            return;
        }
        self.active = now;
        let RequestLine { id, request, .. } = match RequestLine::parse(line) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal, now),
        };
        let name = request.name();
        if request.changes_state() && !request.goes_on() {
            let caller = peer(&self.stream);
            let (uid, pid) = (caller.map(|peer| peer.uid), caller.and_then(|peer| peer.pid));
            tracing::info!(request = name, uid, pid, "control request");
        }
        let mut answer = Answer { id, staged: VecDeque::new(), stream: None, ending: None, items: 0, waiting: false };
        match handler.handle(request) {
            Reply::Done(items, done) => {
                answer.staged = items.into();
                answer.ending = Some(Ending::Done(done));
            }
            Reply::Error(error) => answer.ending = Some(Ending::Error(error)),
            Reply::Stream(stream) => answer.stream = Some(stream),
        }
        self.answer = Some(answer);
        // A short answer goes out in the turn of its request.
        self.advance(now);
    }

    /// Moves the answer on: asks for at most one chunk and writes what fits into the output.
    fn advance(&mut self, now: Instant) {
        let Some(mut answer) = self.answer.take() else { return };
        self.active = now;
        if answer.staged.is_empty() {
            answer.fill(&mut self.chunk, now);
        }
        while self.unsent() < OUTPUT_MAX {
            let Some(item) = answer.staged.pop_front() else { break };
            if let Err(e) = self.emit(&ItemLine { id: answer.id, item }, now) {
                answer.fail(format!("an item cannot be written as JSON: {e}"));
                break;
            }
            answer.items += 1;
        }
        if !answer.staged.is_empty() {
            self.answer = Some(answer);
            return;
        }
        let id = answer.id;
        let last = match answer.ending.take() {
            Some(Ending::Done(done)) => self.emit(&DoneLine { id, done: Done { items: answer.items, ..done } }, now),
            Some(Ending::Error(error)) => self.emit(&ErrorLine { id, error }, now),
            None => {
                self.answer = Some(answer);
                return;
            }
        };
        if let Err(error) = last {
            tracing::warn!(%error, "a control answer could not be written");
            self.closing = true;
        }
    }

    fn refuse(&mut self, refusal: ErrorLine, now: Instant) {
        if let Err(error) = self.emit(&refusal, now) {
            tracing::warn!(%error, "a control refusal could not be written");
        }
    }

    /// Appends one line to the output.
    fn emit(&mut self, line: &impl serde::Serialize, now: Instant) -> Result<(), serde_json::Error> {
        if self.unsent() == 0 {
            self.output_moved = now;
        }
        write_line(&mut self.output, line)
    }

    /// Writes until the output is empty or the socket full.
    fn flush(&mut self, now: Instant) -> io::Result<()> {
        while self.writable && self.unsent() > 0 {
            match self.stream.write(self.output.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent += n;
                    self.output_moved = now;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.output.drain(..self.sent);
        self.sent = 0;
        if self.output.is_empty() && self.answer.is_none() {
            // A client that goes on to be silent keeps no memory of a long answer.
            self.output = Vec::new();
            self.chunk = Vec::new();
        }
        Ok(())
    }

    /// What to do next, given everything that is known after a turn.
    fn next(&self, now: Instant) -> Next {
        if self.unsent() > 0 {
            let deadline = self.output_moved + PATIENCE;
            if now >= deadline {
                return Next::Close("it did not read its answer");
            }
            // Not writable, else the flush had emptied it; there may still be room to go on.
            return match &self.answer {
                Some(answer) if self.unsent() < OUTPUT_LOW && answer.waiting => Next::At(deadline.min(now + WAIT)),
                Some(_) if self.unsent() < OUTPUT_LOW => Next::Turn,
                _ => Next::At(deadline),
            };
        }
        match &self.answer {
            Some(answer) if answer.waiting => return Next::At(now + WAIT),
            Some(_) => return Next::Turn,
            None => {}
        }
        if self.closing {
            return Next::Close("it has been answered");
        }
        if self.readable {
            return Next::Turn;
        }
        match self.partial_since {
            Some(since) if now >= since + PATIENCE => Next::Close("it did not finish its request"),
            Some(since) => Next::At(since + PATIENCE),
            None => Next::Ready,
        }
    }
}

impl Answer {
    /// Asks the stream, if there is one, for its next items.
    fn fill(&mut self, chunk: &mut Vec<Item>, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        let progress = stream.next_chunk(chunk, &ChunkContext { now, items_max: CHUNK_ITEMS });
        self.staged.extend(chunk.drain(..));
        self.waiting = matches!(progress, Progress::Wait);
        let ending = match progress {
            Progress::More | Progress::Wait => return,
            Progress::Done(done) => Ending::Done(done),
            Progress::Failed(error) => Ending::Error(error),
        };
        self.ending = Some(ending);
        self.stream = None;
    }

    fn fail(&mut self, message: String) {
        self.staged.clear();
        self.stream = None;
        self.ending = Some(Ending::Error(ErrorBody::failed(message)));
    }
}
