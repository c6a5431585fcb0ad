//! The switch as a host, as text.

use std::collections::HashMap;
use std::io::{self, Write};

use ctl::protocol::{Done, HostStatus, HostValueKind};

use super::{Before, Listing, View, rate};
use crate::cli::columns::Align::{Left, Right};
use crate::cli::columns::Columns;

impl Listing for HostStatus {
    fn text(items: &[Self], before: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let mut heads = vec![("VALUE", Right)];
        if before.is_some() {
            heads.push(("RATE/S", Right));
        }
        heads.extend([("LIMIT", Right), ("NAME", Left), ("HELP", Left)]);
        let mut table = Columns::new(&heads);
        for item in items {
            // A limit in force stands where the limits of levels do.
            let (value, limit) = match item.kind {
                HostValueKind::Limit => (None, Some(item.value)),
                _ => (Some(item.value), item.limit),
            };
            let cell = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
            let mut row = vec![cell(value)];
            if before.is_some() {
                row.push(item.rate_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")));
            }
            row.extend([cell(limit), item.name.clone(), item.help.clone()]);
            table.push(row, out)?;
        }
        table.end(out)
    }

    fn set_rates(items: &mut [Self], before: &Before<Self>) {
        let old: HashMap<&str, u64> = before.items.iter().map(|item| (item.name.as_str(), item.value)).collect();
        for item in items.iter_mut().filter(|item| item.kind == HostValueKind::Counter) {
            let was = old.get(item.name.as_str()).copied().unwrap_or(0);
            item.rate_per_second = Some(rate(item.value, was, before.seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text_of;
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_levels_and_limits_of_the_host() {
        let items = |errors: u64| {
            json!([{"name": "neighbours", "kind": "level", "value": 3, "limit": 65536, "help": "Known."},
                   {"name": "icmp_errors", "kind": "counter", "value": errors, "help": "Sent."},
                   {"name": "icmp_rate_per_s", "kind": "limit", "value": 1000, "help": "At most."}])
        };
        assert_eq!(
            text_of::<HostStatus>(items(7), None, View::default()),
            "\
VALUE  LIMIT  NAME             HELP
    3  65536  neighbours       Known.
    7      -  icmp_errors      Sent.
    -   1000  icmp_rate_per_s  At most.
"
        );
        let watched = text_of::<HostStatus>(items(107), Some(items(7)), View::default());
        assert!(watched.contains("  107      50      -  icmp_errors"), "{watched}");
        assert!(watched.contains("    3       -  65536  neighbours"), "{watched}");
        let newer = json!({"name": "x", "kind": "mood", "value": 1, "help": "?"});
        assert_eq!(serde_json::from_value::<HostStatus>(newer).unwrap().kind, HostValueKind::Limit);
    }
}
