//! What each request of the control socket does. Control thread.

use std::sync::Arc;
use std::time::Instant;

use ctl::protocol::{Done, ErrorBody, Item, Request};

use super::Control;
use super::dump::{BridgeStream, DomainName, FdbStream, Filter, Names, PortName};
use super::server::{Handler, Reply};
use super::view::routed_domain;
use crate::ids::{DomainId, PortId};
use crate::limits::{AGEING_SECONDS_DEFAULT, DOMAINS_MAX};

/// What listings call the switch's own end of its interfaces.
pub(super) const ROUTER: &str = "router";

/// What a request that lists nothing answers.
pub(super) type Answer = Result<Done, ErrorBody>;

impl Handler for Control {
    fn handle(&mut self, request: Request) -> Reply {
        if self.is_stopping() && request.changes_state() {
            return Reply::Error(ErrorBody::refused("switchd is ending: start it again first"));
        }
        self.now_s = self.uptime(Instant::now()).as_secs() as u32;
        match request {
            Request::ShowFdb(filter) => {
                let filter = self.filter(filter.bridge.as_deref(), filter.port.as_deref(), filter.vlan, filter.dynamic);
                filter.map_or_else(Reply::Error, |filter| self.show_fdb(filter))
            }
            Request::ShowBridges {} => {
                let stream = BridgeStream { fdb: self.shared.fdb_arc(), bridges: self.bridge_items(), at: 0 };
                Reply::Stream(Box::new(stream))
            }
            Request::ShowPorts { port } => self.list(port.as_deref(), Control::port_items),
            Request::ShowDrops { port } => self.list(port.as_deref(), Control::drop_items),
            Request::ShowWorkers {} => Reply::Done(self.worker_items(Instant::now()), Done::default()),
            Request::ShowHost {} => Reply::Done(self.host_items(), Done::default()),
            Request::ShowConfig {} => Reply::Done(self.config_items(), Done::default()),
            Request::Version {} => Reply::Done(vec![self.version_item()], Done::default()),
            Request::AddPort(add) => answer(self.add_port(add)),
            Request::DelPort { port } => answer(self.del_port(&port)),
            Request::SetPort { port, settings } => answer(self.set_port(&port, &settings)),
            Request::AddFdb(add) => answer(self.add_fdb(&add)),
            Request::DelFdb(del) => answer(self.del_fdb(&del)),
            Request::FlushFdb(flush) => self.flush_fdb(&flush).unwrap_or_else(Reply::Error),
            Request::ShowRoutes(filter) => self.show_routes(&filter).unwrap_or_else(Reply::Error),
            Request::RouteGet(get) => self.route_get(&get).unwrap_or_else(Reply::Error),
            Request::AddRoute(add) => answer(self.add_route(&add)),
            Request::DelRoute(del) => answer(self.del_route(&del)),
            Request::LoadRoutes(load) => self.load_routes(&load),
            Request::ShowNeigh(filter) => self.show_neigh(&filter).unwrap_or_else(Reply::Error),
            Request::AddNeigh(add) => answer(self.add_neigh(&add)),
            Request::DelNeigh(del) => answer(self.del_neigh(&del)),
            Request::FlushNeigh { bridge } => answer(self.flush_neigh(bridge.as_deref())),
            Request::ShowDhcp { bridge } => self.show_dhcp(bridge.as_deref()).unwrap_or_else(Reply::Error),
            Request::Reload {} => answer(self.reload()),
            Request::Shutdown {} => {
                self.stop();
                Reply::Done(Vec::new(), Done::message("switchd is ending"))
            }
        }
    }
}

fn answer(answer: Answer) -> Reply {
    match answer {
        Ok(done) => Reply::Done(Vec::new(), done),
        Err(error) => Reply::Error(error),
    }
}

impl Control {
    /// Items about every port, or about the one named.
    fn list(&self, port: Option<&str>, items: impl Fn(&Control, Option<PortId>) -> Vec<Item>) -> Reply {
        let number = |port| match self.known_port(port) {
            Err(_) if port == ROUTER => Ok(PortId::ROUTER),
            known => known,
        };
        match port.map(number).transpose() {
            Ok(port) => Reply::Done(items(self, port), Done::default()),
            Err(error) => Reply::Error(error),
        }
    }

    fn show_fdb(&self, filter: Filter) -> Reply {
        let (fdb, names) = (self.shared.fdb_arc(), Arc::new(self.names()));
        let waiting = self.config.fdb.iter().filter_map(|entry| self.fixed_entry(entry));
        let waiting = waiting.filter(|entry| !self.is_in_force(entry)).collect();
        Reply::Stream(Box::new(FdbStream { fdb, names, filter, epoch: self.epoch, waiting, at: 0 }))
    }

    /// The number of a port that a request names.
    pub(super) fn known_port(&self, interface: &str) -> Result<PortId, ErrorBody> {
        self.port_id(interface)
            .ok_or_else(|| ErrorBody::refused(format!("no port on interface {interface}: show-ports lists the ports")))
    }

    /// The number of a bridge that a request names.
    pub(super) fn known_bridge(&self, name: &str) -> Result<DomainId, ErrorBody> {
        self.domains
            .get(name)
            .ok_or_else(|| ErrorBody::refused(format!("no bridge called {name}: show-bridges lists the bridges")))
    }

    /// The entries that a request means.
    pub(super) fn filter(
        &self,
        bridge: Option<&str>,
        port: Option<&str>,
        vlan: Option<u16>,
        dynamic: bool,
    ) -> Result<Filter, ErrorBody> {
        let domain = bridge.map(|bridge| self.known_bridge(bridge)).transpose()?;
        let port = port.map(|port| self.known_port(port)).transpose()?;
        Ok(Filter { port, domain, vlan, dynamic })
    }

    /// The names of all numbers, to be kept by an answer.
    pub(super) fn names(&self) -> Names {
        let mut names = Names::default();
        names.domains.resize_with(DOMAINS_MAX + 1, || None);
        for bridge in &self.config.bridges {
            let slot = self.domains.get(&bridge.name).and_then(|id| names.domains.get_mut(id.index()));
            if let Some(slot) = slot {
                *slot = Some(DomainName { name: bridge.name.clone(), ageing_s: bridge.ageing_seconds });
            }
        }
        let routed = self.config.ports.iter().filter(|port| port.is_routed());
        let routed: Vec<_> = routed
            .filter_map(|port| Some((self.domains.get(&routed_domain(&port.interface))?, &port.interface)))
            .collect();
        for (id, name) in &routed {
            if let Some(slot) = names.domains.get_mut(id.index()) {
                *slot = Some(DomainName { name: (*name).clone(), ageing_s: AGEING_SECONDS_DEFAULT });
            }
        }
        let all = names.domains.iter().enumerate().filter(|(_, name)| name.is_some());
        let vlans = all.filter_map(|(number, _)| Some((DomainId::new(number)?, 0))).collect();
        names.set_port(PortId::ROUTER, PortName { interface: ROUTER.to_string(), vlans });
        for port in &self.config.ports {
            let Some(id) = self.port_id(&port.interface) else { continue };
            let native = port.bridge.iter().map(|bridge| (bridge, 0));
            let carried = native.chain(port.trunk.iter().map(|(&vlan, bridge)| (bridge, vlan)));
            let vlans = carried.filter_map(|(bridge, vlan)| Some((self.domains.get(bridge)?, vlan)));
            let own = self.domains.get(&routed_domain(&port.interface)).map(|domain| (domain, 0));
            let vlans = vlans.chain(own).collect();
            names.set_port(id, PortName { interface: port.interface.clone(), vlans });
        }
        names
    }
}
