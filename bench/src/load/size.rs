//! Frame lengths to offer: one length, or the simple Internet mix. Lengths are those of the frame in memory, Ethernet
//! header included and FCS not, so RFC 2544's 64 is 60 here and its 1518 is 1514. Pure.

use super::frame::{MAX_LEN, MIN_LEN};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The seven sizes of RFC 2544 section 9.1, without the 4 bytes of the FCS.
pub const RFC2544: [usize; 7] = [60, 124, 252, 508, 1020, 1276, 1514];
/// Seven small, four middle, one large frame, spread so that equal ones do not come in a row where it can be helped.
const IMIX: [usize; 12] = [60, 566, 60, 60, 566, 60, 1514, 60, 566, 60, 566, 60];

/// What lengths the frames of a load have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// All the same, bytes without FCS.
    Fixed(usize),
    /// 60, 566 and 1514 bytes (64, 570 and 1518 with FCS) in the proportion 7 : 4 : 1.
    Imix,
}

impl Size {
    /// The lengths of successive frames, to be repeated.
    pub fn pattern(self) -> Vec<usize> {
        match self {
            Size::Fixed(len) => vec![len],
            Size::Imix => IMIX.to_vec(),
        }
    }
}

/// A value of the `--size` option: one size, or the name of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// One.
    One(Size),
    /// All of [`RFC2544`].
    Rfc2544,
}

impl Sizes {
    /// All sizes of a list of option values, in order.
    pub fn all(options: &[Sizes]) -> Vec<Size> {
        let of = |option: &Sizes| match option {
            Sizes::One(size) => vec![*size],
            Sizes::Rfc2544 => RFC2544.map(Size::Fixed).to_vec(),
        };
        options.iter().flat_map(of).collect()
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "imix" => return Ok(Sizes::One(Size::Imix)),
            "rfc2544" => return Ok(Sizes::Rfc2544),
            _ => {}
        }
        match text.parse() {
            Ok(len) if (MIN_LEN..=MAX_LEN).contains(&len) => Ok(Sizes::One(Size::Fixed(len))),
            _ => Err(format!("give {MIN_LEN} to {MAX_LEN} bytes (without FCS), imix or rfc2544")),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(len) => write!(f, "{len}"),
            Size::Imix => f.write_str("imix"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_refused() {
        let read = |text: &str| text.parse::<Sizes>();
        assert_eq!(read("60"), Ok(Sizes::One(Size::Fixed(60))));
        assert_eq!(read("imix"), Ok(Sizes::One(Size::Imix)));
        assert_eq!(Sizes::all(&[read("rfc2544").unwrap(), read("61").unwrap()]).len(), 8);
        for bad in ["59", "1515", "", "jumbo", "-60"] {
            assert!(read(bad).unwrap_err().contains("60 to 1514"), "{bad}");
        }
    }

    #[test]
    fn the_mix_is_seven_to_four_to_one() {
        let count = |len| Size::Imix.pattern().iter().filter(|l| **l == len).count();
        assert_eq!((count(60), count(566), count(1514), Size::Imix.pattern().len()), (7, 4, 1, 12));
        assert!(RFC2544.iter().all(|len| (MIN_LEN..=MAX_LEN).contains(len)));
    }
}
