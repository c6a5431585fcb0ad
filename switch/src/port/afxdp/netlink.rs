//! Questions to rtnetlink: what an interface is, where its other end lies, what number a namespace has.
//!
//! Sockets are opened in the network namespace of the calling thread, which may be a helper inside a container's
//! namespace. Control thread and its helpers only.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What the switch asks about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) veth: bool,
    pub(super) loopback: bool,
    /// Switched on by the administrator; says nothing about the far end.
    pub(super) up: bool,
    /// Index of the far end of a veth, in its own namespace.
    pub(super) peer_ifindex: Option<u32>,
    /// Number this namespace gave to the peer's; `None` if it is the same namespace.
    pub(super) peer_nsid: Option<i32>,
}

/// The interface called `name`.
pub(super) fn link_by_name(name: &str) -> io::Result<Link> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    ask_link(message)
}

/// The interface with index `ifindex`.
pub(super) fn link_by_index(ifindex: u32) -> io::Result<Link> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    ask_link(message)
}

/// Makes a veth pair, both ends up.
pub(super) fn add_veth(name: &str, peer: &str) -> io::Result<()> {
    let end = |name: &str| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        message
    };
    let mut pair = end(name);
    let far = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(peer))));
    pair.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), far]));
    order(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL)?;
    // Not before both ends exist.
    [name, peer].into_iter().try_for_each(|name| {
        let mut message = end(name);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        order(RouteNetlinkMessage::SetLink(message), 0)
    })
}

/// Has the kernel do something.
fn order(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    match converse(&open()?, message, NLM_F_REQUEST | NLM_F_ACK | flags)? {
        NetlinkPayload::Error(answer) if answer.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("unexpected netlink message: {other:?}"))),
    }
}

/// Asks for the numbers of many namespaces over one socket.
pub(super) struct Nsids(Socket);

impl Nsids {
    /// For the numbers that the calling thread's namespace gave.
    pub(super) fn open() -> io::Result<Nsids> {
        Ok(Nsids(open()?))
    }

    /// The number given to the namespace behind `namespace`, if any (`RTM_GETNSID`).
    pub(super) fn of(&self, namespace: BorrowedFd<'_>) -> io::Result<Option<i32>> {
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd() as u32));
        match ask(&self.0, RouteNetlinkMessage::GetNsId(message))? {
            RouteNetlinkMessage::NewNsId(answer) => Ok(parse_nsid(&answer)),
            other => Err(io::Error::other(format!("unexpected answer to RTM_GETNSID: {other:?}"))),
        }
    }
}

fn ask_link(message: LinkMessage) -> io::Result<Link> {
    match ask(&open()?, RouteNetlinkMessage::GetLink(message))? {
        RouteNetlinkMessage::NewLink(answer) => Ok(parse_link(&answer)),
        other => Err(io::Error::other(format!("unexpected answer to RTM_GETLINK: {other:?}"))),
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn ask(socket: &Socket, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    match converse(socket, question, NLM_F_REQUEST)? {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("unexpected netlink message: {other:?}"))),
    }
}

fn converse(
    socket: &Socket,
    question: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    Ok(NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?.payload)
}

fn parse_nsid(message: &NsidMessage) -> Option<i32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        // -1: no number was given to that namespace, so nothing here refers to it.
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}

fn parse_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mtu: 0,
        veth: false,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        up: message.header.flags.contains(LinkFlags::Up),
        peer_ifindex: None,
        peer_nsid: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.peer_ifindex = Some(*index),
            LinkAttribute::LinkNetNsId(id) => link.peer_nsid = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                link.veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    // Other kinds of interface use the same attribute for what they are stacked on.
    if !link.veth {
        link.peer_ifindex = None;
        link.peer_nsid = None;
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_veth_names_its_peer() {
        let link = parse_link(&message(vec![
            LinkAttribute::IfName("web0".into()),
            LinkAttribute::Mtu(9000),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
            LinkAttribute::Link(3),
            LinkAttribute::LinkNetNsId(1),
        ]));
        assert_eq!((link.ifindex, link.name.as_str(), link.mtu), (7, "web0", 9000));
        assert!(link.veth && !link.loopback);
        assert_eq!((link.peer_ifindex, link.peer_nsid), (Some(3), Some(1)));
    }

    #[test]
    fn what_a_vlan_is_stacked_on_is_no_peer() {
        let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]);
        let link = parse_link(&message(vec![LinkAttribute::Link(3), kind]));
        assert_eq!((link.veth, link.peer_ifindex, link.peer_nsid), (false, None, None));
    }

    #[test]
    fn a_namespace_without_a_number_is_none() {
        let mut answer = NsidMessage::default();
        assert_eq!(parse_nsid(&answer), None);
        answer.attributes.push(NsidAttribute::Id(-1));
        assert_eq!(parse_nsid(&answer), None);
        answer.attributes.insert(0, NsidAttribute::Id(4));
        assert_eq!(parse_nsid(&answer), Some(4));
    }

    #[test]
    fn the_loopback_is_known_in_every_namespace() {
        let lo = link_by_name("lo").unwrap();
        assert!(lo.loopback && !lo.veth && lo.ifindex == 1);
        assert_eq!(link_by_index(1).unwrap(), lo);
        assert_eq!(link_by_name("no-such-if").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
