//! Fuzz targets: what must hold for any bytes. One module each, with a function `run` that panics when it does not.
//!
//! Called by libFuzzer through `tests/fuzz` (scripts/fuzz.sh), and by `tests/fuzz_regressions.rs` for the seeds
//! and for every input that once broke a target. Deterministic: no time, no randomness, no kernel.

pub mod checksum;
pub mod config;
pub mod control;
pub mod frame;
mod oracle;
pub mod router;

/// A target: panics if what must hold does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target by name, which is also the name of its folders in `tests/fuzz`.
pub const TARGETS: [(&str, Target); 5] = [
    ("frame", frame::run),
    ("checksum", checksum::run),
    ("config", config::run),
    ("control", control::run),
    ("router", router::run),
];

/// The bytes of an input, taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; `None` at the end of the input.
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next big-endian 16-bit number; `None` when fewer than two bytes are left.
    fn word(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// The next `count` bytes, fewer at the end of the input.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        first
    }
}

/// One of `table`, by any number.
fn pick<T: Copy>(table: &[T], number: u8) -> T {
    table[usize::from(number) % table.len()]
}
