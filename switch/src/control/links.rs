//! Network interfaces as the control thread knows them, kept up to date from kernel events.
//!
//! [`LinkSource`] is where events come from (`netlink`, or a script in tests); [`LinkTable`] is what they
//! add up to. Links are told apart by a serial number that no two incarnations share, so that an interface
//! deleted and made again within one batch of events is seen as another one. Control thread.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;

use crate::ids::Mac;

/// One network interface in the switch's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index (`ip link`), above 0.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Administratively up, with a carrier: for a veth, both ends are up.
    pub up: bool,
    /// Largest packet without the Ethernet header, in bytes.
    pub mtu: u32,
    /// Hardware address, if it is an Ethernet one.
    pub mac: Option<Mac>,
}

/// What a [`LinkSource`] reports, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The link exists and looks like this.
    Present(Link),
    /// The link was deleted, or left the namespace.
    Gone {
        /// Its index.
        ifindex: u32,
    },
    /// A list of all links begins.
    DumpBegins,
    /// The list is complete: a link that was not in it does not exist.
    DumpEnds,
}

/// Where link events come from.
pub trait LinkSource: Send {
    /// Readable when events wait.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Appends everything that waits to `out`; never blocks. When the kernel had to drop events, the
    /// source asks for a new list by itself.
    ///
    /// # Errors
    /// The socket is unusable.
    fn read(&mut self, out: &mut Vec<LinkEvent>) -> io::Result<()>;
}

/// A link and which incarnation of it this is.
#[derive(Clone, Debug)]
pub struct Known {
    /// What the kernel said last.
    pub link: Link,
    /// Unlike that of any other link, gone ones included.
    pub serial: u64,
    /// Counts the changes of `link`.
    pub version: u64,
}

/// All links.
#[derive(Default)]
pub struct LinkTable {
    by_index: HashMap<u32, Known>,
    by_name: HashMap<String, u32>,
    /// Links met by the list that is under way.
    listed: Option<HashSet<u32>>,
    serial: u64,
    complete: bool,
}

impl LinkTable {
    /// Takes one event in; true if anything that matters to a port may have changed.
    pub fn apply(&mut self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Present(link) => self.present(link),
            LinkEvent::Gone { ifindex } => self.gone(ifindex),
            LinkEvent::DumpBegins => {
                self.listed = Some(HashSet::new());
                false
            }
            LinkEvent::DumpEnds => {
                let listed = self.listed.take().unwrap_or_default();
                let lost: Vec<u32> = self.by_index.keys().filter(|index| !listed.contains(index)).copied().collect();
                for ifindex in &lost {
                    self.gone(*ifindex);
                }
                let first = !std::mem::replace(&mut self.complete, true);
                first || !lost.is_empty()
            }
        }
    }

    /// True once a whole list was read.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The link called `name`.
    pub fn by_name(&self, name: &str) -> Option<&Known> {
        self.by_index.get(self.by_name.get(name)?)
    }

    fn present(&mut self, link: Link) -> bool {
        let ifindex = link.ifindex;
        if let Some(listed) = &mut self.listed {
            listed.insert(ifindex);
        }
        let name = link.name.clone();
        match self.by_index.get_mut(&ifindex) {
            Some(known) if known.link == link => return false,
            Some(known) => {
                known.version += 1;
                let before = std::mem::replace(&mut known.link, link);
                if before.name != name && self.by_name.get(&before.name) == Some(&ifindex) {
                    self.by_name.remove(&before.name);
                }
            }
            None => {
                self.serial += 1;
                self.by_index.insert(ifindex, Known { link, serial: self.serial, version: 0 });
            }
        }
        self.by_name.insert(name, ifindex);
        true
    }

    fn gone(&mut self, ifindex: u32) -> bool {
        if let Some(listed) = &mut self.listed {
            listed.remove(&ifindex);
        }
        let Some(known) = self.by_index.remove(&ifindex) else { return false };
        if self.by_name.get(&known.link.name) == Some(&ifindex) {
            self.by_name.remove(&known.link.name);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str) -> LinkEvent {
        LinkEvent::Present(Link { ifindex, name: name.to_string(), up: true, mtu: 1500, mac: None })
    }

    #[test]
    fn an_interface_made_again_is_another_one_even_with_the_same_index() {
        let mut table = LinkTable::default();
        assert!(table.apply(link(5, "web0")));
        assert!(!table.apply(link(5, "web0")), "nothing changed");
        let before = table.by_name("web0").unwrap().serial;
        assert!(table.apply(LinkEvent::Gone { ifindex: 5 }));
        assert!(table.apply(link(5, "web0")));
        assert_ne!(table.by_name("web0").unwrap().serial, before);
    }

    #[test]
    fn names_follow_renames_and_swaps() {
        let mut table = LinkTable::default();
        table.apply(link(1, "a"));
        table.apply(link(2, "b"));
        // The first event of a swap may be lost: the newer claim on a name counts.
        table.apply(link(2, "a"));
        assert_eq!(table.by_name("a").unwrap().link.ifindex, 2);
        table.apply(link(1, "b"));
        assert_eq!(table.by_name("a").unwrap().link.ifindex, 2);
        assert_eq!(table.by_name("b").unwrap().link.ifindex, 1);
        table.apply(link(1, "c"));
        assert!(table.by_name("b").is_none());
        // An old interface's end does not take the name from the new one.
        table.apply(link(3, "c"));
        table.apply(LinkEvent::Gone { ifindex: 1 });
        assert_eq!(table.by_name("c").unwrap().link.ifindex, 3);
    }

    #[test]
    fn a_list_removes_what_it_does_not_name() {
        let mut table = LinkTable::default();
        for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
            table.apply(link(ifindex, name));
        }
        assert!(!table.is_complete());
        table.apply(LinkEvent::DumpBegins);
        table.apply(link(1, "a"));
        table.apply(link(3, "c"));
        // Deleted while the list was on its way.
        table.apply(LinkEvent::Gone { ifindex: 3 });
        assert!(table.apply(LinkEvent::DumpEnds) && table.is_complete());
        assert!(table.by_name("a").is_some() && table.by_name("b").is_none() && table.by_name("c").is_none());
    }
}
