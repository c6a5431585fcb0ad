//! The rig with real namespaces: what the sink says of a load is what the generator sent. As root; elsewhere skipped.

use bench::device::{Kind, Settings};
use bench::load::Load;
use bench::stop::Stop;
use bench::trial::{self, Offer, Trial};
use std::time::Duration;

fn measure(kind: Kind, rate_pps: f64) -> Option<Trial> {
    if let Err(why) = bench::rig::check_machine() {
        println!("SKIPPED: bench: a trial of {}: {why}", kind.name());
        return None;
    }
    let settings = Settings { device_core: 0, traffic_core: 1, switchd: "switchd".into(), mtu: 1500 };
    let offer = Offer { load: Load::Socket, rate_pps: Some(rate_pps), time: Duration::from_millis(500), frame_len: 60 };
    Some(trial::run(kind, offer, &settings, &Stop::default()).expect("a trial"))
}

#[test]
fn a_slow_load_arrives_whole_and_in_order_with_its_latency() {
    for kind in [Kind::Wire, Kind::Bridge] {
        let Some(trial) = measure(kind, 20_000.0) else { return };
        assert_eq!(trial.faults, Vec::<String>::new());
        assert!((9_000..=10_000).contains(&trial.offered_frames), "{trial:?}");
        assert_eq!(trial.delivered_frames, trial.offered_frames, "{trial:?}");
        assert_eq!((trial.sequence.reordered, trial.sequence.duplicates, trial.sequence.gaps), (0, 0, 0));
        assert_eq!(trial.sequence.lost_by_interface, 0);
        let latency = trial.latency.expect("frames arrived");
        assert_eq!(latency.frames, trial.delivered_frames);
        assert!(latency.p50_us > 0.1 && latency.p50_us <= latency.p999_us && latency.p999_us <= latency.max_us);
        assert!(latency.max_us < 1_000_000.0, "{latency:?}");
    }
}
