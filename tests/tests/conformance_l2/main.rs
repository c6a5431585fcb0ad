//! The rules of a learning VLAN bridge (IEEE 802.1D-2004 clause 7, 802.1Q-2018 clause 8), one test each.

mod ageing;
mod forwarding;
mod frame_content;
mod learning;
mod port_life;
mod port_switches;
mod station_move;
mod vlan;

use switch::ids::Mac;
use switch::limits::FRAME_ROOM;
use switch::stats::Drop;
use switch::table::fdb::Kind;
use tests::frames::{self, ETHERTYPE_EXPERIMENTAL, host, sized, tagged};
use tests::lab::{Lab, access, domain, port, setup};

/// Hosts of most tests.
fn hosts() -> (Mac, Mac, Mac) {
    (host(1), host(2), host(3))
}

/// Access ports 0 to `count - 1` in domain 1.
fn access_lab(count: usize) -> Lab {
    Lab::new(&(0..count).map(access).collect::<Vec<_>>())
}

/// Makes host `mac` known behind a port and forgets what that flooded.
fn teach(lab: &mut Lab, index: usize, mac: Mac) {
    lab.send(index, &sized(mac, mac, 60));
    lab.clear();
    assert_eq!(lab.port_of(mac), Some(index));
}
