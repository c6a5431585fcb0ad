//! Whole Ethernet frames in and out of a container's `eth0` (packet(7)), tags included. Any thread.
//!
//! The kernel takes the outermost VLAN tag off a received frame before packet sockets see it and reports it beside
//! the frame; it is put back here, so that what a test receives is what came over the wire.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, recvmsg,
    send, setsockopt, socket, sockopt,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Namespace;

/// Longest frame: the largest MTU of a veth, a header and two tags.
const FRAME_MAX: usize = 65_535 + 22;

/// Bytes before the place of a VLAN tag: two addresses.
const TAG_AT: usize = 12;

/// Asks the kernel to report the tag it took off.
#[derive(Clone, Copy)]
struct ReportTag;

nix::setsockopt_impl!(ReportTag, libc::SOL_PACKET, libc::PACKET_AUXDATA, bool, nix::sys::socket::sockopt::SetBool);

/// Asks the kernel not to show frames that this host sends itself.
#[derive(Clone, Copy)]
struct OnlyIncoming;

nix::setsockopt_impl!(
    OnlyIncoming,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool,
    nix::sys::socket::sockopt::SetBool
);

/// A packet socket on one interface. Receives what comes in, not what goes out.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl RawSocket {
    /// Opens one on `interface` of `space`; frames that arrive from now on are kept for it.
    ///
    /// # Panics
    /// When there is no such interface or the kernel refuses.
    pub fn open(space: &Namespace, interface: &str) -> RawSocket {
        let fd = space.run(|| open_here(interface));
        let fd = fd.unwrap_or_else(|e| panic!("no packet socket on {interface} of {}: {e}", space.name()));
        RawSocket { fd, buffer: vec![0; FRAME_MAX] }
    }

    /// Sends a frame as it is, from its destination address on.
    ///
    /// # Errors
    /// What the kernel says, such as `EMSGSIZE` for a frame above the MTU.
    pub fn try_send(&self, frame: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), frame, MsgFlags::empty()) {
                // The interface's queue is full for a moment.
                Err(Errno::ENOBUFS) => std::thread::yield_now(),
                result => return result.map(|_| ()),
            }
        }
    }

    /// As [`try_send`](Self::try_send).
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn send(&self, frame: &[u8]) {
        self.try_send(frame).unwrap_or_else(|e| panic!("cannot send a frame of {} bytes: {e}", frame.len()));
    }

    /// The next frame, waiting at most `limit`.
    pub fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(frame) = self.receive_now() {
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&wait));
        }
    }

    /// A frame that is there already.
    pub fn receive_now(&mut self) -> Option<Vec<u8>> {
        let mut control = nix::cmsg_space!([u8; 64]);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<LinkAddr>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
        let tag = message.cmsgs().ok()?.find_map(|part| match part {
            ControlMessageOwned::Unknown(part) => tag_of(&part.data_bytes),
            _ => None,
        });
        let length = message.bytes;
        Some(with_tag(&self.buffer[..length], tag))
    }

    /// Everything that arrives until `quiet` passes without a frame.
    pub fn drain(&mut self, quiet: Duration) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.receive(quiet)).collect()
    }
}

fn open_here(interface: &str) -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&fd, ReportTag, &true)?;
    setsockopt(&fd, OnlyIncoming, &true)?;
    setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20))?;
    let address = getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or(Errno::ENODEV)?;
    bind(fd.as_raw_fd(), &address)?;
    // Until it was bound the socket belonged to every interface: forget what came from the others.
    let mut scrap = [0; 64];
    while recv(fd.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT).is_ok() {}
    Ok(fd)
}

/// The tag in `tpacket_auxdata` (linux/if_packet.h): status, len, snaplen: u32; mac, net, vlan_tci, vlan_tpid: u16.
fn tag_of(auxiliary: &[u8]) -> Option<[u8; 4]> {
    const VALID: u32 = libc::TP_STATUS_VLAN_VALID;
    let status = u32::from_ne_bytes(auxiliary.get(0..4)?.try_into().ok()?);
    let half = |at: usize| Some(u16::from_ne_bytes(auxiliary.get(at..at + 2)?.try_into().ok()?));
    let (control, protocol) = (half(16)?, half(18)?);
    let [a, b] = if protocol == 0 { [0x81, 0x00] } else { protocol.to_be_bytes() };
    let [c, d] = control.to_be_bytes();
    (status & VALID != 0).then_some([a, b, c, d])
}

fn with_tag(frame: &[u8], tag: Option<[u8; 4]>) -> Vec<u8> {
    match (tag, frame.split_at_checked(TAG_AT)) {
        (Some(tag), Some((addresses, rest))) => [addresses, &tag, rest].concat(),
        _ => frame.to_vec(),
    }
}
