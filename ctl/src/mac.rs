//! An Ethernet address as the control protocol writes it: six hex octets, lower case, colons.
//!
//! A value type of its own, so that this crate does not depend on the switch. Any thread.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 48-bit MAC address, octets in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address: write six hex octets, like 02:42:ac:11:00:02")]
pub struct MacError(String);

impl Mac {
    /// True for group addresses (I/G bit set): broadcast and multicast. No station owns one.
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 != 0
    }

    /// True for 00:00:00:00:00:00, which no station has.
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Reads `02:42:ac:11:00:02`; case does not matter and an octet may have one digit.
    fn from_str(text: &str) -> Result<Mac, MacError> {
        parse(text).ok_or_else(|| MacError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut octets = [0u8; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_hexdigit());
        *octet = u8::from_str_radix(part, 16).ok().filter(|_| digits)?;
    }
    parts.next().is_none().then_some(Mac(octets))
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_through_text() {
        let mac: Mac = "02:42:AC:11:0:fE".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:fe");
        assert_eq!(serde_json::from_str::<Mac>(&serde_json::to_string(&mac).unwrap()).unwrap(), mac);
    }

    #[test]
    fn refuses_what_is_not_six_octets() {
        let wrong = [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:zz",
            "+2:42:ac:11:00:02",
            "024:2:ac:11:00:02",
            "::::::",
        ];
        for text in wrong {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn knows_group_and_zero_addresses() {
        assert!("01:00:5e:00:00:01".parse::<Mac>().unwrap().is_group());
        assert!(!"02:00:5e:00:00:01".parse::<Mac>().unwrap().is_group());
        assert!("0:0:0:0:0:0".parse::<Mac>().unwrap().is_zero());
    }
}
