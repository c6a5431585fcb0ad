//! Further ports beside the two of a rig: veth pairs with their host ends in H and their far ends together in a
//! namespace C, without addresses and silent. They exist before a device takes them, so that what it costs to make
//! them is not counted for the device. Main thread.

use crate::cmd::cmd;
use crate::error::{Error, Result};
use crate::rig::Rig;

/// Veth pairs of a rig. Dropping it removes them; the device must have left them, or be gone.
#[derive(Debug)]
pub struct Crowd {
    netns: String,
    names: Vec<String>,
}

impl Crowd {
    /// Makes `count` pairs, up at both ends. A rig has room for one crowd.
    ///
    /// # Errors
    /// [`Error::Command`] when `ip` refuses, [`Error::Io`] when its input cannot be written.
    pub fn build(rig: &Rig, count: usize) -> Result<Self> {
        let crowd = Crowd { netns: rig.c(), names: (0..count).map(|n| format!("p{n}")).collect() };
        cmd(["ip", "netns", "add", &crowd.netns]).run()?;
        let quiet = "for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done";
        cmd(["sh", "-c", quiet]).in_netns(&crowd.netns).run()?;
        let (mtu, h) = (rig.shape.mtu, rig.h());
        let (mut far, mut near) = (String::new(), String::new());
        for (n, name) in crowd.names.iter().enumerate() {
            far.push_str(&format!("link add e{n} mtu {mtu} type veth peer name {name} mtu {mtu} netns {h}\n"));
            far.push_str(&format!("link set e{n} arp off up\n"));
            near.push_str(&format!("link set {name} up\n"));
        }
        for (netns, lines) in [(&crowd.netns, far), (&h, near)] {
            let file = rig.dir().join("crowd.ip");
            std::fs::write(&file, lines).map_err(|e| Error::io(format!("write {}", file.display()), e))?;
            cmd(["ip", "-n", netns, "-batch", &file.display().to_string()]).run()?;
        }
        Ok(crowd)
    }

    /// Names of the host ends.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = cmd(["ip", "netns", "del", &self.netns]).run();
    }
}
