//! The receive queues' NAPI instances of an interface and their threads, from the kernel's `netdev` family of generic
//! netlink (Documentation/netlink/specs/netdev.yaml; Linux 6.8).
//!
//! Works on the network namespace of the calling thread. Control thread and its helpers only.

use std::convert::Infallible;
use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// The family that knows the others (linux/genetlink.h), and what it is asked here.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Of linux/netdev.h.
const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_ID: u16 = 2;
const NETDEV_A_NAPI_PID: u16 = 4;

/// A message of generic netlink: which family, and its bytes behind the netlink header.
#[derive(Debug)]
struct Generic {
    family: u16,
    bytes: Vec<u8>,
}

impl Generic {
    fn new(family: u16, command: u8, attribute: DefaultNla) -> Generic {
        // Command, version, two reserved bytes.
        let mut bytes = vec![command, 1, 0, 0];
        bytes.resize(4 + attribute.buffer_len(), 0);
        attribute.emit(&mut bytes[4..]);
        Generic { family, bytes }
    }

    /// The value of an attribute of 2 or 4 bytes.
    fn value(&self, kind: u16) -> Option<u32> {
        let attributes = NlasIterator::new(self.bytes.get(4..)?);
        let attribute = attributes.flatten().find(|attribute| attribute.kind() == kind)?;
        match *attribute.value() {
            [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
            [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        self.bytes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.bytes);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Generic, Infallible> {
        Ok(Generic { family: header.message_type, bytes: payload.to_vec() })
    }
}

/// The receive threads of interface `ifindex` in the order of its queues, as process ids of the host.
///
/// # Errors
/// `NotFound` where the kernel has no such family, or the family does not know that yet.
pub(super) fn receive_threads(ifindex: u32) -> io::Result<Vec<i32>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, b"netdev\0".to_vec());
    let known = ask(&socket, Generic::new(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name), 0)?;
    let family = known.iter().find_map(|answer| answer.value(CTRL_ATTR_FAMILY_ID));
    let family = family.and_then(|id| u16::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
    let of = DefaultNla::new(NETDEV_A_NAPI_IFINDEX, ifindex.to_ne_bytes().to_vec());
    let napis = ask(&socket, Generic::new(family, NETDEV_CMD_NAPI_GET, of), NLM_F_DUMP);
    let napis = napis.map_err(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::ErrorKind::NotFound.into(),
        _ => error,
    })?;
    // Numbers are given in the order of the queues.
    let mut threads: Vec<(u32, i32)> = napis
        .iter()
        .filter_map(|napi| {
            let thread = i32::try_from(napi.value(NETDEV_A_NAPI_PID)?).ok()?;
            Some((napi.value(NETDEV_A_NAPI_ID)?, thread))
        })
        .collect();
    threads.sort_unstable();
    Ok(threads.into_iter().map(|(_, thread)| thread).collect())
}

/// All answers to a question: one, or as many as a dump has.
fn ask(socket: &Socket, question: Generic, flags: u16) -> io::Result<Vec<Generic>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Generic>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(done) if done.code < 0 => return Err(io::Error::from_raw_os_error(-done.code)),
                NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
            // Messages begin at multiples of 4 bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_both_widths_are_read() {
        let mut message = Generic::new(7, 1, DefaultNla::new(2, vec![1, 0, 0, 0]));
        let short = DefaultNla::new(3, vec![5, 0]);
        let start = message.bytes.len();
        message.bytes.resize(start + short.buffer_len(), 0);
        short.emit(&mut message.bytes[start..]);
        assert_eq!(message.value(2), Some(u32::from_ne_bytes([1, 0, 0, 0])));
        assert_eq!(message.value(3), Some(u16::from_ne_bytes([5, 0]).into()));
        assert_eq!(message.value(4), None);
    }

    #[test]
    fn the_loopback_has_no_receive_thread() {
        match receive_threads(1) {
            Ok(threads) => assert!(threads.is_empty(), "{threads:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
        }
    }
}
