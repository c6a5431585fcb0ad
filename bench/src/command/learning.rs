//! `swbench learning`.

use super::load_for;
use crate::cli::Common;
use bench::device::Kind;
use bench::error::Result;
use bench::learning::{self, Figure, Found, Plan};
use bench::load::Load;
use bench::load::address::COUNT_MAX;
use bench::stop::Stop;
use bench::{campaign, report};
use clap::Args;

/// Room that devices get for the learning rate: what is full is not to be measured there.
const ROOM_MIN: u32 = 65_536;

#[derive(Args)]
pub struct Learning {
    #[command(flatten)]
    common: Common,
    /// What to search for
    #[arg(long, value_delimiter = ',', default_value = "capacity,rate")]
    figure: Vec<Figure>,
    /// Addresses to learn for the rate
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    addresses: u32,
    /// Most addresses to try for the capacity
    #[arg(long, default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    most: u32,
    /// How close the capacity is searched for, in percent; 0 finds the last address
    #[arg(long, default_value_t = 1.0)]
    precision_percent: f64,
    /// Addresses to configure the devices for (switchd fdb_entries, OVS mac-table-size; the bridge has no limit)
    /// [default: their own for the capacity, enough for the rate]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    room: Option<u32>,
    /// Load that offers addresses for the rate; where flood cannot reach a device, socket is taken
    #[arg(long, default_value = "socket")]
    load: Load,
    /// Frames per second of what is not searched for: addresses offered for the capacity, and all frames to them
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

impl Learning {
    fn plan(&self, kind: Kind, figure: Figure) -> Plan {
        let enough = self.addresses.saturating_mul(2).max(ROOM_MIN);
        let (load, room) = match figure {
            Figure::Capacity => (Load::Socket, self.room),
            Figure::Rate => (load_for(kind, self.load), self.room.or(Some(enough))),
        };
        Plan {
            addresses: self.addresses,
            most: self.most,
            precision: self.precision_percent / 100.0,
            room,
            load,
            slow_pps: f64::from(self.rate),
        }
    }

    /// Measures and reports.
    pub fn run(&self, stop: &Stop) -> Result<()> {
        let ready = self.common.prepare_switches(stop)?;
        let with = |kind: &Kind| self.figure.iter().map(|figure| (*kind, *figure)).collect::<Vec<_>>();
        let steps: Vec<(Kind, Figure)> = ready.kinds.iter().flat_map(with).collect();
        let found = campaign::run(
            &steps,
            stop,
            |(kind, figure)| format!("{} learning {figure:?}", kind.name()).to_lowercase(),
            |(kind, figure)| learning::run(*kind, *figure, &self.plan(*kind, *figure), &ready.settings, stop),
            |f| format!("{:.0}; {}", f.value, self.remark(f)),
        )?;
        let mut rows = Vec::new();
        for &figure in &self.figure {
            let these: Vec<&Found> = found.iter().filter(|f| f.figure == figure).collect();
            let (name, unit) = match figure {
                Figure::Capacity => ("addresses learned".to_owned(), 1.0),
                Figure::Rate => (format!("learned k/s, {} addresses", self.addresses), 1e3),
            };
            let values: Vec<(Kind, f64)> = these.iter().map(|f| (f.device, f.value / unit)).collect();
            let last = |kind| these.iter().rfind(|f| f.device == kind).map_or(String::new(), |f| self.remark(f));
            rows.extend(report::rows(&name, ready.subject, &values, last));
        }
        ready.finish(&rows, &found)
    }

    /// How far the search went, and what the smallest failure was.
    fn remark(&self, found: &Found) -> String {
        let room = self.plan(found.device, found.figure).room;
        let room = room.map_or("as it comes".to_owned(), |room| format!("room for {room}"));
        let failure = found.failure().map_or(String::new(), |a| {
            let lost = u64::from(a.addresses).saturating_sub(a.returned);
            let at = format!("{} at {:.1} k/s", a.addresses, a.offered_pps / 1e3);
            let before = u64::from(a.addresses).saturating_sub(a.crossed);
            format!(", not {at}: {} flooded, {before} lost before, {lost} not returned", a.flooded)
        });
        let more = if found.at_least { ", or more: nothing failed" } else { "" };
        format!("{room}{more}{failure}, {} attempts, {} unusable", found.attempts.len(), found.unusable())
    }
}
