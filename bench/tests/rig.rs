//! The rig with real namespaces: what the sink says of a load is what the generator sent. As root; elsewhere skipped.

use bench::device::{Kind, Settings};
use bench::load::{Load, Size};
use bench::relative::Plan;
use bench::search::Goal;
use bench::stop::Stop;
use bench::trial::{self, Offer, Trial};
use std::time::Duration;

/// Settings for a device of the kernel, when this machine can have a rig.
fn settings() -> Option<Settings> {
    if let Err(why) = bench::rig::check_machine() {
        println!("SKIPPED: bench: trials on a rig: {why}");
        return None;
    }
    Some(Settings { device_core: 0, traffic_core: 1, switchd: "switchd".into(), mtu: 1500 })
}

fn measure(kind: Kind, rate_pps: f64, size: Size) -> Option<Trial> {
    let settings = settings()?;
    if let Err(why) = kind.available(&settings) {
        println!("SKIPPED: bench: a trial of {}: {why}", kind.name());
        return None;
    }
    let offer = Offer { load: Load::Socket, rate_pps: Some(rate_pps), time: Duration::from_millis(500), size };
    Some(trial::run(kind, offer, &settings, &Stop::default()).expect("a trial"))
}

#[test]
fn a_slow_load_arrives_whole_and_in_order_with_its_latency() {
    let pairs = [
        (Kind::Wire, Size::Imix),
        (Kind::Bridge, Size::Fixed(60)),
        (Kind::BridgeNf, Size::Imix),
        (Kind::BridgeRps, Size::Fixed(1514)),
    ];
    for (kind, size) in pairs {
        let Some(trial) = measure(kind, 20_000.0, size) else { continue };
        assert_eq!(trial.faults, Vec::<String>::new());
        assert!((9_000..=10_000).contains(&trial.offered_frames), "{trial:?}");
        assert_eq!(trial.delivered_frames, trial.offered_frames, "{trial:?}");
        assert_eq!((trial.sequence.reordered, trial.sequence.duplicates, trial.sequence.gaps), (0, 0, 0));
        assert_eq!(trial.sequence.lost_by_interface, 0);
        let lengths = size.pattern().into_iter().cycle().take(trial.delivered_frames as usize);
        assert_eq!(trial.delivered_bytes, lengths.map(|len| len as u64).sum::<u64>(), "{size}");
        let latency = trial.latency.expect("frames arrived");
        assert_eq!(latency.frames, trial.delivered_frames);
        assert!(latency.p50_us > 0.1 && latency.p50_us <= latency.p999_us && latency.p999_us <= latency.max_us);
        assert!(latency.max_us < 1_000_000.0, "{latency:?}");
    }
}

#[test]
fn shares_of_a_found_rate_are_offered_and_timed() {
    let Some(settings) = settings() else { return };
    let time = Duration::from_millis(200);
    // Any loss is allowed, so that a busy machine finds a rate too.
    let goal =
        Goal { load: Load::Socket, size: Size::Fixed(60), loss_limit: 1.0, step: time, verify: 1, verify_time: time };
    let plan = Plan { goal, multiples: vec![0.05, 0.1], time };
    let series = plan.run(Kind::Bridge, &settings, &Stop::default()).expect("a rate and two trials");
    assert!(series.ndr_pps > 0.0 && series.peak_pps >= series.ndr_pps * 0.5, "{series:?}");
    assert_eq!(series.points.iter().map(|p| p.multiple).collect::<Vec<_>>(), [0.05, 0.1]);
    for point in &series.points {
        let aim = point.trial.aim_pps.expect("a paced trial");
        assert!((aim - series.ndr_pps * point.multiple).abs() < 1.0);
        assert!(point.trial.latency.is_some_and(|l| l.frames == point.trial.delivered_frames), "{point:?}");
    }
}

#[test]
fn facts_tell_how_devices_work_and_which_do_not() {
    let Some(settings) = settings() else { return };
    let settings = Settings { switchd: "/nonexistent/switchd".into(), ..settings };
    let kinds = [Kind::Bridge, Kind::Wire, Kind::Switchd, Kind::Bridge];
    let facts = bench::facts::collect(&kinds, &settings, &Stop::default()).expect("facts");
    assert_eq!(facts.devices.keys().collect::<Vec<_>>(), ["bridge", "switchd", "wire"]);
    let bridge = &facts.devices["bridge"];
    assert_eq!((bridge.fault.as_deref(), bridge.offloads.len(), facts.devices["wire"].offloads.len()), (None, 4, 2));
    assert!(bridge.offloads["a0"].contains("tx-checksumming"), "{bridge:?}");
    assert_eq!(bridge.queues["sA"], "1 rx, 1 tx");
    let lines = facts.lines();
    assert!(facts.devices["switchd"].fault.is_some() && lines.contains("not seen working"), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("# ")), "{lines}");
}
