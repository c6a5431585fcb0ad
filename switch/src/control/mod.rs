//! The control thread: the only writer of configuration.
//!
//! [`Control`] holds the configuration, the state of every port and what workers were told; [`EventLoop`] runs it
//! on link events, worker events, requests, signals and timers. `main` makes both. Each turn of the loop does a
//! bounded piece of work: one attach, one slice of a sweep, one round of requests.
//!
//! `links` and `netlink`: interfaces; `ports`: the life of a port; `view`: numbers and snapshots; `ageing`: removing
//! addresses; `closer`: closing sockets; `fill`: fill rings; `receive`: kernel receive work by load; `resume`: how
//! soon idle cores wake; `router`: interfaces, routes and next hops; `requests`, `change`, `show` and `dump`: the
//! control socket's commands; `server`: the socket itself.

mod ageing;
mod change;
mod closer;
mod dump;
mod fill;
mod links;
mod merge;
mod netlink;
mod ports;
mod receive;
mod requests;
mod resume;
mod router;
mod run;
pub mod server;
mod show;
mod show_host;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use closer::Closer;
pub use links::{Link, LinkEvent, LinkSource};
pub use netlink::NetlinkSource;
pub use router::identity::machine;
pub use run::EventLoop;

use self::ageing::{Sweeper, Then};
use self::links::LinkTable;
use self::ports::{Life, PortTable, Slot};
use self::resume::Resume;
use self::router::Router;
use self::view::{Domains, Publisher, port_setup, routed_domain};
use self::watch::Watch;
use crate::config::Config;
use crate::host::SharedHost;
use crate::ids::{DomainId, PortId};
use crate::limits::AGEING_SECONDS_DEFAULT;
use crate::port::{CONTAINER_GRO, PortFactory, THREADED_NAPI};
use crate::worker::{Event, Shared};

/// How soon next hops that nothing leads to any more are looked at again: workers pass within microseconds, or sleep.
const ROUTES_PAUSE: Duration = Duration::from_millis(20);

/// What a [`Control`] is made of.
pub struct Parts {
    /// The configuration to start with.
    pub config: Config,
    /// The file it came from, for `reload`.
    pub source: Option<PathBuf>,
    /// Zero of the switch's clock; the workers' too.
    pub epoch: Instant,
    /// What is shared with the workers.
    pub shared: Arc<Shared>,
    /// The switch as a host.
    pub host: SharedHost,
    /// Attaches interfaces.
    pub factory: Box<dyn PortFactory>,
    /// Where link events come from.
    pub links: Box<dyn LinkSource>,
    /// Closes ports.
    pub closer: Closer,
    /// What tells this machine from others, for derived MAC addresses: see [`machine`].
    pub machine: String,
}

/// The state of the switch as its operator sees it. Control thread.
pub struct Control {
    config: Config,
    source: Option<PathBuf>,
    epoch: Instant,
    /// Second of the switch's clock, as of this turn.
    now_s: u32,
    shared: Arc<Shared>,
    factory: Box<dyn PortFactory>,
    /// Containers are to receive in batches, and the kernel is made for it.
    merges: bool,
    /// When to look whether they still do.
    merge_check: Instant,
    link_source: Box<dyn LinkSource>,
    links: LinkTable,
    ports: PortTable,
    domains: Domains,
    publisher: Publisher,
    sweeper: Sweeper,
    closer: Closer,
    watch: Watch,
    resume: Resume,
    router: Router,
    /// Workers have to be told of something.
    changed: bool,
    /// Ports have to be brought in line.
    look: bool,
    /// When a failed attach is tried again.
    retry: Option<Instant>,
    ready: bool,
    stopping: bool,
}

impl Control {
    /// A switch with nothing attached yet. Reports kernel features that are missing.
    pub fn new(parts: Parts) -> Control {
        let Parts { config, source, epoch, shared, factory, links, closer, host, machine } = parts;
        let watch = Watch::new(epoch, shared.workers());
        let resume = Resume::new(config.switch.resume_latency_us, epoch);
        let router = Router::new(&shared, host, machine);
        let merges = config.switch.container_gro
            && factory.features().iter().any(|feature| feature.name == CONTAINER_GRO && feature.present);
        let mut control = Control {
            config,
            source,
            epoch,
            now_s: 0,
            shared,
            factory,
            merges,
            merge_check: epoch,
            link_source: links,
            links: LinkTable::default(),
            ports: PortTable::default(),
            domains: Domains::default(),
            publisher: Publisher::default(),
            sweeper: Sweeper::default(),
            closer,
            watch,
            resume,
            router,
            changed: true,
            look: true,
            retry: None,
            ready: false,
            stopping: false,
        };
        let config = &control.config;
        for bridge in &config.bridges {
            // A checked configuration has no more bridges and ports than there are numbers.
            let _ = control.domains.add(&bridge.name);
        }
        for port in &config.ports {
            let _ = control.ports.add(&port.interface, false);
            if port.is_routed() {
                let _ = control.domains.add(&routed_domain(&port.interface));
            }
        }
        control.missing_features().iter().for_each(|line| tracing::info!("{line}"));
        control
    }

    /// What the kernel lacks of what this configuration uses, a line each.
    fn missing_features(&self) -> Vec<String> {
        let switch = &self.config.switch;
        let wanted = |name| match name {
            THREADED_NAPI => switch.receive_threads,
            CONTAINER_GRO => switch.container_gro,
            _ => true,
        };
        let features = self.factory.features().into_iter();
        let missing = features.filter(|feature| !feature.present && wanted(feature.name));
        missing.map(|feature| format!("kernel without {}: {}", feature.name, feature.without)).collect()
    }

    /// One turn at time `now`: hears what happened, does a bounded amount of work, and answers when it wants to be
    /// called again at the latest.
    pub fn turn(&mut self, now: Instant) -> Instant {
        self.now_s = now.saturating_duration_since(self.epoch).as_secs() as u32;
        self.hear(now);
        if self.look || self.retry.is_some_and(|at| now >= at) {
            self.reconcile(now);
        }
        if std::mem::take(&mut self.changed) {
            self.publish();
        }
        let merge = self.merge(now);
        let more = self.turn_routes();
        self.sweep(now);
        let sampled = self.sample(now);
        self.say_ready();
        if self.look || self.changed || more {
            return now;
        }
        let mut due = merge.unwrap_or(sampled).min(sampled).min(self.sweeper.due(now));
        if self.routes_owe() {
            due = due.min(now + ROUTES_PAUSE);
        }
        self.retry.map_or(due, |retry| retry.min(due))
    }

    /// Asks the switch to end: every port is detached, then [`Control::is_over`] turns true.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            tracing::info!("ending");
            let interfaces: Vec<String> = self.config.ports.iter().map(|port| port.interface.clone()).collect();
            interfaces.iter().for_each(|interface| self.ports.remove(interface));
            self.look = true;
        }
    }

    /// True once the switch was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// True once the switch was asked to end and every port is closed.
    pub fn is_over(&self) -> bool {
        let open = |slot: &Slot| matches!(slot.life, Life::Attached(_) | Life::Detaching(_));
        self.stopping && !self.ports.all().any(open)
    }

    /// Takes in what workers, the closer and the kernel have to say.
    fn hear(&mut self, now: Instant) {
        self.shared.clear_control_wake();
        while let Some(event) = self.shared.next_event() {
            match event {
                Event::Retired(view) => self.publisher.retire(&view, self.shared.workers()),
                Event::Detached { port, dev, .. } => self.take_back(port, dev),
                Event::Gone { port, error, .. } => self.gone(port, &error.to_string(), now),
            }
        }
        while let Some(port) = self.closer.closed() {
            self.closed(port);
        }
        let mut events = Vec::new();
        if let Err(error) = self.link_source.read(&mut events) {
            tracing::error!("interface events cannot be read: {error}: restart switchd");
        }
        for event in events {
            self.look |= self.links.apply(event);
        }
    }

    /// Tells the workers what the configuration and the ports look like now.
    fn publish(&mut self) {
        let ports = self.config.ports.iter().filter_map(|port| {
            let slot = self.ports.by_name(&port.interface)?;
            let attached = slot.attached();
            let (up, mtu) = attached.map_or((false, 0), |attached| (attached.link.up, attached.link.mtu));
            let owners = attached.map_or(&[][..], |attached| &attached.owners);
            Some(port_setup(slot.id, port, &self.domains, up, mtu, owners))
        });
        let ports: Vec<_> = ports.collect();
        let domains = self.ageing_times();
        self.sweeper.set_ageing(&domains);
        let (router, changed) = self.leave_interfaces();
        let view = self.publisher.make(&ports, &domains, router);
        self.tell_host(&view);
        self.publisher.publish(&self.shared, &view);
        self.enter_interfaces(changed);
    }

    /// Every domain with its ageing time in seconds.
    fn ageing_times(&self) -> Vec<(DomainId, u32)> {
        let bridges = self.config.bridges.iter();
        let bridges = bridges.map(|bridge| (self.domains.get(&bridge.name), bridge.ageing_seconds));
        let routed = self.config.ports.iter().filter(|port| port.is_routed());
        let routed = routed.map(|port| (self.domains.get(&routed_domain(&port.interface)), AGEING_SECONDS_DEFAULT));
        bridges.chain(routed).filter_map(|(domain, seconds)| Some((domain?, seconds))).collect()
    }

    fn sweep(&mut self, now: Instant) {
        let mut freed: Vec<Then> = Vec::new();
        let settled = self.publisher.settled();
        self.sweeper.turn(self.shared.fdb(), now, self.now_s, settled, |then| freed.push(then));
        for then in freed {
            match then {
                Then::FreePort(id) => self.free_port(id),
                Then::FreeDomain(id) => self.free_domain(id),
                Then::Nothing | Then::Tell(_) => {}
            }
        }
    }

    /// Counts traffic now and then, moves the kernel's receive work where it is cheapest and keeps idle cores awake.
    /// Answers when it wants to look again.
    fn sample(&mut self, now: Instant) -> Instant {
        let threads = self.config.switch.receive_threads;
        if now >= self.watch.due() {
            let mut pps = 0;
            for slot in self.ports.all_mut() {
                let Life::Attached(attached) = &mut slot.life else { continue };
                let packets = self.shared.all_stats().map(|stats| stats.port(slot.id).rx_packets.get()).sum();
                let move_to = attached.meter.sample(packets, now);
                if let Some(threaded) = move_to.filter(|_| threads) {
                    move_receive_work(&slot.interface, attached, threaded, now);
                }
                pps += attached.meter.pps();
            }
            self.watch.sampled(&self.shared, pps, now);
        }
        let due = self.watch.due();
        let received = || self.shared.all_stats().map(|stats| stats.poll.received.get()).sum();
        self.resume.look(received, now).map_or(due, |look| look.min(due))
    }

    /// Tells the service manager, once, that every interface that existed at the start is attached.
    fn say_ready(&mut self) {
        if !self.ready && !self.look && self.links.is_complete() && !self.owes_merges() {
            self.ready = true;
            let attached = self.ports.all().filter(|slot| slot.attached().is_some()).count();
            tracing::info!("ready: {attached} of {} ports attached", self.config.ports.len());
            tell_service_manager(sd_notify::NotifyState::Ready);
        }
    }

    /// Seconds since the switch started.
    fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// The number of the configured port on `interface`.
    fn port_id(&self, interface: &str) -> Option<PortId> {
        self.ports.by_name(interface).map(|slot| slot.id)
    }
}

fn move_receive_work(interface: &str, attached: &mut ports::Attached, threaded: bool, now: Instant) {
    match attached.attachment.set_threaded(threaded) {
        Ok(()) => {
            attached.meter.moved(threaded, now);
            let place = if threaded { "a thread of its own" } else { "the sender's core" };
            tracing::debug!("port {interface}: kernel receive work moved to {place} ({} pps)", attached.meter.pps());
        }
        Err(error) => {
            attached.meter.refused();
            tracing::info!("port {interface}: kernel receive work stays where it is: {error}");
        }
    }
}

/// A failure to tell is no failure of the switch.
pub(crate) fn tell_service_manager(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("the service manager was not told: {error}");
    }
}
