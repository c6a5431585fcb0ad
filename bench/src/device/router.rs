//! Devices that route between A and B, each on a subnet of its own: the Linux router, entirely in the kernel, and the
//! switch of this project with two bridges.

use crate::cmd::{Process, cmd};
use crate::error::Result;
use crate::rig::{GATEWAYS, Rig};

/// Gives the host ends the gateways' addresses and has the kernel forward between them.
///
/// # Errors
/// [`crate::error::Error::Command`] when `ip` refuses.
pub fn start_linux(rig: &Rig) -> Result<Vec<Process>> {
    let h = rig.h();
    for (interface, gateway) in rig.host_ends().iter().zip(GATEWAYS) {
        cmd(["ip", "-n", &h, "addr", "add", &format!("{gateway}/24"), "dev", interface]).run()?;
    }
    cmd(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).in_netns(&h).run()?;
    Ok(Vec::new())
}

/// The bridges and ports of a switchd that routes: one bridge for each host end.
pub fn switchd_body(interfaces: &[String]) -> String {
    let mut text = String::new();
    for (number, (interface, gateway)) in interfaces.iter().zip(GATEWAYS).enumerate() {
        text.push_str(&format!("[[bridge]]\nname = \"net{number}\"\ngateway = [\"{gateway}/24\"]\n"));
        text.push_str(&format!("[[port]]\ninterface = \"{interface}\"\nbridge = \"net{number}\"\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_end_has_its_own_gateway() {
        let text = switchd_body(&["sA".to_owned(), "sB".to_owned()]);
        for gateway in GATEWAYS {
            assert_eq!(text.matches(&format!("gateway = [\"{gateway}/24\"]")).count(), 1);
        }
        assert_eq!(text.matches("[[bridge]]").count(), 2);
    }
}
