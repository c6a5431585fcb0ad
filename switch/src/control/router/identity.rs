//! MAC addresses of interfaces that have none configured: the same after every restart, others on another machine.

use std::path::Path;

use crate::ids::Mac;

/// What tells this machine from others: its machine-id (machine-id(5)), else its name.
pub fn machine(machine_id: &Path) -> String {
    let id = std::fs::read_to_string(machine_id).unwrap_or_default();
    match id.trim() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        id => id.to_string(),
    }
}

/// The MAC address of interface `name` on `machine`: locally administered, unicast. The same in every version of the
/// switch, as containers remember it.
pub fn mac(machine: &str, name: &str) -> Mac {
    // FNV-1a over both texts, and a last mix, since it keeps much of the last byte in the low bits.
    let bytes = machine.bytes().chain([0]).chain(name.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    const GROUP: u64 = 0x0100_0000_0000;
    const LOCAL: u64 = 0x0200_0000_0000;
    Mac::from_bits(hash & !GROUP | LOCAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_local_and_of_their_own() {
        assert_eq!(mac("0123456789abcdef", "pods").to_string(), "56:1c:49:f9:7b:c4");
        let mut seen = std::collections::HashSet::new();
        for machine in ["a", "b", ""] {
            for number in 0..1000 {
                let mac = mac(machine, &format!("bridge{number}"));
                assert!(!mac.is_group() && mac.octets()[0] & 2 != 0, "{mac}");
                assert!(seen.insert(mac), "{machine} {number}");
            }
        }
    }

    #[test]
    fn a_machine_without_an_id_goes_by_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert_eq!(machine(file.path()), name);
        assert_eq!(machine(Path::new("/nonexistent")), name);
        std::fs::write(file.path(), "  fedc\n").unwrap();
        assert_eq!(machine(file.path()), "fedc");
    }
}
