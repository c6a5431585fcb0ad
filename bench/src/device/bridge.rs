//! The Linux bridge in its default configuration (br_netfilter off in this namespace), entirely in the kernel.

use crate::cmd::{Process, cmd};
use crate::error::Result;
use crate::rig::{HOST_A_IF, HOST_B_IF, Rig};

/// Enslaves both host ends to a bridge.
///
/// # Errors
/// [`crate::error::Error::Command`] when `ip` refuses.
pub fn start(rig: &Rig) -> Result<Vec<Process>> {
    let h = rig.h();
    cmd(["ip", "-n", &h, "link", "add", "br0", "type", "bridge"]).run()?;
    for interface in [HOST_A_IF, HOST_B_IF] {
        cmd(["ip", "-n", &h, "link", "set", interface, "master", "br0"]).run()?;
    }
    cmd(["ip", "-n", &h, "link", "set", "br0", "up"]).run()?;
    Ok(Vec::new())
}
