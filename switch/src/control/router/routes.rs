//! All routes of all VRFs: those in force in the routing tables, those that wait for an interface beside them.
//!
//! What takes long (a reload that removes a million run-time routes, an interface that goes) is done in slices by
//! [`Routes::turn`]; what a route leads to has changed at once. Control thread.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::interfaces::Interfaces;
use super::next_hops::{NextHopTable, NoRoom, Origin, Spec};
use crate::config::VRF_DEFAULT;
use crate::host::SharedHost;
use crate::ids::{NextHopId, VrfId};
use crate::limits::{FIB_HUGE_BYTES, VRFS_MAX};
use crate::port::prefer_huge;
use crate::table::fib::{Address, Changed, FibWriter, Prefix};
use crate::table::grace::Grace;
use crate::table::router::VrfView;
use crate::worker::Shared;

/// Longest time that one turn spends on routes, give or take a slice.
const BUDGET: Duration = Duration::from_millis(1);

/// Routes looked at between two looks at the clock.
const SLICE: usize = 512;

/// Shared by control and the listings that are under way, all on the control thread: the lock never waits.
pub type SharedRoutes = Arc<Mutex<Routes>>;

/// The routes, for as long as the guard lives.
pub fn lock(routes: &SharedRoutes) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A route as a listing gets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed {
    /// Where packets go to.
    pub to: IpNet,
    /// What it leads to.
    pub hop: NextHopId,
    /// In force.
    pub active: bool,
}

/// The routes of one address family of one VRF.
struct Table<A: Address> {
    fib: FibWriter<A>,
    /// Routes whose next hops cannot be reached.
    idle: BTreeMap<Prefix<A>, NextHopId>,
}

/// What a change did to a table.
struct Change {
    was: Option<NextHopId>,
    /// Workers need another snapshot.
    replaced: bool,
}

impl Change {
    /// A table that was replaced gets huge pages before any worker has it, if it is large.
    fn of<A: Address>(changed: Changed<A>) -> Change {
        for memory in changed.replaced.iter().flat_map(|fib| fib.memory()) {
            if memory.end.addr() - memory.start.addr() >= FIB_HUGE_BYTES {
                prefer_huge(memory);
            }
        }
        let was = Some(changed.was).filter(|was| !was.is_none());
        Change { was, replaced: changed.replaced.is_some() }
    }
}

impl<A: Address> Table<A> {
    fn new(grace: &Arc<Grace>) -> Table<A> {
        Table { fib: FibWriter::new(Arc::clone(grace)), idle: BTreeMap::new() }
    }

    fn get(&self, prefix: Prefix<A>) -> Option<NextHopId> {
        self.fib.get(prefix).or_else(|| self.idle.get(&prefix).copied())
    }

    fn put(&mut self, prefix: Prefix<A>, hop: NextHopId, active: bool) -> Change {
        if active {
            let idle = if self.idle.is_empty() { None } else { self.idle.remove(&prefix) };
            let change = Change::of(self.fib.insert(prefix, hop));
            return Change { was: change.was.or(idle), ..change };
        }
        let change = Change::of(self.fib.remove(prefix));
        Change { was: self.idle.insert(prefix, hop).or(change.was), ..change }
    }

    fn take(&mut self, prefix: Prefix<A>) -> Change {
        if let Some(was) = self.idle.remove(&prefix) {
            return Change { was: Some(was), replaced: false };
        }
        Change::of(self.fib.remove(prefix))
    }

    /// At most `most` routes behind `after`, in order; whether each is in force.
    fn list(&self, after: Option<Prefix<A>>, most: usize) -> Vec<(Prefix<A>, NextHopId, bool)> {
        let mut active = self.fib.routes(after).map(|(prefix, hop)| (prefix, hop, true)).peekable();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let idle = self.idle.range((from, std::ops::Bound::Unbounded));
        let mut idle = idle.map(|(prefix, hop)| (*prefix, *hop, false)).peekable();
        let mut listed = Vec::with_capacity(most.min(SLICE));
        while listed.len() < most {
            let next = match (active.peek(), idle.peek()) {
                (Some(first), Some(second)) if second.0 < first.0 => idle.next(),
                (Some(_), _) => active.next(),
                (None, _) => idle.next(),
            };
            match next {
                Some(next) => listed.push(next),
                None => break,
            }
        }
        listed
    }

    fn is_empty(&self) -> bool {
        self.fib.is_empty() && self.idle.is_empty()
    }

    /// The route that comes nearest to an address that no route leads to: it has most leading bits in common.
    fn nearest(&self, address: A) -> Option<Prefix<A>> {
        (0..=A::OCTETS * 8).rev().find_map(|length| {
            let around = Prefix::of(address, length)?;
            let (next, _) = self.fib.routes(Some(around)).next()?;
            around.contains(next.address()).then_some(next)
        })
    }

    /// The longest route without a reachable next hop that would lead to `address`.
    fn longest_idle(&self, address: A) -> Option<(Prefix<A>, NextHopId)> {
        let prefixes = (0..=A::OCTETS * 8).rev().filter_map(|length| Prefix::of(address, length));
        let found = prefixes.map(|prefix| (prefix, self.idle.get(&prefix)));
        found.filter_map(|(prefix, hop)| Some((prefix, *hop?))).next()
    }
}

fn v4(prefix: Prefix<u32>) -> Option<IpNet> {
    let address = IpAddr::V4(prefix.address().into());
    IpNet::new(address, prefix.length() as u8).ok()
}

fn v6(prefix: Prefix<u128>) -> Option<IpNet> {
    let address = IpAddr::V6(prefix.address().into());
    IpNet::new(address, prefix.length() as u8).ok()
}

/// A prefix of either family.
enum Either {
    V4(Prefix<u32>),
    V6(Prefix<u128>),
}

fn either(to: IpNet) -> Option<Either> {
    match to {
        IpNet::V4(net) => Prefix::of(net.addr().to_bits(), net.prefix_len().into()).map(Either::V4),
        IpNet::V6(net) => Prefix::of(net.addr().to_bits(), net.prefix_len().into()).map(Either::V6),
    }
}

/// One VRF.
struct Vrf {
    name: String,
    ipv4: Table<u32>,
    ipv6: Table<u128>,
}

/// Where a walk through all routes is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    vrf: usize,
    ipv6: bool,
    after: Option<IpNet>,
}

/// All routes. See the module text.
pub struct Routes {
    /// By number; the first is the default one.
    vrfs: Vec<Option<Vrf>>,
    /// What they lead to.
    pub hops: NextHopTable,
    /// What they leave by.
    pub interfaces: Interfaces,
    grace: Arc<Grace>,
    /// Workers need another snapshot.
    replaced: bool,
    /// The last snapshot published.
    generation: u64,
    /// A walk that brings routes in line with what they lead to.
    sweep: Option<Cursor>,
    /// Counts reloads: run-time routes from before are to go.
    reloads: u32,
    /// Run-time routes.
    added: usize,
}

impl Routes {
    /// Without any route.
    pub fn new(shared: &Arc<Shared>, host: &SharedHost) -> Routes {
        let grace = Arc::clone(shared.grace());
        let mut routes = Routes {
            vrfs: Vec::new(),
            hops: NextHopTable::new(Arc::clone(shared), Arc::clone(host)),
            interfaces: Interfaces::default(),
            grace,
            replaced: false,
            generation: 0,
            sweep: None,
            reloads: 0,
            added: 0,
        };
        let _ = routes.number(VRF_DEFAULT);
        routes
    }

    /// The number of a VRF.
    pub fn vrf(&self, name: &str) -> Option<VrfId> {
        let at = self.vrfs.iter().position(|vrf| vrf.as_ref().is_some_and(|vrf| vrf.name == name))?;
        VrfId::new(at)
    }

    /// The name of a VRF.
    pub fn vrf_name(&self, id: VrfId) -> &str {
        self.vrf_of(id).map_or("", |vrf| &vrf.name)
    }

    /// The number of a VRF, a new one if need be; `None` when there are too many.
    pub fn number(&mut self, name: &str) -> Option<VrfId> {
        if let Some(id) = self.vrf(name) {
            return Some(id);
        }
        let free = self.vrfs.iter().position(Option::is_none).unwrap_or(self.vrfs.len());
        let id = VrfId::new(free).filter(|_| free < VRFS_MAX)?;
        let new = Vrf { name: name.to_string(), ipv4: Table::new(&self.grace), ipv6: Table::new(&self.grace) };
        if free == self.vrfs.len() {
            self.vrfs.push(None);
        }
        *self.vrfs.get_mut(free)? = Some(new);
        Some(id)
    }

    /// Forgets VRFs that no interface is in and no route.
    pub fn drop_idle_vrfs(&mut self) {
        let interfaces = &self.interfaces;
        for (number, slot) in self.vrfs.iter_mut().enumerate().skip(1) {
            let used = interfaces.all().iter().any(|iface| iface.vrf.index() == number);
            if slot.as_ref().is_some_and(|vrf| !used && vrf.ipv4.is_empty() && vrf.ipv6.is_empty()) {
                *slot = None;
            }
        }
    }

    /// What workers are to be given.
    pub fn views(&self) -> Vec<VrfView> {
        let view = |vrf: &Option<Vrf>| {
            let vrf = vrf.as_ref();
            vrf.map_or_else(VrfView::default, |vrf| VrfView {
                ipv4: Arc::clone(vrf.ipv4.fib.table()),
                ipv6: Arc::clone(vrf.ipv6.fib.table()),
            })
        };
        self.vrfs.iter().map(view).collect()
    }

    /// Snapshot `generation` was sent to the workers, with [`Routes::views`] of now.
    pub fn published(&mut self, generation: u64) {
        self.replaced = false;
        self.generation = generation;
        self.hops.set_generation(generation);
    }

    /// True if workers need another snapshot.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Routes in all.
    #[cfg(test)]
    pub fn total(&self) -> usize {
        let table = |vrf: &Vrf| vrf.ipv4.fib.len() + vrf.ipv4.idle.len() + vrf.ipv6.fib.len() + vrf.ipv6.idle.len();
        self.vrfs.iter().flatten().map(table).sum()
    }

    /// What exactly this prefix leads to.
    pub fn get(&self, vrf: VrfId, to: IpNet) -> Option<NextHopId> {
        let vrf = self.vrf_of(vrf)?;
        match either(to)? {
            Either::V4(prefix) => vrf.ipv4.get(prefix),
            Either::V6(prefix) => vrf.ipv6.get(prefix),
        }
    }

    /// What a prefix is, of those in force or waiting.
    pub fn spec(&self, vrf: VrfId, to: IpNet) -> Option<&Spec> {
        self.hops.spec(self.get(vrf, to)?)
    }

    /// Gives a prefix what it leads to, instead of what it may have had.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing has changed then.
    pub fn put(&mut self, vrf: VrfId, to: IpNet, spec: Spec) -> Result<(), NoRoom> {
        let is_added = matches!(spec.origin, Origin::Added(_));
        let hop = self.hops.acquire(spec, &self.interfaces)?;
        let active = self.hops.is_active(hop);
        let change = self.vrf_mut(vrf).zip(either(to)).map(|(vrf, prefix)| match prefix {
            Either::V4(prefix) => vrf.ipv4.put(prefix, hop, active),
            Either::V6(prefix) => vrf.ipv6.put(prefix, hop, active),
        });
        let Some(change) = change else {
            self.hops.release(hop);
            return Ok(());
        };
        self.added += usize::from(is_added);
        self.note(change);
        Ok(())
    }

    /// Removes a prefix; false if it is not there.
    pub fn remove(&mut self, vrf: VrfId, to: IpNet) -> bool {
        let change = self.vrf_mut(vrf).zip(either(to)).map(|(vrf, prefix)| match prefix {
            Either::V4(prefix) => vrf.ipv4.take(prefix),
            Either::V6(prefix) => vrf.ipv6.take(prefix),
        });
        let removed = change.as_ref().is_some_and(|change| change.was.is_some());
        change.into_iter().for_each(|change| self.note(change));
        removed
    }

    /// Takes note of a change, and gives back the use of the next hop that the prefix had.
    fn note(&mut self, change: Change) {
        if change.replaced {
            // The workers' tables, which are no longer written, still lead to what goes now.
            self.replaced = true;
            self.hops.set_generation(self.generation + 1);
        }
        let Some(was) = change.was else { return };
        let added = self.hops.spec(was).is_some_and(|spec| matches!(spec.origin, Origin::Added(_)));
        self.added -= usize::from(added);
        self.hops.release(was);
    }

    /// The route that packets to `address` follow.
    pub fn longest(&self, vrf: VrfId, address: IpAddr) -> Option<(IpNet, NextHopId)> {
        let vrf = self.vrf_of(vrf)?;
        match address {
            IpAddr::V4(address) => {
                let (prefix, hop) = vrf.ipv4.fib.longest(address.to_bits())?;
                Some((v4(prefix)?, hop))
            }
            IpAddr::V6(address) => {
                let (prefix, hop) = vrf.ipv6.fib.longest(address.to_bits())?;
                Some((v6(prefix)?, hop))
            }
        }
    }

    /// The route that would lead to `address` if its next hops could be reached.
    pub fn longest_idle(&self, vrf: VrfId, address: IpAddr) -> Option<(IpNet, NextHopId)> {
        let vrf = self.vrf_of(vrf)?;
        match address {
            IpAddr::V4(address) => {
                let (prefix, hop) = vrf.ipv4.longest_idle(address.to_bits())?;
                Some((v4(prefix)?, hop))
            }
            IpAddr::V6(address) => {
                let (prefix, hop) = vrf.ipv6.longest_idle(address.to_bits())?;
                Some((v6(prefix)?, hop))
            }
        }
    }

    /// The route that comes nearest to `address`, to which none leads.
    pub fn nearest(&self, vrf: VrfId, address: IpAddr) -> Option<IpNet> {
        let vrf = self.vrf_of(vrf)?;
        match address {
            IpAddr::V4(address) => v4(vrf.ipv4.nearest(address.to_bits())?),
            IpAddr::V6(address) => v6(vrf.ipv6.nearest(address.to_bits())?),
        }
    }

    /// At most `most` routes from where `cursor` stands, all of one VRF; `None` at the end. Moves the cursor behind
    /// them.
    pub fn list(&self, cursor: &mut Cursor, most: usize) -> Option<(VrfId, Vec<Listed>)> {
        while let Some(id) = VrfId::new(cursor.vrf).filter(|_| cursor.vrf < self.vrfs.len()) {
            let listed = self.vrf_of(id).map_or_else(Vec::new, |vrf| vrf.list(cursor, most));
            if let Some(last) = listed.last() {
                cursor.after = Some(last.to);
                return Some((id, listed));
            }
            let next = if cursor.ipv6 { (cursor.vrf + 1, false) } else { (cursor.vrf, true) };
            *cursor = Cursor { vrf: next.0, ipv6: next.1, after: None };
        }
        None
    }

    /// A reload: run-time routes are to go. Answers how many.
    pub fn forget_added(&mut self) -> usize {
        self.reloads = self.reloads.wrapping_add(1);
        if self.added > 0 {
            self.sweep = Some(Cursor::default());
        }
        self.added
    }

    /// Where a route that is added now comes from.
    pub fn origin_added(&self) -> Origin {
        Origin::Added(self.reloads)
    }

    /// The interfaces are now `self.interfaces`. Without `take`, only what cannot be reached any more changes.
    pub fn refresh(&mut self, take: bool) {
        if self.hops.refresh_all(&self.interfaces, take) {
            self.sweep = Some(Cursor::default());
        }
    }

    /// Does a bounded amount of what waits; workers have snapshot `settled` or a later one. True if more is to be done.
    pub fn turn(&mut self, settled: u64) -> bool {
        let began = Instant::now();
        self.hops.reclaim(settled);
        while let Some(mut cursor) = self.sweep {
            let Some((vrf, listed)) = self.list(&mut cursor, SLICE) else {
                self.sweep = None;
                self.drop_idle_vrfs();
                break;
            };
            self.sweep = Some(cursor);
            listed.into_iter().for_each(|route| self.bring_in_line(vrf, route));
            if began.elapsed() >= BUDGET {
                return true;
            }
        }
        false
    }

    fn bring_in_line(&mut self, vrf: VrfId, route: Listed) {
        let Some(spec) = self.hops.spec(route.hop) else { return };
        if matches!(spec.origin, Origin::Added(before) if before != self.reloads) {
            self.remove(vrf, route.to);
            return;
        }
        let active = self.hops.is_active(route.hop);
        if active == route.active {
            return;
        }
        let change = self.vrf_mut(vrf).zip(either(route.to)).map(|(vrf, prefix)| match prefix {
            Either::V4(prefix) => vrf.ipv4.put(prefix, route.hop, active),
            Either::V6(prefix) => vrf.ipv6.put(prefix, route.hop, active),
        });
        // The route keeps its use of the next hop.
        if change.is_some_and(|change| change.replaced) {
            self.replaced = true;
            self.hops.set_generation(self.generation + 1);
        }
    }

    fn vrf_of(&self, id: VrfId) -> Option<&Vrf> {
        self.vrfs.get(id.index())?.as_ref()
    }

    fn vrf_mut(&mut self, id: VrfId) -> Option<&mut Vrf> {
        self.vrfs.get_mut(id.index())?.as_mut()
    }
}

impl Vrf {
    fn list(&self, cursor: &Cursor, most: usize) -> Vec<Listed> {
        let after = cursor.after.and_then(either);
        let listed = |to: Option<IpNet>, hop, active| Some(Listed { to: to?, hop, active });
        if cursor.ipv6 {
            let after = if let Some(Either::V6(after)) = after { Some(after) } else { None };
            let routes = self.ipv6.list(after, most).into_iter();
            routes.filter_map(|(prefix, hop, active)| listed(v6(prefix), hop, active)).collect()
        } else {
            let after = if let Some(Either::V4(after)) = after { Some(after) } else { None };
            let routes = self.ipv4.list(after, most).into_iter();
            routes.filter_map(|(prefix, hop, active)| listed(v4(prefix), hop, active)).collect()
        }
    }
}
