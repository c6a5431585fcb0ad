//! Where ICMP takes over: every packet that is answered with an ICMP message, or is one, comes by [`Host::icmp`].

use super::Host;
use super::neighbour::Waiting;
use crate::path::Complaint;
use crate::stats::Drop;
use crate::table::neighbour::NeighbourKey;

/// What ICMP has to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// It is to an own address and neither ARP nor neighbour discovery.
    Local,
    /// The same in a group frame, which was flooded as well.
    Heard,
    /// It was not forwarded, and is counted already.
    Complaint(Complaint),
    /// It left by the domain that it came from, towards this neighbour; this is a copy.
    Redirect(NeighbourKey),
    /// Nobody answered for its next hop. TTL and MAC addresses are those of the way out.
    Unresolved(NeighbourKey),
}

impl Host {
    /// Takes a packet over. It ends here.
    pub(super) fn icmp(&mut self, about: About, packet: Waiting) {
        let Waiting { frame, port, .. } = packet;
        match about {
            About::Local => self.out.discard(frame, port, Drop::HostIgnored),
            About::Unresolved(_) => self.out.discard(frame, port, Drop::NeighbourUnresolved),
            About::Heard | About::Complaint(_) | About::Redirect(_) => self.out.free(frame),
        }
    }
}
