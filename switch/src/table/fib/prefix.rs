//! Addresses as numbers, and prefixes of them. Pure values, any thread.

use std::fmt;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::limits::{FIB_WIDE_BITS_IPV4, FIB_WIDE_BITS_IPV6, FIB_WIDE_ROUTES_IPV4, FIB_WIDE_ROUTES_IPV6};

/// An address as a number in host byte order, most significant bit first on the wire: `u32` is IPv4, `u128` IPv6.
///
/// `Ipv4Addr::to_bits` and `Ipv6Addr::to_bits` make them.
pub trait Address: Copy + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// Octets of an address: 4 or 16.
    const OCTETS: usize;
    /// Words of a node's key: 1 or 2.
    const KEY_WORDS: usize;
    /// How many bits behind the first octet tell a table's root slots apart where it is wide.
    const WIDE_BITS: usize;
    /// Routes of one first octet from which on a table's root is wide there.
    const WIDE_ROUTES: usize;
    /// The octets in wire order, as a key that sorts like the number.
    type Wire: Copy + Ord + fmt::Debug + Send + Sync;

    /// The octets in wire order.
    fn to_wire(self) -> Self::Wire;
    /// The address of such octets.
    fn from_wire(wire: Self::Wire) -> Self;
    /// Octet number `at`, 0 being the first on the wire, as an index below 256. `at` is taken modulo [`Self::OCTETS`].
    fn octet(self, at: usize) -> usize;
    /// The address with octet number `at` (modulo [`Self::OCTETS`]) or-ed with `octet`.
    fn with_octet(self, at: usize, octet: usize) -> Self;
    /// The 32 bits behind the first octet, those that are not there being zero.
    fn behind_octet(self) -> u32;
    /// The six bits behind the first `bits`, as an index below 64 (those that are not there being zero), and the up to
    /// 32 or 64 bits before them. `bits` is 8 to the address's last place for a node; others give any result.
    fn window(self, bits: usize) -> (usize, u64);
    /// The first `len` bits; the others are zero.
    fn keep(self, len: usize) -> Self;
    /// The first `len` bits; the others are one.
    fn fill(self, len: usize) -> Self;
    /// Bits that both addresses have in common, from the first on.
    fn common(self, other: Self) -> usize;
    /// The address in four words, most significant first; an IPv4 address fills only the first.
    fn to_words(self) -> [u32; 4];
    /// The address in such words.
    fn from_words(words: [u32; 4]) -> Self;
    /// The address in its usual notation.
    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// The address from its usual notation.
    fn read(text: &str) -> Option<Self>;
}

impl Address for u32 {
    const OCTETS: usize = 4;
    const KEY_WORDS: usize = 1;
    const WIDE_BITS: usize = FIB_WIDE_BITS_IPV4;
    const WIDE_ROUTES: usize = FIB_WIDE_ROUTES_IPV4;
    type Wire = [u8; 4];

    fn to_wire(self) -> [u8; 4] {
        self.to_be_bytes()
    }

    fn from_wire(wire: [u8; 4]) -> u32 {
        u32::from_be_bytes(wire)
    }

    #[inline(always)]
    fn octet(self, at: usize) -> usize {
        (self >> (24 - (at & 3) * 8)) as usize & 0xff
    }

    fn with_octet(self, at: usize, octet: usize) -> u32 {
        self | (octet as u32 & 0xff) << (24 - (at & 3) * 8)
    }

    #[inline(always)]
    fn behind_octet(self) -> u32 {
        self << 8
    }

    #[inline(always)]
    fn window(self, bits: usize) -> (usize, u64) {
        // Six zeros behind the address and more: the last node has less than six bits to go by.
        let window = (u64::from(self) << 32) >> (58_usize.wrapping_sub(bits) & 63);
        ((window & 63) as usize, window >> 6)
    }

    fn keep(self, len: usize) -> u32 {
        self & !u32::MAX.checked_shr(len as u32).unwrap_or(0)
    }

    fn fill(self, len: usize) -> u32 {
        self | u32::MAX.checked_shr(len as u32).unwrap_or(0)
    }

    fn common(self, other: u32) -> usize {
        (self ^ other).leading_zeros() as usize
    }

    fn to_words(self) -> [u32; 4] {
        [self, 0, 0, 0]
    }

    fn from_words(words: [u32; 4]) -> u32 {
        words[0]
    }

    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from_bits(self), f)
    }

    fn read(text: &str) -> Option<u32> {
        text.parse().ok().map(Ipv4Addr::to_bits)
    }
}

impl Address for u128 {
    const OCTETS: usize = 16;
    const KEY_WORDS: usize = 2;
    const WIDE_BITS: usize = FIB_WIDE_BITS_IPV6;
    const WIDE_ROUTES: usize = FIB_WIDE_ROUTES_IPV6;
    type Wire = [u8; 16];

    fn to_wire(self) -> [u8; 16] {
        self.to_be_bytes()
    }

    fn from_wire(wire: [u8; 16]) -> u128 {
        u128::from_be_bytes(wire)
    }

    #[inline(always)]
    fn octet(self, at: usize) -> usize {
        // By halves: a shift of all 128 bits by a variable takes more.
        let half = if at & 8 == 0 { (self >> 64) as u64 } else { self as u64 };
        (half >> (56 - (at & 7) * 8)) as usize & 0xff
    }

    fn with_octet(self, at: usize, octet: usize) -> u128 {
        self | (octet as u128 & 0xff) << (120 - (at & 15) * 8)
    }

    #[inline(always)]
    fn behind_octet(self) -> u32 {
        (self >> 88) as u32
    }

    #[inline(always)]
    fn window(self, bits: usize) -> (usize, u64) {
        let window = self >> (122_usize.wrapping_sub(bits) & 127);
        ((window & 63) as usize, (window >> 6) as u64)
    }

    fn keep(self, len: usize) -> u128 {
        self & !u128::MAX.checked_shr(len as u32).unwrap_or(0)
    }

    fn fill(self, len: usize) -> u128 {
        self | u128::MAX.checked_shr(len as u32).unwrap_or(0)
    }

    fn common(self, other: u128) -> usize {
        (self ^ other).leading_zeros() as usize
    }

    fn to_words(self) -> [u32; 4] {
        [(self >> 96) as u32, (self >> 64) as u32, (self >> 32) as u32, self as u32]
    }

    fn from_words(words: [u32; 4]) -> u128 {
        words.into_iter().fold(0, |address, word| address << 32 | u128::from(word))
    }

    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv6Addr::from_bits(self), f)
    }

    fn read(text: &str) -> Option<u128> {
        text.parse().ok().map(Ipv6Addr::to_bits)
    }
}

/// An address prefix: the addresses that start with the same `len` bits. Sorts by address, then the shorter first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix<A> {
    address: A,
    len: u8,
}

impl<A: Address> Prefix<A> {
    /// The prefix of `len` bits; `None` if an address has fewer, or if `address` has bits set behind them.
    pub fn new(address: A, len: usize) -> Option<Prefix<A>> {
        Prefix::of(address, len).filter(|prefix| prefix.address == address)
    }

    /// The prefix of the first `len` bits of `address`; `None` if an address has fewer.
    pub fn of(address: A, len: usize) -> Option<Prefix<A>> {
        (len <= A::OCTETS * 8).then(|| Prefix { address: address.keep(len), len: len as u8 })
    }

    /// The prefix of that one address.
    pub fn host(address: A) -> Prefix<A> {
        Prefix { address, len: (A::OCTETS * 8) as u8 }
    }

    /// Its first address.
    pub fn address(self) -> A {
        self.address
    }

    /// Its last address.
    pub fn last(self) -> A {
        self.address.fill(self.len as usize)
    }

    /// Its length in bits.
    pub fn length(self) -> usize {
        self.len as usize
    }

    /// True for the prefix of all addresses.
    pub fn is_default(self) -> bool {
        self.len == 0
    }

    /// True if `address` starts with it.
    pub fn contains(self, address: A) -> bool {
        address.keep(self.length()) == self.address
    }
}

impl<A: Address> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.show(f)?;
        write!(f, "/{}", self.len)
    }
}

impl<A: Address> fmt::Debug for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<A: Address> FromStr for Prefix<A> {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefix<A>, String> {
        let example = if A::OCTETS == 4 { "10.1.0.0/16" } else { "2001:db8::/32" };
        let wrong = || format!("'{text}' is not a prefix; write an address and a length, like {example}");
        let (address, len) = text.split_once('/').ok_or_else(wrong)?;
        if len.is_empty() || !len.bytes().all(|c| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let address = A::read(address).ok_or_else(wrong)?;
        let len = len.parse().map_err(|_| wrong())?;
        let whole = Prefix::of(address, len)
            .ok_or_else(|| format!("'{text}' is not a prefix: an address has only {} bits", A::OCTETS * 8))?;
        if whole.address == address {
            Ok(whole)
        } else {
            Err(format!("'{text}' has bits set behind its length: {whole} has not"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_round_trip_through_text() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.128.0.0/9", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Prefix<u32>>().unwrap().to_string(), text);
        }
        for text in ["::/0", "2001:db8::/32", "2001:db8::1/128", "fe00::/7"] {
            assert_eq!(text.parse::<Prefix<u128>>().unwrap().to_string(), text);
        }
        for wrong in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::/0", "10.0.0.0/+8"] {
            assert!(wrong.parse::<Prefix<u32>>().is_err(), "{wrong}");
        }
        assert!("::/129".parse::<Prefix<u128>>().is_err() && "::1/127".parse::<Prefix<u128>>().is_err());
    }

    #[test]
    fn bits_are_kept_and_filled_at_both_ends() {
        assert_eq!((u32::MAX.keep(0), u32::MAX.keep(32), 0u32.fill(0), 0u32.fill(32)), (0, u32::MAX, u32::MAX, 0));
        assert_eq!((u128::MAX.keep(0), u128::MAX.keep(128)), (0, u128::MAX));
        assert_eq!((0u128.fill(0), 0u128.fill(128), 0u128.fill(127)), (u128::MAX, 0, 1));
        let address = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128;
        assert!((0..16).all(|at| address.octet(at) == at * 0x11));
        assert!((0..16).fold(0u128, |all, at| all.with_octet(at, at * 0x11)) == address);
        assert_eq!((u128::from_words(address.to_words()), address.behind_octet()), (address, 0x1122_3344));
        assert_eq!(address.window(122), (0x3f, (address >> 6) as u64));
        assert_eq!((address.window(8), address.window(26)), ((0x11 >> 2, 0), (0x33, 0x0011_2233 >> 6)));
        let address = 0xc0a8_0a2d_u32;
        assert_eq!((address.behind_octet(), address.window(8)), (0xa80a_2d00, (0xa8 >> 2, 0xc0)));
        assert_eq!((address.window(18), address.window(30)), ((0x0a, 0xc0a8 << 2), (0b01 << 4, 0xc0a8_0a2d >> 2)));
        assert!((0..4).all(|at| 0x0011_2233_u32.octet(at) == at * 0x11));
        let prefix = Prefix::of(0x0a01_0203_u32, 8).unwrap();
        assert_eq!((prefix.address(), prefix.last(), prefix.length()), (0x0a00_0000, 0x0aff_ffff, 8));
        assert!(prefix.contains(0x0aff_0000) && !prefix.contains(0x0b00_0000));
        assert!(Prefix::of(1u32, 0).unwrap().contains(u32::MAX) && Prefix::new(1u32, 31).is_none());
    }
}
