//! Many routes at once, as lines of text: what `load-routes` sends. Control thread.

use std::collections::HashMap;
use std::net::IpAddr;

use ctl::protocol::{Done, Item, LoadError, LoadRoutes};

use super::super::Control;
use super::super::server::Reply;
use super::commands::{add_checked, add_known};
use super::routes::lock;
use crate::config::{self, RouteConfig, RouteKind, VRF_DEFAULT, Via};
use crate::ids::VrfId;

/// Errors that one request lists.
const ERRORS_MAX: usize = 1_000;

impl Control {
    /// Adds the routes of one piece, as many lines as fit a request: a few milliseconds.
    pub(in super::super) fn load_routes(&mut self, load: &LoadRoutes) -> Reply {
        self.nets();
        let mut routes = lock(&self.router.routes);
        let (mut errors, mut added, mut failed) = (Vec::new(), 0u64, 0u64);
        // What follows the prefix is the same in most lines: it is read and checked once.
        let mut known: HashMap<&str, (RouteConfig, VrfId)> = HashMap::new();
        for (number, line) in (load.first_line..).zip(load.text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (prefix, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim_start();
            let result = match known.get_mut(rest) {
                Some((route, vrf)) => {
                    config::prefix("to", prefix).map_err(|problem| problem.to_string()).and_then(|to| {
                        route.to = to;
                        let checked = self.router.nets.check_prefix(route).map_err(|error| error.to_string());
                        checked.and_then(|()| add_known(&mut routes, *vrf, route).map_err(|error| error.to_string()))
                    })
                }
                None => parse(prefix, rest).and_then(|route| {
                    add_checked(&mut routes, &self.router.nets, &route).map_err(|error| error.to_string())?;
                    if let Some(vrf) = routes.vrf(route.vrf()) {
                        known.insert(rest, (route, vrf));
                    }
                    Ok(())
                }),
            };
            match result {
                Ok(()) => added += 1,
                Err(message) => {
                    failed += 1;
                    if errors.len() < ERRORS_MAX {
                        errors.push(Item::LoadError(LoadError { line: number, message }));
                    }
                }
            }
        }
        self.changed |= routes.is_replaced();
        let more = failed.saturating_sub(ERRORS_MAX as u64);
        let notes = (more > 0).then(|| format!("and {more} more lines were refused")).into_iter().collect();
        Reply::Done(errors, Done { affected: Some(added), notes, ..Done::default() })
    }
}

/// One line, its prefix apart.
fn parse(prefix: &str, rest: &str) -> Result<RouteConfig, String> {
    let to = config::prefix("to", prefix).map_err(|problem| problem.to_string())?;
    let mut route = RouteConfig { to, via: Vec::new(), kind: RouteKind::Unicast, interface: None, vrf: None };
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("nothing stands behind {word:?}"));
        match word {
            "via" => route.via = hops(value()?)?,
            "dev" => route.interface = Some(value()?.to_string()),
            "vrf" => route.vrf = Some(value()?.to_string()).filter(|vrf| vrf != VRF_DEFAULT),
            // What show-routes prints of a route, and says nothing of what it leads to.
            "proto" => _ = value()?,
            word => {
                route.kind = word.parse().map_err(|_| {
                    let shown: String = word.chars().take(30).collect();
                    format!("{shown:?} is not understood: write PREFIX via ADDRESS[,ADDRESS...], or PREFIX blackhole")
                })?;
            }
        }
    }
    Ok(route)
}

/// `10.0.0.1,10.0.0.2`; a weight follows its address behind `*`.
fn hops(text: &str) -> Result<Vec<Via>, String> {
    let hop = |word: &str| {
        let (address, weight) = word.split_once('*').unwrap_or((word, "1"));
        let to = address.parse::<IpAddr>().ok();
        let hop = to.zip(weight.parse::<u16>().ok()).map(|(to, weight)| Via { to, weight });
        let shown: String = word.chars().take(50).collect();
        hop.ok_or_else(|| format!("{shown:?} is no next hop: write an address, or ADDRESS*WEIGHT"))
    };
    text.split(',').map(hop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_ip_route_says() {
        let route = parse("10.9.0.0/16", "via 10.0.0.1,10.0.0.2*3 dev pods proto static vrf blue").unwrap();
        let hop = |last, weight| Via { to: [10, 0, 0, last].into(), weight };
        assert_eq!((route.to.to_string(), route.via), ("10.9.0.0/16".to_string(), vec![hop(1, 1), hop(2, 3)]));
        assert_eq!((route.interface.as_deref(), route.vrf.as_deref()), (Some("pods"), Some("blue")));
        assert_eq!(parse("10.9.0.0/16", "blackhole vrf default").map(|route| (route.kind, route.vrf)), {
            Ok((RouteKind::Blackhole, None))
        });
        let wrong = |prefix, rest| parse(prefix, rest).unwrap_err();
        assert!(wrong("10.9.0.1/16", "blackhole").contains("write \"10.9.0.0/16\""));
        assert_eq!(wrong("10.9.0.0/16", "via"), "nothing stands behind \"via\"");
        assert_eq!(wrong("::/0", "via x"), "\"x\" is no next hop: write an address, or ADDRESS*WEIGHT");
        assert!(wrong("::/0", "dance").starts_with("\"dance\" is not understood: write PREFIX via"));
    }
}
