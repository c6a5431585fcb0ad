//! How large packets may be on the router's interfaces, and which ports lose those that IPv6 relies on.

use std::collections::{BTreeMap, HashMap};

use super::super::Control;
use super::super::view::routed_domain;
use crate::config::{InterfaceKind, PortConfig};
use crate::ids::DomainId;
use crate::limits::IPV6_MTU_MIN;

impl Control {
    /// The smallest MTU of the attached ports of each domain.
    pub(super) fn domain_mtus(&self) -> HashMap<DomainId, u32> {
        let mut mtus: HashMap<DomainId, u32> = HashMap::new();
        for port in &self.config.ports {
            let attached = self.ports.by_name(&port.interface).and_then(|slot| slot.attached());
            let Some(mtu) = attached.map(|attached| attached.link.mtu) else { continue };
            let own = port.is_routed().then(|| self.domains.get(&routed_domain(&port.interface))).flatten();
            let domains = port.domains().filter_map(|bridge| self.domains.get(bridge)).chain(own);
            domains.for_each(|domain| {
                mtus.entry(domain).and_modify(|least| *least = mtu.min(*least)).or_insert(mtu);
            });
        }
        mtus
    }

    /// What the operator should know of a port with this MTU, if an interface of the router speaks IPv6 there: senders
    /// that are told of a smaller MTU than [`IPV6_MTU_MIN`] do not go below it (RFC 8201 section 4).
    pub(in super::super) fn mtu_note(&self, port: &PortConfig, mtu: u32) -> Option<String> {
        if mtu >= IPV6_MTU_MIN {
            return None;
        }
        let mut ipv6 = self.config.interfaces().filter(|own| own.addresses.iter().any(|net| net.addr().is_ipv6()));
        let on = ipv6.find(|interface| match interface.kind {
            InterfaceKind::Bridge(bridge) => port.domains().any(|name| name == bridge.name),
            InterfaceKind::Port(own) => own.interface == port.interface,
        })?;
        let what = match on.kind {
            InterfaceKind::Bridge(_) => format!("bridge {}", on.name),
            InterfaceKind::Port(_) => "it".to_string(),
        };
        Some(format!(
            "mtu {mtu} is too small for IPv6, and {what} has an IPv6 address: routed packets of more than {mtu} bytes \
             are lost, since IPv6 senders go no lower than {IPV6_MTU_MIN}; run `ip link set {} mtu {IPV6_MTU_MIN}` and \
             the same at its far end, or take the IPv6 address away",
            port.interface
        ))
    }

    /// Has the log say what is new about ports whose MTU is too small. With every publication.
    pub(super) fn warn_of_mtus(&mut self) {
        let noted = self.config.ports.iter().filter_map(|port| {
            let attached = self.ports.by_name(&port.interface)?.attached()?;
            Some((port.interface.clone(), self.mtu_note(port, attached.link.mtu)?))
        });
        let noted: BTreeMap<String, String> = noted.collect();
        for (port, note) in noted.iter().filter(|(port, note)| self.router.mtu_notes.get(*port) != Some(*note)) {
            tracing::warn!("port {port}: {note}");
        }
        self.router.mtu_notes = noted;
    }

    /// Ports that the log named.
    #[cfg(test)]
    pub(in super::super) fn warned_mtus(&self) -> Vec<&str> {
        self.router.mtu_notes.keys().map(String::as_str).collect()
    }
}
