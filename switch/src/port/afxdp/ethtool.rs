//! Offload features and queue counts of an interface, through the ethtool ioctl (linux/ethtool.h).
//!
//! Works on the network namespace of the calling thread. Control thread and its helpers only.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// String set that names the feature bits.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of one name (`ETH_GSTRING_LEN`).
const NAME_LEN: usize = 32;
/// Set result: some of the bits cannot be changed here.
const ETHTOOL_F_UNSUPPORTED: i32 = 1;

/// An interface to ask about.
pub(super) struct Device {
    socket: OwnedFd,
    name: String,
}

/// One feature bit: where it is and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bit {
    index: usize,
    active: bool,
    changeable: bool,
}

impl Device {
    /// The interface called `name` in the calling thread's network namespace.
    pub(super) fn open(name: &str) -> io::Result<Device> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        // SAFETY: plain system call.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created, owned by nobody else.
        Ok(Device { socket: unsafe { OwnedFd::from_raw_fd(fd) }, name: name.to_string() })
    }

    /// Active receive queues. Drivers that cannot say have one.
    pub(super) fn rx_queues(&self) -> io::Result<u32> {
        // cmd, then maxima and counts of: rx, tx, other, combined.
        let mut channels = [ETHTOOL_GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
        match self.call(&mut channels) {
            Ok(_) => {
                let [_, _, _, _, _, rx, _, _, combined] = channels;
                Ok((rx + combined).max(1))
            }
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Turns feature `name` (as `ethtool -k` spells the kernel's name, for example `tx-vlan-hw-insert`) on or off.
    /// Returns what it was, or `None` if the interface does not have it or does not let it be changed and it
    /// differs from `on`.
    pub(super) fn set_feature(&self, name: &str, on: bool) -> io::Result<Option<bool>> {
        let names = self.feature_names()?;
        let Some(index) = names.iter().position(|known| known == name) else { return Ok(None) };
        let bit = self.feature(index, names.len())?;
        if bit.active == on {
            return Ok(Some(on));
        }
        if !bit.changeable {
            return Ok(None);
        }
        let mut request = set_request(index, names.len(), on);
        let answer = self.call(&mut request)?;
        Ok((answer & ETHTOOL_F_UNSUPPORTED == 0).then_some(bit.active))
    }

    /// Whether feature `name` is on; `None` if the kernel does not know it.
    pub(super) fn is_active(&self, name: &str) -> io::Result<Option<bool>> {
        let names = self.feature_names()?;
        let Some(index) = names.iter().position(|known| known == name) else { return Ok(None) };
        Ok(Some(self.feature(index, names.len())?.active))
    }

    fn feature_names(&self) -> io::Result<Vec<String>> {
        // cmd, reserved, 64-bit mask of string sets, length of the one set.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
        info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
        self.call(&mut info)?;
        let count = info[4];
        let mut strings = vec![0u32; 3 + count as usize * NAME_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count]);
        self.call(&mut strings)?;
        Ok(parse_names(&strings[3..]))
    }

    fn feature(&self, index: usize, count: usize) -> io::Result<Bit> {
        let blocks = count.div_ceil(32);
        // cmd, blocks, then per block: available, requested, active, never changed.
        let mut words = vec![0u32; 2 + blocks * 4];
        words[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
        self.call(&mut words)?;
        parse_feature(&words[2..], index).ok_or_else(|| io::Error::other("feature bit out of range"))
    }

    /// One `SIOCETHTOOL` call with `data` as the command's structure. The caller sizes `data` for the command.
    fn call(&self, data: &mut [u32]) -> io::Result<i32> {
        // SAFETY: plain data with no invalid patterns.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: `data` holds the structure of its command, with room for the counts it names, and outlives the
        // call; the kernel writes no further.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}

/// The structure of `ETHTOOL_SFEATURES` that sets one bit: per block what is valid and what is wanted.
fn set_request(index: usize, count: usize, on: bool) -> Vec<u32> {
    let blocks = count.div_ceil(32);
    let mut words = vec![0u32; 2 + blocks * 2];
    words[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    let bit = 1 << (index % 32);
    words[2 + index / 32 * 2] = bit;
    words[3 + index / 32 * 2] = if on { bit } else { 0 };
    words
}

fn parse_names(words: &[u32]) -> Vec<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |name: &[u8]| {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    };
    bytes.chunks_exact(NAME_LEN).map(text).collect()
}

fn parse_feature(blocks: &[u32], index: usize) -> Option<Bit> {
    let block = blocks.chunks_exact(4).nth(index / 32)?;
    let is_set = |word: u32| word >> (index % 32) & 1 == 1;
    let [available, _, active, never_changed] = *block else { return None };
    Some(Bit { index, active: is_set(active), changeable: is_set(available) && !is_set(never_changed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_their_zero() {
        let mut bytes = [0u8; 2 * NAME_LEN];
        bytes[..4].copy_from_slice(b"rx-a");
        bytes[NAME_LEN..NAME_LEN + 2].copy_from_slice(b"tx");
        let words: Vec<u32> = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        assert_eq!(parse_names(&words), ["rx-a", "tx"]);
    }

    #[test]
    fn a_feature_beyond_the_first_block_is_found() {
        let blocks = [0, 0, 0, 0, 0b101, 0, 0b001, 0b100];
        assert_eq!(parse_feature(&blocks, 32), Some(Bit { index: 32, active: true, changeable: true }));
        assert_eq!(parse_feature(&blocks, 34), Some(Bit { index: 34, active: false, changeable: false }));
        assert_eq!(parse_feature(&blocks, 64), None);
    }

    #[test]
    fn a_request_names_one_bit() {
        assert_eq!(set_request(33, 60, false), [ETHTOOL_SFEATURES, 2, 0, 0, 0b10, 0]);
        assert_eq!(set_request(1, 31, true), [ETHTOOL_SFEATURES, 1, 0b10, 0b10]);
    }

    #[test]
    fn the_loopback_answers() {
        let lo = Device::open("lo").unwrap();
        assert_eq!(lo.rx_queues().unwrap(), 1);
        assert!(lo.feature_names().unwrap().iter().any(|name| name == "tx-vlan-hw-insert"));
        assert_eq!(lo.set_feature("no-such-feature", true).unwrap(), None);
        assert_eq!(lo.is_active("no-such-feature").unwrap(), None);
        assert_eq!(lo.is_active("loopback").unwrap(), Some(true));
        assert!(Device::open("an-interface-name-too-long").is_err());
    }
}
