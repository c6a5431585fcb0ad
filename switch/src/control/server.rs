//! The control socket's answering end: a Unix stream server inside the control thread's `mio::Poll`.
//!
//! The server owns the socket file, the clients and their buffers; a [`Handler`] owns the meaning of the
//! requests. Bounded on purpose, so that a client that is slow, silent, huge or malformed costs a
//! buffer and nothing else. Everything here runs on the control thread; nothing blocks.

use std::time::Instant;

use ctl::protocol::{Done, ErrorBody, Item, Request};

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
