//! The Linux bridge, entirely in the kernel: in its default configuration (br_netfilter off in this namespace), with
//! br_netfilter on, or with receive packet steering.

use super::Settings;
use crate::cmd::{Process, cmd};
use crate::error::Result;
use crate::rig::Rig;
use std::path::Path;

/// Where br_netfilter's switches are; one for each family.
const NF_CALL: &str = "/proc/sys/net/bridge/bridge-nf-call";

/// Enslaves the host ends to a bridge.
///
/// # Errors
/// [`crate::error::Error::Command`] when `ip` refuses.
pub fn start(rig: &Rig) -> Result<Vec<Process>> {
    let h = rig.h();
    cmd(["ip", "-n", &h, "link", "add", "br0", "type", "bridge"]).run()?;
    for interface in rig.host_ends() {
        cmd(["ip", "-n", &h, "link", "set", &interface, "master", "br0"]).run()?;
    }
    cmd(["ip", "-n", &h, "link", "set", "br0", "up"]).run()?;
    Ok(Vec::new())
}

/// What the bridge with br_netfilter lacks on this machine, if anything.
pub fn missing_nf() -> Option<String> {
    let there = Path::new(&format!("{NF_CALL}-iptables")).exists();
    (!there).then(|| "load the module br_netfilter".to_owned())
}

/// The bridge whose frames pass the hooks of IP netfilter.
///
/// # Errors
/// As [`start`].
pub fn start_nf(rig: &Rig) -> Result<Vec<Process>> {
    for family in ["iptables", "ip6tables"] {
        cmd(["sh", "-c", &format!("echo 1 > {NF_CALL}-{family}")]).in_netns(&rig.h()).run()?;
    }
    start(rig)
}

/// The bridge whose received frames are handed to the device's core.
///
/// # Errors
/// As [`start`].
pub fn start_rps(rig: &Rig, settings: &Settings) -> Result<Vec<Process>> {
    let mask = cpu_mask(settings.device_core);
    for interface in rig.host_ends() {
        let set = format!("echo {mask} > /sys/class/net/{interface}/queues/rx-0/rps_cpus");
        cmd(["sh", "-c", &set]).in_netns(&rig.h()).run()?;
    }
    start(rig)
}

/// One core as a mask in the kernel's format: hexadecimal words of 32 bits, the highest first.
fn cpu_mask(core: usize) -> String {
    format!("{:x}{}", 1u32 << (core % 32), ",00000000".repeat(core / 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_words_of_32_bits() {
        assert_eq!([0, 1, 31, 32, 69].map(cpu_mask), ["1", "2", "80000000", "1,00000000", "20,00000000,00000000"]);
    }
}
