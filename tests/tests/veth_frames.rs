//! Frames arrive as they were sent, whatever they are, and VLAN tags go on and off by the rules.

use std::time::Duration;

use ctl::protocol::PortState;
use tests::net::process::wait_for;
use tests::net::raw::RawSocket;
use tests::net::stations::{BROADCAST, Stations, TEST_TYPE, frame, station, tagged};
use tests::net::switchd::{UNMERGED, pods};
use tests::net::traffic::fill;
use tests::net::{Lab, Link, Switchd, stretched};

/// A payload of seeded bytes.
fn payload(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fill(&mut bytes, length as u64);
    bytes
}

#[test]
fn odd_frames_pass_byte_for_byte() {
    let Some(mut lab) = Lab::new("odd_frames_pass_byte_for_byte") else { return };
    let (ends, mtu) = (["a0", "b0", "c0"], lab.mtu(9000));
    let mut stations = Stations::new(&mut lab, &ends, &Link { mtu, ..Link::quiet() });
    let switch = Switchd::start(&lab, UNMERGED, &pods(&ends));
    stations.wait_forwarding(0, &[1, 2], None);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    // LLC: the type field is a length, right or wrong; then SNAP, NetBEUI and IPX habits.
    for (field, body) in [(3, &[0x42, 0x42, 3][..]), (46, &[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x88]), (1500, &[0xff, 0xff])]
    {
        frames.push(frame(BROADCAST, station(1), field, &[body, &[0; 46]].concat()));
    }
    // Ethertypes nobody knows, reserved ones, MPLS, PPPoE, a service tag, Q-in-Q.
    for ethertype in [0x0600, 0x1234, 0x8847, 0x8863, 0x88a8, 0x9100, 0xffff] {
        frames.push(frame(BROADCAST, station(1), ethertype, &payload(50)));
    }
    // IPv4 and IPv6 that lie about their lengths, with padding behind.
    for first in [0x45, 0x4f, 0x00, 0x60] {
        let body = [&[first][..], &[0xff; 7], &payload(60)].concat();
        frames.push(frame(BROADCAST, station(1), if first == 0x60 { 0x86dd } else { 0x0800 }, &body));
    }
    assert_eq!(stations.send(0, &frames), vec![vec![], frames.clone(), frames]);
    // Every length from the header alone to a full frame, then jumbo ones around the sizes of the pool's frames.
    let jumbo = [2047, 2048, 3519, 3520, 3839, 3840, 3841, 4096, 7680, 7681, 9013, 9014];
    let longest = mtu as usize + 14;
    let lengths: Vec<usize> = (14..=1514).chain(jumbo.into_iter().filter(|length| *length <= longest)).collect();
    for some in lengths.chunks(100) {
        let frames: Vec<Vec<u8>> =
            some.iter().map(|length| frame(station(2), station(1), TEST_TYPE, &payload(length - 14))).collect();
        assert_eq!(stations.send(0, &frames), vec![vec![], frames.clone(), frames]);
    }
    assert!(switch.stop().success());
}

#[test]
fn a_frame_larger_than_the_receivers_mtu_is_dropped_there_and_counted() {
    let Some(mut lab) = Lab::new("a_frame_larger_than_the_receivers_mtu_is_dropped_there_and_counted") else { return };
    let large = Link { mtu: lab.mtu(9000), ..Link::quiet() };
    let ends = ["a0", "b0", "c0"];
    let containers =
        vec![lab.container("a0", &large), lab.container("b0", &large), lab.container("c0", &Link::quiet())];
    let mut stations = Stations::of(containers);
    let switch = Switchd::start(&lab, UNMERGED, &pods(&ends));
    stations.wait_forwarding(0, &[1, 2], None);
    let (fits, too_large) = (frame(BROADCAST, station(1), TEST_TYPE, &payload(1500)), payload(1501));
    let too_large = frame(BROADCAST, station(1), TEST_TYPE, &too_large);
    let both = vec![too_large.clone(), fits.clone()];
    assert_eq!(stations.send(0, &both), vec![vec![], vec![too_large, fits.clone()], vec![fits]]);
    assert_eq!(switch.dropped("mtu_exceeded"), 1);
}

/// Access ports of blue and green; a trunk with 10 = blue and 20 = green; a trunk with 30 = blue and untagged green.
const VLANS: &str = r#"
[[bridge]]
name = "blue"
[[bridge]]
name = "green"
[[port]]
interface = "blue0"
bridge = "blue"
[[port]]
interface = "green0"
bridge = "green"
[[port]]
interface = "trunk0"
trunk = { 10 = "blue", 20 = "green" }
[[port]]
interface = "mixed0"
bridge = "green"
trunk = { 30 = "blue" }
"#;

/// Indexes of the containers on [`VLANS`].
const BLUE: usize = 0;
const GREEN: usize = 1;
const TRUNK: usize = 2;
const MIXED: usize = 3;

fn vlans(lab: &mut Lab) -> (Stations, Switchd) {
    let mut stations = Stations::new(lab, &["blue0", "green0", "trunk0", "mixed0"], &Link::quiet());
    let switch = Switchd::start(lab, UNMERGED, VLANS);
    stations.wait_forwarding(BLUE, &[TRUNK, MIXED], None);
    stations.wait_forwarding(GREEN, &[TRUNK, MIXED], None);
    (stations, switch)
}

#[test]
fn tags_go_on_and_off_between_access_ports_and_trunks() {
    let Some(mut lab) = Lab::new("tags_go_on_and_off_between_access_ports_and_trunks") else { return };
    let (mut stations, _switch) = vlans(&mut lab);
    let plain = frame(BROADCAST, station(1), TEST_TYPE, &payload(60));
    let tag = |control| tagged(&plain, control);
    // From an access port: each trunk has its own tag for the bridge. Green does not hear blue.
    let received = stations.send_among(BLUE, std::slice::from_ref(&plain), None, &[TRUNK, MIXED]);
    assert_eq!(received, vec![vec![], vec![], vec![tag(10)], vec![tag(30)]]);
    let received = stations.send_among(GREEN, std::slice::from_ref(&plain), None, &[TRUNK, MIXED]);
    assert_eq!(received, vec![vec![], vec![], vec![tag(20)], vec![plain.clone()]]);
    // From a trunk, priority 5 and drop eligible: kept where there is a tag, gone with it where there is none.
    let received = stations.send_among(TRUNK, &[tag(0xb00a)], Some(10), &[BLUE, MIXED]);
    assert_eq!(received, vec![vec![plain.clone()], vec![], vec![], vec![tag(0xb01e)]]);
    let received = stations.send_among(TRUNK, &[tag(0xa014)], Some(20), &[GREEN, MIXED]);
    assert_eq!(received, vec![vec![], vec![plain.clone()], vec![], vec![plain.clone()]]);
    // From the untagged side of a trunk, and an inner tag that is not ours to touch.
    let received = stations.send_among(MIXED, std::slice::from_ref(&plain), None, &[GREEN, TRUNK]);
    assert_eq!(received, vec![vec![], vec![plain.clone()], vec![tag(20)], vec![]]);
    let inner = tagged(&plain, 0x0123);
    let received = stations.send_among(TRUNK, &[tagged(&inner, 10)], Some(10), &[BLUE, MIXED]);
    assert_eq!(received, vec![vec![inner.clone()], vec![], vec![], vec![tagged(&inner, 30)]]);
}

#[test]
fn vlan_ids_nobody_carries_are_dropped_and_counted() {
    let Some(mut lab) = Lab::new("vlan_ids_nobody_carries_are_dropped_and_counted") else { return };
    let (mut stations, switch) = vlans(&mut lab);
    let plain = frame(BROADCAST, station(1), TEST_TYPE, &payload(60));
    let nobody: Vec<Vec<Vec<u8>>> = vec![vec![]; 4];
    let cases = [(99, "vlan_not_member"), (4095, "vlan_reserved"), (0xefff, "vlan_reserved")];
    for (control, reason) in cases {
        let before = switch.dropped(reason);
        let sent = [tagged(&plain, control)];
        assert_eq!(stations.send_among(TRUNK, &sent, Some(10), &[BLUE, MIXED]), nobody, "{control:#x}");
        assert_eq!(switch.dropped(reason) - before, 1, "{reason}");
    }
    // Untagged, and priority-tagged (VLAN 0), which counts as untagged: this trunk has no bridge for them.
    let before = switch.dropped("vlan_untagged");
    let sent = [plain.clone(), tagged(&plain, 0xa000)];
    assert_eq!(stations.send_among(TRUNK, &sent, Some(10), &[BLUE, MIXED]), nobody);
    assert_eq!(switch.dropped("vlan_untagged") - before, 2);
}

#[test]
fn a_priority_tag_is_untagged_with_a_priority() {
    let Some(mut lab) = Lab::new("a_priority_tag_is_untagged_with_a_priority") else { return };
    let (mut stations, _switch) = vlans(&mut lab);
    let plain = frame(BROADCAST, station(1), TEST_TYPE, &payload(60));
    let received = stations.send_among(BLUE, &[tagged(&plain, 0xa000)], None, &[TRUNK, MIXED]);
    assert_eq!(received, vec![vec![], vec![], vec![tagged(&plain, 0xa00a)], vec![tagged(&plain, 0xa01e)]]);
    let received = stations.send_among(MIXED, &[tagged(&plain, 0xc000)], None, &[GREEN, TRUNK]);
    assert_eq!(received, vec![vec![], vec![plain.clone()], vec![tagged(&plain, 0xc014)], vec![]]);
}

#[test]
fn one_address_in_two_bridges_is_two_stations() {
    let Some(mut lab) = Lab::new("one_address_in_two_bridges_is_two_stations") else { return };
    let (mut stations, switch) = vlans(&mut lab);
    let hello = frame(BROADCAST, station(1), TEST_TYPE, &payload(60));
    stations.send_among(BLUE, std::slice::from_ref(&hello), None, &[TRUNK, MIXED]);
    stations.send_among(MIXED, &[hello], None, &[GREEN, TRUNK]);
    let question = frame(station(1), station(2), TEST_TYPE, &payload(60));
    let received = stations.send_among(TRUNK, &[tagged(&question, 10)], Some(10), &[BLUE, MIXED]);
    assert_eq!(received, vec![vec![question.clone()], vec![], vec![], vec![]]);
    let received = stations.send_among(TRUNK, &[tagged(&question, 20)], Some(20), &[GREEN, MIXED]);
    assert_eq!(received, vec![vec![], vec![], vec![], vec![question]]);
    let mac = ctl::mac::Mac(station(1)).to_string();
    let mut seen: Vec<(String, u16, String)> = switch
        .fdb()
        .into_iter()
        .filter(|entry| entry.mac.to_string() == mac)
        .map(|entry| (entry.bridge, entry.vlan, entry.port))
        .collect();
    seen.sort();
    let expected = [("blue", 0, "blue0"), ("green", 0, "mixed0")];
    assert_eq!(seen, expected.map(|(bridge, vlan, port)| (bridge.to_owned(), vlan, port.to_owned())));
    // A trunk shows the id it uses.
    let mac = ctl::mac::Mac(station(2)).to_string();
    let mut ids: Vec<u16> =
        switch.fdb().iter().filter(|entry| entry.mac.to_string() == mac).map(|entry| entry.vlan).collect();
    ids.sort_unstable();
    assert_eq!(ids, [10, 20]);
}

#[test]
fn tags_that_travel_beside_the_frame_are_not_lost() {
    let Some(mut lab) = Lab::new("tags_that_travel_beside_the_frame_are_not_lost") else { return };
    let containers = ["trunk0", "blue0"].map(|end| lab.container(end, &Link::quiet()));
    let [router, web] = &containers;
    // A bridge in the container: what arrives tagged on its other port leaves by eth0 with the tag beside the frame,
    // as with a VLAN interface of the kernel. A redirect into user space would lose such a tag.
    router.space().ip_batch(
        "link add inner1 type veth peer name inner0\nlink add br0 type bridge mcast_snooping 0\n\
         link set inner0 master br0 up\nlink set eth0 master br0\nlink set inner1 up\nlink set br0 up\n",
    );
    let (mut inner, mut outer) = (RawSocket::open(router.space(), "inner1"), RawSocket::open(web.space(), "eth0"));
    assert!(router.offload("tx-vlan-offload"), "the kernel's default is on; the test is about what attaching does");
    let switch = Switchd::start(&lab, UNMERGED, VLANS);
    switch.wait_state("trunk0", PortState::Up);
    switch.wait_state("blue0", PortState::Up);
    assert!(!router.offload("tx-vlan-offload"), "{:?}", switch.port("trunk0").notes);
    let plain = frame(BROADCAST, station(1), TEST_TYPE, &payload(60));
    wait_for("a tagged frame gets from the trunk to the access port", Duration::from_secs(5), || {
        inner.send(&tagged(&plain, 0xa00a));
        outer.receive(stretched(Duration::from_millis(50))).filter(|frame| *frame == plain)
    });
    let reply = frame(station(1), station(2), TEST_TYPE, &payload(60));
    outer.send(&reply);
    assert_eq!(inner.receive(stretched(Duration::from_secs(2))), Some(tagged(&reply, 10)));
    assert_eq!(switch.dropped("vlan_untagged"), 0);
    assert!(switch.stop().success());
    assert!(router.offload("tx-vlan-offload"), "ending gives the offload back");
}
