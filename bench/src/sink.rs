//! The receiving end: an nftables rule on the ingress hook of b0 that counts the generated frames and drops them before
//! the stack of B sees them. Exact to the frame; read only before and after a load, because every reading starts `nft`.
//! Main thread; [`interface_frames`] on any thread inside the namespace.

use crate::cmd::cmd;
use crate::error::{Error, Result};
use crate::load::frame::SOURCE_MAC;
use crate::rig::{B_IF, Rig};
use crate::stop::Stop;
use std::time::{Duration, Instant};

/// How often a counter is read again to see whether it still moves.
const SETTLE_STEP: Duration = Duration::from_millis(200);
/// When waiting for a counter to rest is given up.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// The counter in a rig's namespace B.
#[derive(Debug)]
pub struct Sink {
    netns: String,
}

impl Sink {
    /// Puts the counter in place.
    ///
    /// # Errors
    /// [`Error::Command`] when nft refuses.
    pub fn install(rig: &Rig) -> Result<Self> {
        let source = SOURCE_MAC.map(|b| format!("{b:02x}")).join(":");
        let rules = format!(
            "add table netdev swbench; \
             add counter netdev swbench generated; \
             add chain netdev swbench ingress {{ type filter hook ingress device \"{B_IF}\" priority 0; }}; \
             add rule netdev swbench ingress ether saddr {source} counter name generated drop"
        );
        cmd(["nft", &rules]).in_netns(&rig.b()).run()?;
        Ok(Sink { netns: rig.b() })
    }

    /// Frames counted since installation.
    ///
    /// # Errors
    /// [`Error::Command`] or [`Error::Parse`].
    pub fn frames(&self) -> Result<u64> {
        let listing = ["nft", "-j", "list", "counter", "netdev", "swbench", "generated"];
        parse_counter(&cmd(listing).in_netns(&self.netns).run()?)
    }

    /// Waits until no more frames arrive and returns the count.
    ///
    /// # Errors
    /// As [`Sink::frames`], and [`Error::Interrupted`].
    pub fn settled_frames(&self, stop: &Stop) -> Result<u64> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut last = self.frames()?;
        loop {
            stop.sleep(SETTLE_STEP)?;
            let now = self.frames()?;
            if now == last || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }
}

/// Frames b0 has received according to the interface's own counter; for the calling thread's namespace. Cheap enough to
/// be read during a load.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`].
pub fn interface_frames() -> Result<u64> {
    let path = "/proc/thread-self/net/dev";
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(format!("read {path}"), e))?;
    parse_net_dev(&text, B_IF)
}

fn parse_counter(json: &str) -> Result<u64> {
    let bad = |why: String| Error::Parse { tool: "nft", why };
    let value: serde_json::Value = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
    let objects = value.get("nftables").and_then(|v| v.as_array()).into_iter().flatten();
    let packets = objects.filter_map(|o| o.get("counter")?.get("packets")?.as_u64()).next();
    packets.ok_or_else(|| bad(format!("no counter with packets in {json}")))
}

/// The "packets received" column (the second) of an interface in the format of /proc/net/dev.
fn parse_net_dev(text: &str, interface: &str) -> Result<u64> {
    let fields = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == interface);
    let packets = fields.and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| Error::Parse { tool: "/proc/net/dev", why: format!("no packets of {interface}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nft_counters_are_read() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "netdev", "name": "generated", "table": "swbench", "packets": 42, "bytes": 2520}}]}"#;
        assert_eq!(parse_counter(json).unwrap(), 42);
        assert!(parse_counter(r#"{"nftables": []}"#).is_err());
        assert!(parse_counter("no json").is_err());
    }

    #[test]
    fn interface_counters_are_read() {
        let text =
            "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo:  10   1 0 0\n    b0: 600  10 0 0\n";
        assert_eq!(parse_net_dev(text, "b0").unwrap(), 10);
        assert!(parse_net_dev(text, "b").is_err());
    }
}
