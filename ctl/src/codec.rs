//! Framing: bytes to lines and back, with a limit on the length of a line.
//!
//! Both ends use it: the switch's control thread on non-blocking sockets, [`client`](crate::client) on a
//! blocking one. Nothing here knows what a line means.

use std::io::{self, Read};

use serde::Serialize;

/// Longest request in bytes, without its newline. The largest honest one, a trunk of 4094 VLANs with short
/// bridge names, fits.
pub const REQUEST_MAX: usize = 64 * 1024;

/// Longest response line a client accepts; one item is far shorter.
pub const RESPONSE_MAX: usize = 1024 * 1024;

/// Bytes asked for by one read.
const READ_SIZE: usize = 16 * 1024;

/// A line grew past the limit; its connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {max} bytes")]
pub struct LineTooLong {
    /// The limit.
    pub max: usize,
}

/// Bytes received and not yet handed out as lines. Holds at most one limit and one read.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// First byte not handed out.
    start: usize,
    /// Bytes before this index hold no newline (at or after `start`), so that none is searched twice.
    searched: usize,
    max: usize,
}

impl LineBuffer {
    /// An empty buffer for lines of up to `max` bytes.
    pub fn new(max: usize) -> LineBuffer {
        LineBuffer { bytes: Vec::new(), start: 0, searched: 0, max }
    }

    /// Reads once from `source`; 0 means it ended. Call it only when [`next_line`](Self::next_line) has none,
    /// which is what bounds the buffer.
    ///
    /// # Errors
    /// What the read reports, `WouldBlock` and `Interrupted` included; the buffer is unchanged then.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.compact();
        let held = self.bytes.len();
        self.bytes.resize(held + READ_SIZE, 0);
        let result = source.read(self.bytes.get_mut(held..).unwrap_or_default());
        let got = result.as_ref().map_or(0, |&n| n.min(READ_SIZE));
        self.bytes.truncate(held + got);
        result
    }

    /// The next whole line without its newline, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`LineTooLong`], now and for ever after.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|&b| b == b'\n') else {
            self.searched = self.bytes.len();
            return if self.pending() > self.max { Err(LineTooLong { max: self.max }) } else { Ok(None) };
        };
        let end = self.searched + at;
        if end - self.start > self.max {
            return Err(LineTooLong { max: self.max });
        }
        let line = self.start..end;
        self.start = end + 1;
        self.searched = end + 1;
        Ok(self.bytes.get(line))
    }

    /// What came after the last newline, for a peer that ended without one. Empties the buffer.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.compact();
        self.searched = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Bytes held that no line has carried away.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Moves what is held to the front; gives the memory of a long line back once it is empty.
    fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * READ_SIZE {
            self.bytes = Vec::new();
        }
    }
}

/// Appends `value` to `out` as one line. JSON escapes newlines in strings, so a line is always one line.
///
/// # Errors
/// A value that JSON cannot express; `out` is as before then.
pub fn write_line(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), serde_json::Error> {
    let before = out.len();
    let result = serde_json::to_writer(&mut *out, value);
    match result {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RequestLine;
    use proptest::prelude::*;

    /// Hands out its pieces one read at a time.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buf[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn lines_of(max: usize, pieces: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Result<Vec<u8>, LineTooLong>) {
        let mut source = Pieces(pieces.into_iter().filter(|p| !p.is_empty()).collect());
        let mut buffer = LineBuffer::new(max);
        let mut lines = Vec::new();
        loop {
            match buffer.next_line() {
                Ok(Some(line)) => {
                    lines.push(line.to_vec());
                    continue;
                }
                Ok(None) => {}
                Err(e) => return (lines, Err(e)),
            }
            if buffer.fill(&mut source).unwrap() == 0 {
                return (lines, Ok(buffer.take_rest()));
            }
            assert!(buffer.pending() <= max + READ_SIZE);
        }
    }

    #[test]
    fn cuts_lines_wherever_reads_fall() {
        let (lines, rest) = lines_of(8, vec![b"ab".to_vec(), b"c\n\nd\ne".to_vec(), b"f".to_vec()]);
        assert_eq!(lines, vec![b"abc".to_vec(), b"".to_vec(), b"d".to_vec()]);
        assert_eq!(rest, Ok(b"ef".to_vec()));
    }

    #[test]
    fn refuses_a_line_past_the_limit_with_or_without_newline() {
        assert_eq!(lines_of(4, vec![b"abcd\n".to_vec()]).0, vec![b"abcd".to_vec()]);
        assert_eq!(lines_of(4, vec![b"abcde\n".to_vec()]).1, Err(LineTooLong { max: 4 }));
        assert_eq!(lines_of(4, vec![b"ab".to_vec(), b"cde".to_vec()]).1, Err(LineTooLong { max: 4 }));
    }

    #[test]
    fn gives_memory_back_after_a_long_line() {
        let mut long = vec![b'x'; 100_000];
        long.push(b'\n');
        let mut source = Pieces(long.chunks(READ_SIZE).map(<[u8]>::to_vec).collect());
        let mut buffer = LineBuffer::new(200_000);
        while buffer.next_line().unwrap().is_none() {
            buffer.fill(&mut source).unwrap();
        }
        assert_eq!(buffer.fill(&mut source).unwrap(), 0);
        assert!(buffer.bytes.capacity() <= 2 * READ_SIZE, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn a_written_value_is_one_line() {
        let mut out = b"before\n".to_vec();
        write_line(&mut out, &"two\nlines").unwrap();
        assert_eq!(out, b"before\n\"two\\nlines\"\n");
        let impossible: std::collections::BTreeMap<(u8, u8), u8> = [((1, 2), 3)].into();
        assert!(write_line(&mut out, &impossible).is_err());
        assert_eq!(out, b"before\n\"two\\nlines\"\n");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_come_out_whole(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), 0..20),
            max in 0usize..300,
        ) {
            let whole = pieces.concat();
            let (lines, rest) = lines_of(max, pieces);
            let mut expected = whole.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
            match rest {
                Ok(rest) => {
                    prop_assert_eq!(Some(rest), expected.pop());
                    prop_assert_eq!(lines, expected);
                }
                Err(_) => prop_assert!(expected[lines.len()].len() > max && expected.starts_with(&lines)),
            }
        }

        #[test]
        fn any_line_parses_or_is_refused_in_one_line(line in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Err(refusal) = RequestLine::parse(&line) {
                prop_assert!(!refusal.error.message.contains('\n'));
            }
        }

        #[test]
        fn mangled_requests_never_panic(at in 0usize..90, with in any::<u8>(), cut in 0usize..100) {
            let text = r#"{"version":1,"id":7,"request":{"add-port":{"interface":"web0","trunk":{"10":"blue"}}}}"#;
            let mut line = text.as_bytes().to_vec();
            if let Some(byte) = line.get_mut(at) { *byte = with; }
            line.truncate(cut);
            let _ = RequestLine::parse(&line);
        }
    }
}
