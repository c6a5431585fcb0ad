//! Router advertisements: what the kernel of a container makes of them, and what rdisc6 reads in them.

use std::time::Duration;

use tests::net::process::wait_for;
use tests::net::router::{Net, Router, config, net, tool, v6, wait_gateway};
use tests::net::traffic::{ping, wait_reachable};
use tests::net::{Lab, Link};

const KEYS: &str = r#"
[bridge.ra]
dns = ["fd00:1::53", "fd00:1::54"]
search = ["pods.example"]
mtu = 1400
lifetime_seconds = 900
interval_seconds = 300
"#;

/// Address and routes of the default router in subnet 1: link-local, by the MAC address of its gateway.
const ROUTER: &str = "fe80::fe:ff:fe00:1";

#[test]
fn a_host_configures_itself() {
    let test = "a_host_configures_itself";
    let Some(mut lab) = Lab::new(test) else { return };
    let host = lab.member(1, "a0", &Link { bare: true, ..Link::default() });
    let other = lab.member(2, "b0", &Link::default());
    host.space().sysctl("ipv6/conf/eth0/accept_ra", "1");
    let advertising = Net { keys: KEYS, ..net("one", 1, &["a0"]) };
    let router = Router::start(&lab, &[advertising, net("two", 2, &["b0"])], &[], "");
    wait_gateway(&other);
    // Asked for, so that nobody waits for the next unsolicited one; the kernel hears the answer, too.
    if let Some(done) = tool(test, &host, "rdisc6 -1 -w 2000 -r 5 eth0") {
        let text = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in [
            "Router lifetime : 900 (0x00000384) seconds",
            "Prefix : fd00:1::/64",
            "On-link : Yes",
            "Autonomous address conf.: Yes",
            "MTU : 1400 bytes (valid)",
            "Source link-layer address: 02:FE:00:00:00:01",
            "Recursive DNS server : fd00:1::53",
            "Recursive DNS server : fd00:1::54",
            "DNS search list : pods.example",
            "Stateful address conf. : No",
        ] {
            assert!(text.contains(line), "rdisc6 does not say {line:?}:\n{}", done.stdout);
        }
        assert!(text.contains(&format!("from {ROUTER}")), "{}", done.stdout);
    }
    let own = v6(1, 0).segments();
    // The host's part is made of its MAC address, 02:99:00:00:00:01.
    let address = format!("{:x}:{:x}::99:ff:fe00:1", own[0], own[1]);
    wait_for("an address, a route and an MTU", Duration::from_secs(20), || {
        let addresses = host.space().ip("-6 address show dev eth0 scope global");
        let route = host.space().ip("-6 route show default");
        let mtu = host.space().run(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/mtu"));
        let has_route = route.contains(&format!("via {ROUTER}")) && route.contains("proto ra");
        let has_mtu = mtu.is_ok_and(|mtu| mtu.trim() == "1400");
        (addresses.contains(&address) && has_route && has_mtu).then_some(())
    });
    let prefix = host.space().ip("-6 route show fd00:1::/64");
    assert!(prefix.contains("dev eth0"), "{prefix}");
    wait_reachable(&host, other.v6());
    assert_eq!(ping(&host, other.v6(), 1352, 3), 3, "packets as long as the advertised MTU");
    router.stop();
}

#[test]
fn a_prefix_that_a_reload_removes_is_taken_back() {
    let Some(mut lab) = Lab::new("a_prefix_that_a_reload_removes_is_taken_back") else { return };
    let host = lab.member(1, "a0", &Link { bare: true, ..Link::default() });
    host.space().sysctl("ipv6/conf/eth0/accept_ra", "1");
    let before = Net { keys: KEYS, ..net("one", 1, &["a0"]) };
    let router = Router::start(&lab, &[before], &[], "");
    let addresses = || host.space().ip("-6 address show dev eth0 scope global");
    wait_for("an address to be preferred", Duration::from_secs(30), || {
        let text = addresses();
        (text.contains("scope global dynamic") && !text.contains("deprecated")).then_some(())
    });
    let keys = format!("{KEYS}prefixes = []\n");
    router.switch().write_config(&config(&[Net { keys: &keys, ..net("one", 1, &["a0"]) }]));
    assert_eq!(router.switch().switchctl(&["reload"]).code, 0);
    let text = wait_for("it to be deprecated", Duration::from_secs(10), || {
        let text = addresses();
        text.contains("deprecated").then_some(text)
    });
    let words: Vec<&str> = text.split_whitespace().collect();
    let seconds = words.iter().zip(&words[1..]).find(|(word, _)| **word == "valid_lft").map(|(_, seconds)| *seconds);
    let seconds: u32 = seconds.unwrap().trim_end_matches("sec").parse().unwrap();
    assert!((7_000..=7_200).contains(&seconds), "two hours are left: {text}");
    router.stop();
}

#[test]
fn a_bridge_without_advertisements_configures_nobody() {
    let test = "a_bridge_without_advertisements_configures_nobody";
    let Some(mut lab) = Lab::new(test) else { return };
    let host = lab.member(2, "a0", &Link { bare: true, ..Link::default() });
    let other = lab.member(1, "b0", &Link::default());
    host.space().sysctl("ipv6/conf/eth0/accept_ra", "1");
    let advertising = Net { keys: KEYS, ..net("one", 1, &["b0"]) };
    let router = Router::start(&lab, &[advertising, net("two", 2, &["a0"])], &[], "");
    wait_gateway(&other);
    if let Some(done) = tool(test, &host, "rdisc6 -1 -w 700 -r 2 eth0") {
        assert!(done.code == 2 && done.stdout.contains("No response"), "{} {}", done.code, done.stdout);
    }
    assert_eq!(host.space().ip("-6 route show default"), "");
    router.stop();
}
