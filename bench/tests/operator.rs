//! What an operator feels, measured small and short on real namespaces: TCP, idling, dumps and changes of ports under
//! load. As root; elsewhere skipped.

use bench::device::operator::Operator;
use bench::device::{Kind, Settings};
use bench::disturb::{self, Disturbance, Rate};
use bench::idle::{self, Plan};
use bench::load::{Load, Size};
use bench::stop::Stop;
use bench::tcp::{self, Cores, Setup};
use std::path::Path;
use std::time::Duration;

/// Settings, when this machine can have a rig. switchd is the one built beside swbench.
fn settings() -> Option<Settings> {
    if let Err(why) = bench::rig::check_machine() {
        println!("SKIPPED: bench: what an operator feels: {why}");
        return None;
    }
    let switchd = Path::new(env!("CARGO_BIN_EXE_swbench")).with_file_name("switchd");
    Some(Settings { device_core: 0, traffic_core: 1, switchd, mtu: 1500 })
}

/// Those of the devices that are installed and can be operated.
fn operable(test: &str, kinds: &[Kind], settings: &Settings) -> Vec<Kind> {
    let here = |kind: &Kind| match kind.available(settings).and_then(|()| Operator::available(*kind, settings)) {
        Ok(()) => true,
        Err(why) => {
            println!("SKIPPED: bench: {test}: {why}");
            false
        }
    };
    kinds.iter().copied().filter(here).collect()
}

#[test]
fn streams_share_a_bridge_and_what_cannot_pass_big_frames_is_found_out() {
    let Some(settings) = settings() else { return };
    let stop = Stop::default();
    let large = Settings { mtu: 9000, ..settings.clone() };
    tcp::carries_full_frames(Kind::Bridge, &large, &stop).expect("a bridge carries 9000 bytes");
    match Kind::Ovs.available(&settings) {
        Ok(()) => assert!(tcp::carries_full_frames(Kind::Ovs, &large, &stop).is_err(), "its afxdp has no multi-buffer"),
        Err(why) => println!("SKIPPED: bench: a device that cannot pass big frames: {why}"),
    }
    if let Err(why) = tcp::available() {
        println!("SKIPPED: bench: TCP streams: {why}");
        return;
    }
    let setup = Setup { mtu: 9000, streams: 4, cores: Cores::Two };
    let tcp = tcp::run(Kind::Bridge, setup, Duration::from_secs(1), &settings, &stop).expect("a trial");
    assert_eq!((tcp.device, tcp.setup), (Kind::Bridge, setup));
    assert!(tcp.bits_per_second > 1e6 && tcp.fairness > 0.25 && tcp.fairness <= 1.0, "{tcp:?}");
}

#[test]
fn idle_devices_are_watched_and_woken() {
    let Some(settings) = settings() else { return };
    let ms = Duration::from_millis;
    let plan = Plan { ports: 6, watch: ms(200), wakeups: 3, silence: ms(50) };
    for kind in operable("an idle device", &[Kind::Bridge, Kind::Switchd], &settings) {
        let idle = idle::run(kind, plan, &settings, &Stop::default()).expect("a trial");
        assert_eq!((idle.device, idle.ports, idle.lost), (kind, 6, 0));
        assert_eq!(idle.cpu_share.is_some(), kind == Kind::Switchd, "{idle:?}");
        assert!(idle.cpu_share.is_none_or(|share| share < 1.5), "{idle:?}");
        assert_eq!(idle.after.pss > 0, kind == Kind::Switchd, "{idle:?}");
        assert!(idle.before.kernel > 0 && idle.after.kernel > 0, "{idle:?}");
        assert!(idle.one_way.median_us > 0.1 && idle.one_way.median_us <= idle.one_way.max_us, "{idle:?}");
        assert!(idle.one_way.median_us < idle.round_trip.median_us, "{idle:?}");
        assert!(idle.round_trip.max_us < 1e6, "{idle:?}");
    }
    let text = format!("{:?}", idle::run(Kind::Wire, plan, &settings, &Stop::default()));
    assert!(text.contains("takes no others"), "{text}");
}

#[test]
fn forwarding_goes_on_while_all_stations_are_listed_and_ports_change() {
    let Some(settings) = settings() else { return };
    let (entries, rounds, time) = (3000, 2, Duration::from_millis(500));
    let plan = disturb::Plan {
        load: Load::Socket,
        size: Size::Fixed(60),
        rate: Rate::Fixed(10_000.0),
        entries,
        ports_per_second: 10.0,
        rounds,
        time,
        core: None,
    };
    for kind in operable("a disturbed device", &[Kind::Bridge, Kind::Switchd, Kind::Ovs], &settings) {
        let series = disturb::run(kind, plan, &settings, &Stop::default()).expect("a series");
        assert_eq!((series.device, series.ndr_pps, series.phases.len()), (kind, None, 6));
        for phase in &series.phases {
            assert!(phase.counts(), "{phase:?}");
            assert!(phase.trial.delivered_frames > 3000, "{phase:?}");
            let (done, listed) = (phase.actions.done, phase.actions.listed_min);
            match phase.disturbance {
                Disturbance::None => assert_eq!((done, listed), (0, None)),
                Disturbance::Dumps => assert!(done > 0 && listed == Some(entries as usize), "{phase:?}"),
                Disturbance::Ports => {
                    assert!(done > 0 && phase.actions.per_second < 11.0 && listed.is_none(), "{phase:?}");
                }
            }
        }
        for disturbance in [Disturbance::Dumps, Disturbance::Ports] {
            let ratios = series.ratios(disturbance, |t| t.delivered_pps);
            assert!(ratios.len() == usize::from(rounds) && ratios.iter().all(|r| (0.3..3.0).contains(r)), "{ratios:?}");
        }
    }
    let text = format!("{:?}", disturb::run(Kind::Wire, plan, &settings, &Stop::default()));
    assert!(text.contains("takes no others"), "{text}");
}
