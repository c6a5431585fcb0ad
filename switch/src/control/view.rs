//! Numbers for names, and what the workers see of them: ids, placement on workers, published snapshots.
//!
//! Control thread.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::config::PortConfig;
use crate::ids::{DomainId, PortId};
use crate::limits::{DOMAINS_MAX, PORTS_MAX, WORKERS_MAX};
use crate::table::router::RouterSetup;
use crate::table::snapshot::{PortFlags, PortSetup, Snapshot};
use crate::worker::{Command, Shared};

/// Ids that nobody uses, longest unused first: a stale reference to a freed id stays without meaning for
/// as long as can be.
pub struct FreeIds<T>(VecDeque<T>);

impl FreeIds<PortId> {
    /// Every port id.
    pub fn ports() -> Self {
        FreeIds((0..PORTS_MAX).filter_map(PortId::new).collect())
    }
}

impl FreeIds<DomainId> {
    /// Every domain id.
    pub fn domains() -> Self {
        FreeIds((1..=DOMAINS_MAX).filter_map(DomainId::new).collect())
    }
}

impl<T> FreeIds<T> {
    /// An id, or `None` when all are in use.
    pub fn take(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    /// Gives one back, once nothing refers to it any more.
    pub fn give(&mut self, id: T) {
        self.0.push_back(id);
    }
}

/// Bridge domains by name and number.
pub struct Domains {
    by_name: HashMap<String, DomainId>,
    free: FreeIds<DomainId>,
}

impl Default for Domains {
    fn default() -> Self {
        Domains { by_name: HashMap::new(), free: FreeIds::domains() }
    }
}

impl Domains {
    /// The number of the domain called `name`.
    pub fn get(&self, name: &str) -> Option<DomainId> {
        self.by_name.get(name).copied()
    }

    /// Names in use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Numbers a new domain; `None` when there are too many.
    pub fn add(&mut self, name: &str) -> Option<DomainId> {
        let id = self.free.take()?;
        self.by_name.insert(name.to_string(), id);
        Some(id)
    }

    /// Forgets a name; its number is free after [`Domains::free`].
    pub fn remove(&mut self, name: &str) -> Option<DomainId> {
        self.by_name.remove(name)
    }

    /// Gives back a number that nothing refers to any more.
    pub fn free(&mut self, id: DomainId) {
        self.free.give(id);
    }
}

/// The name that the private domain of a routed port goes by; no bridge can be called that.
pub fn routed_domain(interface: &str) -> String {
    format!("/{interface}")
}

/// What the packet path is told of a port. `owners` lists the worker of each queue; it is empty while the
/// port is not attached.
pub fn port_setup(
    id: PortId,
    port: &PortConfig,
    domains: &Domains,
    forwarding: bool,
    mtu: u32,
    owners: &[usize],
) -> PortSetup {
    let trunk = port.trunk.iter().filter_map(|(&vlan, name)| Some((vlan, domains.get(name)?)));
    let native = match port.is_routed() {
        true => domains.get(&routed_domain(&port.interface)),
        false => port.bridge.as_deref().and_then(|name| domains.get(name)),
    };
    PortSetup {
        id,
        forwarding,
        mtu,
        native,
        trunk: trunk.collect(),
        flags: PortFlags {
            learning: port.learning,
            isolated: port.isolated,
            flood_unicast: port.flood_unicast,
            flood_broadcast: port.flood_broadcast,
            flood_multicast: port.flood_multicast,
        },
        mac_limit: if port.mac_limit == 0 { u32::MAX } else { port.mac_limit },
        tx_worker: tx_workers(owners),
    }
}

/// Which worker transmits for which: a worker that owns a queue of the port itself, the others hand over
/// to one of the owners, always the same, so that a flow keeps its order.
fn tx_workers(owners: &[usize]) -> [u8; WORKERS_MAX] {
    let mut table = [0; WORKERS_MAX];
    for (worker, transmits) in table.iter_mut().enumerate() {
        let owner = if owners.contains(&worker) { Some(&worker) } else { owners.get(worker % owners.len().max(1)) };
        // Worker numbers are below WORKERS_MAX.
        *transmits = owner.map_or(0, |&owner| owner as u8);
    }
    table
}

/// Chooses a worker for each queue of a new port: queue q goes to worker q; a single queue goes to the worker
/// that has fewest. `load` counts the queues of each worker.
pub fn place(queues: usize, load: &[usize]) -> Vec<usize> {
    let workers = load.len().max(1);
    if queues > 1 {
        return (0..queues).map(|queue| queue % workers).collect();
    }
    let least = load.iter().enumerate().min_by_key(|(_, queues)| **queues).map_or(0, |(worker, _)| worker);
    vec![least; queues]
}

/// Hands snapshots to the workers and knows which one all of them use.
pub struct Publisher {
    generation: u64,
    /// Workers that no longer use a generation, until all of them do not.
    retired: BTreeMap<u64, usize>,
    settled: u64,
}

impl Default for Publisher {
    /// Workers begin with an empty snapshot of generation 0.
    fn default() -> Self {
        Publisher { generation: 0, retired: BTreeMap::new(), settled: 0 }
    }
}

impl Publisher {
    /// A new picture, with the next number.
    pub fn make(&mut self, ports: &[PortSetup], domains: &[(DomainId, u32)], router: RouterSetup) -> Arc<Snapshot> {
        self.generation += 1;
        Arc::new(Snapshot::new(self.generation, ports, domains).with_router(router))
    }

    /// Sends the picture made last to every worker.
    pub fn publish(&self, shared: &Shared, view: &Arc<Snapshot>) {
        for worker in 0..shared.workers() {
            shared.command(worker, Command::View(Arc::clone(view)));
        }
    }

    /// A worker gave back a snapshot.
    pub fn retire(&mut self, view: &Snapshot, workers: usize) {
        let count = self.retired.entry(view.generation).or_default();
        *count += 1;
        if *count == workers {
            // Workers take snapshots in order, one by one.
            self.retired.remove(&view.generation);
            self.settled = self.settled.max(view.generation + 1);
        }
    }

    /// The newest generation published.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every worker uses this generation or a newer one.
    pub fn settled(&self) -> u64 {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_queues_spread_and_many_queues_map_one_to_one() {
        let mut load = vec![0; 3];
        for _ in 0..7 {
            for worker in place(1, &load) {
                load[worker] += 1;
            }
        }
        assert_eq!(load, [3, 2, 2]);
        assert_eq!(place(4, &load), [0, 1, 2, 0]);
        assert_eq!(place(0, &load), [0usize; 0]);
    }

    #[test]
    fn owners_transmit_themselves_and_others_have_a_fixed_one() {
        let two = tx_workers(&[0, 2]);
        assert_eq!((two[0], two[2]), (0, 2));
        assert!([0, 2].contains(&two[1]) && [0, 2].contains(&two[3]));
        assert_eq!(tx_workers(&[1]), [1; WORKERS_MAX]);
        assert_eq!(tx_workers(&[]), [0; WORKERS_MAX]);
    }

    #[test]
    fn a_generation_settles_when_the_last_worker_gave_back_the_one_before() {
        let mut publisher = Publisher::default();
        let view = |generation| Snapshot::new(generation, &[], &[]);
        publisher.retire(&view(0), 2);
        publisher.retire(&view(1), 2);
        assert_eq!(publisher.settled(), 0);
        publisher.retire(&view(0), 2);
        assert_eq!(publisher.settled(), 1);
        publisher.retire(&view(1), 2);
        assert_eq!(publisher.settled(), 2);
    }

    #[test]
    fn freed_ids_come_back_last() {
        let mut free = FreeIds::domains();
        let first = free.take().unwrap();
        free.give(first);
        assert_ne!(free.take(), Some(first));
        let taken = std::iter::from_fn(|| free.take()).collect::<Vec<_>>();
        assert_eq!((taken.len(), taken.last()), (DOMAINS_MAX - 1, Some(&first)));
    }
}
