//! Link events from the kernel: an rtnetlink socket in the group `RTNLGRP_LINK`, after a list of all links.
//!
//! Only the few attributes a switch needs are read, and unknown ones are skipped, so that a newer kernel
//! cannot hide an interface. Messages: rtnetlink(7), include/uapi/linux/if_link.h. Control thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::links::{Link, LinkEvent, LinkSource};
use crate::ids::Mac;

/// Multicast groups as a bit mask: `RTMGRP_LINK`.
const GROUP_LINK: u32 = 1;

/// Bytes for events that wait: about a thousand links changing at once.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// Bytes of one read. The kernel fills at most 32 KiB per datagram of a list.
const READ_SIZE: usize = 64 * 1024;

/// Bytes of `struct ifinfomsg`.
const IFINFO_LEN: usize = 16;

/// The socket, and how far the list is.
pub struct NetlinkSource {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
    /// The list under way, by its sequence number.
    dumping: Option<u32>,
    /// The list must be made again: events were lost, or links changed meanwhile.
    again: bool,
    /// A list was asked for and its beginning not yet reported.
    begun: bool,
}

impl NetlinkSource {
    /// Opens the socket and asks for the list of links.
    ///
    /// # Errors
    /// What the system says; usually that netlink is not allowed here.
    pub fn open() -> io::Result<NetlinkSource> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUP_LINK))?;
        socket.set_non_blocking(true)?;
        // Best effort: with a smaller buffer an overrun is noticed, and the list made again.
        let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER as libc::c_int);
        let buffer = Vec::with_capacity(READ_SIZE);
        let mut source = NetlinkSource { socket, buffer, sequence: 0, dumping: None, again: false, begun: false };
        source.ask()?;
        Ok(source)
    }

    /// Asks for the list of all links.
    fn ask(&mut self) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.dumping = Some(self.sequence);
        self.again = false;
        self.begun = true;
        Ok(())
    }

    /// Takes one datagram apart.
    fn datagram(&mut self, bytes: &[u8], out: &mut Vec<LinkEvent>) {
        let mut rest = bytes;
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let own = self.dumping == Some(message.sequence_number());
            if own && message.flags() & NLM_F_DUMP_INTR != 0 {
                self.again = true;
            }
            match message.message_type() {
                libc::RTM_NEWLINK => out.extend(present(message.payload())),
                libc::RTM_DELLINK => out.extend(gone(message.payload())),
                kind if own && i32::from(kind) == libc::NLMSG_DONE => {
                    out.push(LinkEvent::DumpEnds);
                    self.dumping = None;
                }
                kind if own && i32::from(kind) == libc::NLMSG_ERROR => {
                    // The list was refused (another one is being made): ask once more.
                    self.dumping = None;
                    self.again = true;
                }
                _ => {}
            }
            let length = (message.length() as usize).next_multiple_of(4);
            match rest.get(length..) {
                Some(next) if length > 0 => rest = next,
                _ => return,
            }
        }
    }
}

impl LinkSource for NetlinkSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn read(&mut self, out: &mut Vec<LinkEvent>) -> io::Result<()> {
        loop {
            if self.again && self.dumping.is_none() {
                self.ask()?;
            }
            if std::mem::take(&mut self.begun) {
                out.push(LinkEvent::DumpBegins);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let read = self.socket.recv(&mut buffer, 0);
            if read.is_ok() {
                self.datagram(&buffer, out);
            }
            self.buffer = buffer;
            match read {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!("interface events came faster than they were read: listing all interfaces again");
                    self.again = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads an `RTM_NEWLINK` payload: `struct ifinfomsg`, then attributes. `None` for what is no link of ours:
/// bridge ports report their bridge state under the same type, with the family `AF_BRIDGE`.
fn present(payload: &[u8]) -> Option<LinkEvent> {
    let (ifindex, flags) = header(payload)?;
    let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let mut link = Link { ifindex, name: String::new(), up: flags & wanted == wanted, mtu: 0, mac: None };
    for attribute in NlasIterator::new(payload.get(IFINFO_LEN..)?) {
        let Ok(attribute) = attribute else { break };
        attribute_into(&attribute, &mut link);
    }
    (!link.name.is_empty()).then_some(LinkEvent::Present(link))
}

fn attribute_into(attribute: &NlaBuffer<&[u8]>, link: &mut Link) {
    let value = attribute.value();
    match attribute.kind() {
        libc::IFLA_IFNAME => {
            let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
            link.name = String::from_utf8_lossy(name).into_owned();
        }
        libc::IFLA_MTU => link.mtu = value.try_into().map_or(0, u32::from_ne_bytes),
        libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac::new),
        _ => {}
    }
}

fn gone(payload: &[u8]) -> Option<LinkEvent> {
    header(payload).map(|(ifindex, _)| LinkEvent::Gone { ifindex })
}

/// Index and flags of a `struct ifinfomsg` of the family `AF_UNSPEC`.
fn header(payload: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(payload.get(at..at + 4)?.try_into().ok()?));
    (payload.first() == Some(&0)).then_some(())?;
    Some((word(4)?, word(8)?)).filter(|(ifindex, _)| *ifindex > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_loopback_interface() {
        let mut source = NetlinkSource::open().unwrap();
        let mut events = Vec::new();
        for _ in 0..500 {
            source.read(&mut events).unwrap();
            if events.contains(&LinkEvent::DumpEnds) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!((events.first(), events.last()), (Some(&LinkEvent::DumpBegins), Some(&LinkEvent::DumpEnds)));
        let lo = events.iter().find_map(|event| match event {
            LinkEvent::Present(link) if link.name == "lo" => Some(link.clone()),
            _ => None,
        });
        let lo = lo.expect("every namespace has lo");
        assert_eq!((lo.ifindex, lo.mtu > 0), (1, true));
    }

    fn ifinfo(family: u8, ifindex: u32, flags: u32) -> Vec<u8> {
        let mut bytes = vec![family, 0, 1, 0];
        bytes.extend(ifindex.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
        bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    #[test]
    fn reads_links_and_skips_what_it_does_not_know() {
        let up_and_running = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        let mut bytes = ifinfo(0, 7, up_and_running);
        attribute(&mut bytes, 60_000 & 0x3fff, b"of a kernel to come");
        attribute(&mut bytes, libc::IFLA_IFNAME, b"web0\0");
        attribute(&mut bytes, libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7]);
        attribute(&mut bytes, libc::IFLA_MTU, &9000u32.to_ne_bytes());
        let mac = Some(Mac::new([2, 0, 0, 0, 0, 7]));
        let expected = Link { ifindex: 7, name: "web0".to_string(), up: true, mtu: 9000, mac };
        assert_eq!(present(&bytes), Some(LinkEvent::Present(expected)));
        let mut down = ifinfo(0, 7, libc::IFF_UP as u32);
        attribute(&mut down, libc::IFLA_IFNAME, b"web0\0");
        assert!(matches!(present(&down), Some(LinkEvent::Present(link)) if !link.up));
    }

    #[test]
    fn ignores_bridge_ports_and_cut_messages() {
        let mut bridge = ifinfo(libc::AF_BRIDGE as u8, 7, 0);
        attribute(&mut bridge, libc::IFLA_IFNAME, b"web0\0");
        assert_eq!((present(&bridge), gone(&bridge)), (None, None));
        let mut whole = ifinfo(0, 7, 0);
        attribute(&mut whole, libc::IFLA_IFNAME, b"web0\0");
        for cut in 0..whole.len() {
            // No panic, and never a link without its whole name.
            let parsed = present(whole.get(..cut).unwrap());
            assert!(parsed.is_none_or(|event| matches!(event, LinkEvent::Present(link) if link.name == "web0")));
        }
        assert_eq!(gone(&ifinfo(0, 9, 0)), Some(LinkEvent::Gone { ifindex: 9 }));
    }
}
