//! Target `control`: any bytes on the control socket, in any pieces, from either end.
//!
//! Input: a byte that sets the longest line, bytes that say how reads fall, a zero byte, the stream.

use std::io::{self, Read};

use ctl::codec::{LineBuffer, write_line};
use ctl::protocol::{BridgeStatus, ErrorLine, FdbEntry, PortStatus, RequestLine, ResponseLine, VersionReport};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Input, pick};

/// Longest message, in bytes: what is quoted of a request is cut.
const MESSAGE_MAX: usize = 4_000;

/// See the module text.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(limit) = input.byte() else { return };
    let max = pick(&[64 * 1024, 0, 1, 16, 100, 1000], limit);
    let mut reads = Vec::new();
    while let Some(read) = input.byte().filter(|&read| read != 0) {
        reads.push(usize::from(read));
    }
    let stream = input.0;
    let lines = cut(stream, &reads, max);
    check_lines(stream, &lines, max);
    for line in lines.whole.iter().chain(&lines.rest) {
        check_request(line);
        check_response(line);
    }
}

/// What came out of the line buffer.
struct Lines {
    whole: Vec<Vec<u8>>,
    /// What followed the last newline; `None` if a line grew too long.
    rest: Option<Vec<u8>>,
}

/// Hands out its bytes in reads of the lengths given, over and over.
struct Reads<'a> {
    bytes: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Reads<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths.next().map_or(buf.len(), |&length| length.min(buf.len()));
        self.bytes.read(&mut buf[..length])
    }
}

fn cut(stream: &[u8], reads: &[usize], max: usize) -> Lines {
    let mut source = Reads { bytes: stream, lengths: reads.iter().cycle() };
    let mut buffer = LineBuffer::new(max);
    let mut whole = Vec::new();
    loop {
        match buffer.next_line() {
            Ok(Some(line)) => whole.push(line.to_vec()),
            Ok(None) => match buffer.fill(&mut source).expect("reading memory") {
                0 => return Lines { whole, rest: Some(buffer.take_rest()) },
                got => assert!(got <= buffer.pending() && buffer.pending() <= max + 16 * 1024),
            },
            Err(error) => {
                assert_eq!((error.max, buffer.next_line()), (max, Err(error)), "a line too long stays one");
                return Lines { whole, rest: None };
            }
        }
    }
}

/// The lines are the stream's, up to the first that is too long.
fn check_lines(stream: &[u8], lines: &Lines, max: usize) {
    let mut expected: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    match &lines.rest {
        Some(rest) => {
            assert_eq!(expected.pop(), Some(rest.as_slice()));
            assert_eq!(lines.whole, expected);
            assert!(expected.iter().all(|line| line.len() <= max) && rest.len() <= max);
        }
        None => {
            assert!(expected.starts_with(&lines.whole.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            assert!(expected[lines.whole.len()].len() > max);
        }
    }
}

/// A line is a request that reads back from what it is written as, or it is refused in one line.
fn check_request(line: &[u8]) {
    let mut out = Vec::new();
    match RequestLine::parse(line) {
        Ok(request) => {
            write_line(&mut out, &request).expect("a request can be written");
            let again = RequestLine::parse(out.trim_ascii_end());
            assert_eq!(again.as_ref(), Ok(&request), "{}", String::from_utf8_lossy(&out));
            assert_eq!(request.request.check(), Ok(()));
        }
        Err(refusal) => {
            let message = &refusal.error.message;
            assert!(!message.contains(char::is_control) && message.len() <= MESSAGE_MAX, "{message:?}");
            write_line(&mut out, &refusal).expect("a refusal can be written");
            let again: ErrorLine = serde_json::from_slice(&out).expect("a refusal can be read");
            assert_eq!(again, refusal);
            let response: ResponseLine<Value> = serde_json::from_slice(&out).expect("by a client as well");
            assert_eq!((response.id, response.error), (refusal.id, Some(refusal.error)));
        }
    }
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
}

/// Whatever a server sends, a client reads it or says that it cannot.
fn check_response(line: &[u8]) {
    let kinds = [
        serde_json::from_slice::<ResponseLine<FdbEntry>>(line).is_ok(),
        serde_json::from_slice::<ResponseLine<PortStatus>>(line).is_ok(),
        serde_json::from_slice::<ResponseLine<BridgeStatus>>(line).is_ok(),
        serde_json::from_slice::<ResponseLine<VersionReport>>(line).is_ok(),
    ];
    let any = serde_json::from_slice::<ResponseLine<IgnoredAny>>(line);
    assert!(any.is_ok() || !kinds.contains(&true), "what reads as one kind of item reads as any");
}
