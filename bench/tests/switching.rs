//! Tests of switching on real namespaces, each short and small. As root; elsewhere skipped.

use bench::addresses;
use bench::device::{Kind, Settings};
use bench::flooding::{self, To};
use bench::lan::{Lan, Stream};
use bench::learning::{self, Figure};
use bench::load::{self, Load, Macs, Size, frame};
use bench::mesh;
use bench::rig::Needs;
use bench::stop::Stop;
use bench::trial::{self, Offer};
use std::path::Path;
use std::time::Duration;

/// Settings with the switchd built beside this test, when this machine can have a rig.
fn settings() -> Option<Settings> {
    if let Err(why) = bench::rig::check_machine() {
        println!("SKIPPED: bench: tests of switching on a rig: {why}");
        return None;
    }
    let switchd = Path::new(env!("CARGO_BIN_EXE_swbench")).with_file_name("switchd");
    Some(Settings { device_core: 0, traffic_core: 1, switchd, mtu: 1500 })
}

/// Those of `kinds` that are installed.
fn installed<const N: usize>(kinds: [Kind; N], settings: &Settings) -> Vec<Kind> {
    let there = |kind: &Kind| {
        kind.available(settings).map_err(|why| println!("SKIPPED: bench: {} on a rig: {why}", kind.name())).is_ok()
    };
    kinds.into_iter().filter(there).collect()
}

#[test]
fn frames_count_also_behind_a_device_that_writes_addresses_anew() {
    let Some(settings) = settings() else { return };
    for kind in installed([Kind::TestpmdMac], &settings) {
        let time = Duration::from_millis(500);
        let offer = Offer { load: Load::Socket, rate_pps: Some(20_000.0), time, size: Size::Fixed(60) };
        let trial = trial::run(kind, offer, &settings, &Stop::default()).expect("a trial");
        assert_eq!(trial.faults, Vec::<String>::new());
        assert!(trial.offered_frames >= 9_000 && trial.delivered_frames * 10 > trial.offered_frames * 9, "{trial:?}");
    }
}

#[test]
fn every_receiver_gets_what_is_flooded_and_one_what_is_not() {
    let Some(settings) = settings() else { return };
    for kind in installed([Kind::Bridge, Kind::Switchd], &settings) {
        let plan = flooding::Plan {
            receivers: 3,
            to: vec![To::Broadcast, To::Unknown],
            load: Load::Socket,
            len: 60,
            rate_pps: Some(5_000.0),
            time: Duration::from_millis(400),
        };
        let floods = flooding::run(kind, &plan, &settings, &Stop::default()).expect("a trial of each");
        assert_eq!(floods.iter().map(|f| f.to).collect::<Vec<_>>(), plan.to);
        for flood in floods {
            assert!(flood.counts() && flood.received_pps.len() == 3, "{flood:?}");
            // As slow as this nothing is lost, so all get the same, three times an equal part of unicast.
            assert!((4_000.0..6_000.0).contains(&flood.mean_pps()) && flood.loss() < 0.1, "{flood:?}");
            assert!((2.7..3.3).contains(&flood.share()), "{flood:?}");
        }
    }
}

#[test]
fn in_a_mesh_every_frame_reaches_one_station() {
    let Some(settings) = settings() else { return };
    for kind in installed([Kind::Bridge, Kind::Switchd], &settings) {
        let plan = mesh::Plan { ports: 4, len: 60, rate_pps: Some(8_000.0), time: Duration::from_millis(500) };
        let trial = mesh::run(kind, &plan, &settings, &Stop::default()).expect("a trial");
        assert!(trial.counts() && (3_500..=4_000).contains(&trial.offered_frames), "{trial:?}");
        assert!(trial.loss < 0.1 && trial.received_pps.len() == 4, "{trial:?}");
        assert!(trial.received_pps.iter().all(|pps| (1_500.0..2_500.0).contains(pps)), "{trial:?}");
    }
}

#[test]
fn what_a_device_has_no_room_for_is_seen_flooded() {
    let Some(settings) = settings() else { return };
    let plan =
        learning::Plan { addresses: 64, most: 300, precision: 0.0, room: Some(100), load: Load::Socket, slow_pps: 5e3 };
    let find = |kind, figure| learning::run(kind, figure, &plan, &settings, &Stop::default()).expect("a search");
    for kind in installed([Kind::Bridge], &settings) {
        // The bridge has no limit.
        let found = find(kind, Figure::Capacity);
        assert!(found.value == 300.0 && found.at_least, "{found:?}");
    }
    for kind in installed([Kind::Switchd], &settings) {
        // Two entries are those of stations A and B.
        let found = find(kind, Figure::Capacity);
        assert!((97.0..=98.0).contains(&found.value) && !found.at_least, "{found:?}");
        assert!(found.failure().is_some_and(|a| a.flooded > 0), "{found:?}");
        let found = find(kind, Figure::Rate);
        assert!(found.value > 1_000.0 && found.attempts.iter().all(|a| a.addresses == 64), "{found:?}");
    }
}

#[test]
fn one_generator_can_follow_another_at_once() {
    let Some(settings) = settings() else { return };
    let stop = Stop::default();
    let mut lan = Lan::make(Kind::Bridge, Needs::default(), &settings, &stop).expect("two stations");
    let b_mac = lan.stations()[1].mac().expect("an address");
    let stream = Stream {
        from: 0,
        load: Load::Socket,
        frames: vec![frame::build(b_mac, 60)],
        macs: Macs::default(),
        rate_pps: None,
        time: Duration::from_secs(10),
        count: Some(10),
    };
    let jobs: Vec<_> = (0..20).map(|_| lan.job(&stream, &stop).expect("a job")).collect();
    // The kernel lets go of an interface some time after the socket is closed.
    let all = || jobs.into_iter().try_fold(None, |_, job| load::send_together(vec![job]).map(Some));
    let course = lan.measure(Load::Socket, &stop, || Ok(all()?.expect("some jobs"))).expect("no refusal");
    assert_eq!((course.received(0), course.received(1)), (0, 200));
}

#[test]
fn frames_between_many_learned_addresses_are_not_flooded() {
    let Some(settings) = settings() else { return };
    for kind in installed([Kind::Bridge, Kind::Switchd], &settings) {
        let plan = addresses::Plan {
            counts: vec![1, 600],
            room: 65_536,
            load: Load::Socket,
            len: 60,
            rate_pps: Some(10_000.0),
            time: Duration::from_millis(500),
            teach_pps: 5_000.0,
        };
        let points = addresses::run(kind, &plan, &settings, &Stop::default()).expect("both trials");
        assert_eq!(points.iter().map(|p| p.addresses).collect::<Vec<_>>(), plan.counts);
        for point in &points {
            assert!(point.counts() && point.flooded == 0.0, "{point:?}");
            assert!((8_000.0..12_000.0).contains(&point.delivered_pps) && point.loss < 0.1, "{point:?}");
            assert!((0.8..1.2).contains(&point.ratio), "{point:?}");
        }
        // A table that holds fewer addresses than are in use cannot be taught: that must not pass for a measurement.
        if kind == Kind::Switchd {
            let small = addresses::Plan { counts: vec![600], room: 300, ..plan };
            let refused = addresses::run(kind, &small, &settings, &Stop::default()).expect_err("too small a table");
            assert!(refused.to_string().contains("did not learn 600 addresses"), "{refused}");
        }
    }
}
