//! Tests of the neighbour cache by itself; what it does with frames around it is in `host/tests`.

use super::*;
use crate::port::SharedPool;
use crate::table::fdb::Fdb;

#[test]
fn the_index_is_made_anew_when_workers_are_done_with_the_one_before() {
    let shared = Shared::new(1, SharedPool::heap(256), Arc::new(Fdb::new(1_024, 1))).unwrap();
    let mut cache = Cache::new(Arc::clone(&shared), HostSettings::default());
    let table = &shared.router().neighbours;
    let key = |number: u32| NeighbourKey::v4(DomainId::new(1).unwrap(), number);
    cache.add_permanent(key(0), Mac::from_bits(2), 0).unwrap();
    // Claims and releases from `first` on, so many that enough entries lead nowhere wherever the seed puts them: how
    // often the index is made anew meanwhile.
    let mut churn = |first: u32| {
        let mut anew = 0;
        for start in (first..first + 960_000).step_by(60_000) {
            let slots: Vec<_> = (start..start + 60_000).map(|number| cache.insert(key(number), 0).unwrap()).collect();
            let mut gone = table.gone();
            for slot in slots {
                cache.delete(slot);
                assert!(table.find(key(0)).is_some());
                let before = std::mem::replace(&mut gone, table.gone());
                anew += usize::from(before >= NEIGHBOURS_MAX / 2 - 1 && gone == 0);
            }
        }
        anew
    };
    shared.grace().pass(0);
    assert_eq!(churn(1), 1, "the second index was free, the first one is not yet");
    assert_eq!(churn(1_000_000), 0, "the worker may search it");
    assert!(table.gone() >= NEIGHBOURS_MAX / 2);
    shared.grace().pass(0);
    assert_eq!(churn(2_000_000), 1, "it searches the second one");
}
