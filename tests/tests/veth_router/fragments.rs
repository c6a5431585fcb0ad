//! Packets to the router itself that are longer than the link: echo requests of the kernel's making, and fragments
//! made by hand.

use std::net::IpAddr;
use std::time::Duration;

use tests::net::packets::{self, IP, seal};
use tests::net::process::output;
use tests::net::router::{RawHost, Router, gateway_mac, gateway_v4, gateway_v6, net, wait_gateway};
use tests::net::{Container, Lab, Link, stretched};

/// Pings of `size` payload octets, fragmented where they must be; what ping says if not all three come back as they
/// went.
fn long_pings(from: &Container, to: IpAddr, size: usize) -> Result<(), String> {
    let (size, wait) = (size.to_string(), stretched(Duration::from_secs(2)).as_secs().to_string());
    let mut command = from.space().command("ping");
    command.args(["-n", "-M", "dont", "-i", "0.02", "-W", &wait, "-c", "3", "-p", "a5c30f", "-s", &size]);
    let text = output(command.arg(to.to_string())).stdout;
    // ping looks at every octet that comes back.
    let whole = text.contains("3 received") && !text.contains("wrong data") && !text.contains("truncated");
    if whole { Ok(()) } else { Err(format!("{size} octets to {to}:\n{text}")) }
}

#[test]
fn pings_longer_than_the_mtu_are_answered() {
    let Some(mut lab) = Lab::new("pings_longer_than_the_mtu_are_answered") else { return };
    let wide = lab.mtu(9000);
    let hosts = [(1, "a0", 1500), (2, "j0", wide), (2, "k0", 1500)]
        .map(|(subnet, end, mtu)| lab.member(subnet, end, &Link { mtu, ..Link::default() }));
    let router = Router::start(&lab, &[net("one", 1, &["a0"]), net("two", 2, &["j0", "k0"])], &[], "");
    hosts.iter().for_each(wait_gateway);
    let [a, jumbo, _] = &hosts;
    let gateways: [[IpAddr; 2]; 2] = [1, 2].map(|subnet| [gateway_v4(subnet).into(), gateway_v6(subnet).into()]);
    for (from, to) in [(a, gateways[0]), (a, gateways[1]), (jumbo, gateways[1])] {
        for target in to {
            // The longest that there are: 65535 octets with IPv4's header, 65535 without IPv6's.
            let longest = if target.is_ipv4() { 65_507 } else { 65_527 };
            for size in [1_472, 1_473, 3_000, 4_000, 20_000, longest] {
                long_pings(from, target, size).unwrap_or_else(|text| panic!("from {}: {text}", from.host_end()));
            }
        }
    }
    router.stop();
}

/// The octets `from..to` of a packet's payload as a fragment with this identification.
fn piece(frame: &[u8], identification: u16, from: usize, to: usize) -> Vec<u8> {
    let is_v4 = frame[12..14] == [8, 0];
    let start = if is_v4 { IP + 20 } else { IP + 40 };
    let (more, to) = (to < frame.len() - start, to.min(frame.len() - start));
    let part = &frame[start + from..start + to];
    let mut piece = frame[..start].to_vec();
    if is_v4 {
        piece[IP + 2..IP + 4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        piece[IP + 4..IP + 6].copy_from_slice(&identification.to_be_bytes());
        piece[IP + 6..IP + 8].copy_from_slice(&((from as u16 / 8) | (u16::from(more) << 13)).to_be_bytes());
        seal(&mut piece);
    } else {
        piece[IP + 4..IP + 6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
        let next = std::mem::replace(&mut piece[IP + 6], 44);
        piece.extend([next, 0]);
        piece.extend((from as u16 | u16::from(more)).to_be_bytes());
        piece.extend(u32::from(identification).to_be_bytes());
    }
    [&piece[..], part].concat()
}

/// True if an answer came by the time an echo request that follows was answered.
fn is_answered(host: &mut RawHost, gateway: IpAddr, fragments: &[Vec<u8>]) -> bool {
    fragments.iter().for_each(|fragment| host.send(fragment));
    host.send(&packets::echo_request(&host.ends(gateway), 0xa5a5, 1, b"the last one"));
    let mut found = false;
    host.expect("the last answer", |frame| {
        let from_router = frame[6..12] == gateway_mac(1) && packets::is_ip(frame) && !packets::is_discovery(frame);
        let is_last = frame.ends_with(b"the last one");
        found |= from_router && !is_last;
        is_last
    });
    found
}

#[test]
fn fragments_in_any_order_are_answered_and_overlapping_ones_are_not() {
    let Some(mut lab) = Lab::new("fragments_in_any_order_are_answered_and_overlapping_ones_are_not") else { return };
    let end = lab.member(1, "a0", &Link::quiet());
    let mut host = RawHost::new(&end);
    let router = Router::start(&lab, &[net("one", 1, &["a0"])], &[], "");
    host.introduce();
    for (version, gateway) in [IpAddr::from(gateway_v4(1)), gateway_v6(1).into()].into_iter().enumerate() {
        let data: Vec<u8> = (0..3_000).map(|at| (at / 3) as u8).collect();
        let frame = packets::echo_request(&host.ends(gateway), 7, 9, &data);
        let cases = [
            (true, vec![(0, 1_000), (1_000, 2_000), (2_000, 9_999)]),
            (true, vec![(2_000, 9_999), (0, 1_000), (1_000, 2_000)]),
            (true, vec![(0, 1_000), (0, 1_000), (1_000, 2_000), (2_000, 9_999)]),
            (false, vec![(0, 1_000), (2_000, 9_999)]),
            (false, vec![(0, 1_008), (1_000, 2_000), (2_000, 9_999)]),
            (false, vec![(2_000, 9_999), (1_000, 2_008), (0, 1_000)]),
        ];
        for (number, (is_sound, parts)) in cases.into_iter().enumerate() {
            let identification = (version * 100 + number) as u16 + 1;
            let cut = |(from, to)| piece(&frame, identification, from, to);
            let fragments: Vec<Vec<u8>> = parts.into_iter().map(cut).collect();
            let found = is_answered(&mut host, gateway, &fragments);
            assert_eq!(found, is_sound, "case {number} to {gateway}");
        }
    }
    // A fragment that is a packet of its own.
    let frame = packets::echo_request(&host.ends(gateway_v6(1).into()), 7, 9, b"whole");
    assert!(is_answered(&mut host, gateway_v6(1).into(), &[piece(&frame, 500, 0, 9_999)]), "an atomic fragment");
    router.stop();
}
