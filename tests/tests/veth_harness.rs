//! The harness itself, proved with a Linux bridge in place of switchd.

use std::time::Duration;

use tests::net::capture::{Capture, tshark_complaints};
use tests::net::stations::{BROADCAST, Stations, TEST_TYPE, frame, station, tagged};
use tests::net::traffic::{Stream, UdpEcho, ping, tcp_transfer, udp_round_trip, udp_to, wait_reachable};
use tests::net::{Container, Lab, Link, stretched};

/// Joins the host ends by a bridge of the kernel.
fn bridge(lab: &Lab, host_ends: &[&str]) {
    // The bridge is an interface too; it shall not speak.
    lab.host().sysctl("ipv6/conf/default/disable_ipv6", "1");
    let mut lines = "link add br0 type bridge mcast_snooping 0\nlink set br0 up\n".to_string();
    host_ends.iter().for_each(|end| lines.push_str(&format!("link set {end} master br0\n")));
    lab.host().ip_batch(&lines);
}

fn two(lab: &mut Lab) -> (Container, Container) {
    let link = Link::default();
    let pair = (lab.container("a0", &link), lab.container("b0", &link));
    bridge(lab, &["a0", "b0"]);
    wait_reachable(&pair.0, pair.1.v4());
    pair
}

#[test]
fn traffic_helpers_see_what_the_kernel_bridge_does() {
    let Some(mut lab) = Lab::new("traffic_helpers_see_what_the_kernel_bridge_does") else { return };
    let (a, b) = two(&mut lab);
    assert_eq!((ping(&a, b.v4(), 1472, 3), ping(&a, b.v6(), 56, 3)), (3, 3));
    assert_eq!(ping(&a, b.v4(), 1473, 1), 0, "one byte above the MTU must not fit");
    let (sent, received) = tcp_transfer(&a, &b, b.v6(), 1 << 20, 1).unwrap();
    assert_eq!((sent.len(), &sent), (64, &received));
    let echo = UdpEcho::start(&b, b.v4());
    assert!(udp_round_trip(&udp_to(&a, a.v4(), echo.address()), 1400, 1).is_some());
    let stream = Stream::start(&a, &b, 1000);
    std::thread::sleep(stretched(Duration::from_millis(300)));
    let (sent, received) = stream.stop();
    assert!(sent > 50 && received.count == sent && received.misordered == 0, "{sent} {received:?}");
    // The same stream with the link down at the far end loses: the count would show it.
    lab.host().ip("link set b0 down");
    let stream = Stream::start(&a, &b, 1000);
    std::thread::sleep(stretched(Duration::from_millis(300)));
    let (sent, received) = stream.stop();
    assert!(sent > 0 && received.count == 0, "{sent} {received:?}");
}

#[test]
fn captures_show_partial_checksums_as_wrong() {
    let Some(mut lab) = Lab::new("captures_show_partial_checksums_as_wrong") else { return };
    let (a, b) = two(&mut lab);
    // A bridge passes partial checksums on, which only the kernel's own mark makes acceptable: tshark must see them.
    let capture = Capture::start(&b);
    let echo = UdpEcho::start(&b, b.v4());
    assert!(udp_round_trip(&udp_to(&a, a.v4(), echo.address()), 100, 1).is_some());
    let frames = capture.stop();
    assert!(!frames.is_empty());
    if let Some(lines) = tshark_complaints("captures_show_partial_checksums_as_wrong", &frames, lab.files()) {
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    assert_eq!(b.space().checksum_errors(), 0);
}

#[test]
fn stations_receive_frames_whole_and_in_order() {
    let Some(mut lab) = Lab::new("stations_receive_frames_whole_and_in_order") else { return };
    let ends = ["a0", "b0", "c0"];
    let mut stations = Stations::new(&mut lab, &ends, &Link::quiet());
    bridge(&lab, &ends);
    stations.wait_forwarding(0, &[1, 2], None);
    let plain = frame(BROADCAST, station(1), TEST_TYPE, &[1, 2, 3]);
    let with_tag = tagged(&plain, 0xa064);
    let header_only = frame(BROADCAST, station(1), TEST_TYPE, &[]);
    let sent = vec![plain, with_tag, header_only];
    let received = stations.send(0, &sent);
    assert_eq!(received, vec![vec![], sent.clone(), sent]);
    // Learned: only its port gets it.
    let reply = vec![frame(station(1), station(2), TEST_TYPE, &[9])];
    assert_eq!(stations.send(1, &reply), vec![reply, vec![], vec![]]);
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(mut lab) = Lab::new("a_lab_leaves_nothing_behind") else { return };
    let container = lab.container("a0", &Link::default());
    let names = [lab.host().name().to_owned(), container.space().name().to_owned()];
    let exists = |name: &String| std::path::Path::new("/run/netns").join(name).exists();
    assert!(names.iter().all(exists));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = (container, lab);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert!(!names.iter().any(exists));
}
