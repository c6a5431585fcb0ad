//! How the slots of a group are shared out among its next hops.
//!
//! Shares follow weights by a divisor method (Webster's, with a first slot for everybody): of such methods it is known
//! that when a member leaves, no other gets less, and when one comes, no other gets more. So only the slots of the one
//! who leaves, or comes, change hands, and only their flows move. Pure; control thread.

use crate::limits::{GROUP_MEMBERS_MAX, GROUP_SLOTS};

/// Slots for each member, in the order of `weights`: at least one each, [`GROUP_SLOTS`] in all (none without members).
/// Members beyond [`GROUP_MEMBERS_MAX`] get none.
///
/// Between members of the same claim the earlier one comes first, so the order must not depend on who else is there.
pub fn shares(weights: &[u16]) -> Vec<usize> {
    let members = weights.len().min(GROUP_MEMBERS_MAX);
    let mut shares = vec![0usize; weights.len()];
    if members == 0 {
        return shares;
    }
    shares.iter_mut().take(members).for_each(|share| *share = 1);
    for _ in members..GROUP_SLOTS {
        // The largest of weight / (2 * share + 1), compared without dividing.
        let mut best = 0;
        for at in 1..members {
            let claim = |at: usize, divisor_of: usize| u64::from(weights[at]) * (2 * shares[divisor_of] as u64 + 1);
            if claim(at, best) > claim(best, at) {
                best = at;
            }
        }
        shares[best] += 1;
    }
    shares
}

/// Shares the slots out among `members` (name and weight, sorted by name, no name twice), changing as few of `before`
/// as can be. `None` in every slot without members.
pub fn assign<K: Copy + Ord>(before: &[Option<K>; GROUP_SLOTS], members: &[(K, u16)]) -> [Option<K>; GROUP_SLOTS] {
    let weights: Vec<u16> = members.iter().map(|(_, weight)| *weight).collect();
    let mut left = shares(&weights);
    let place = |name: K| members.binary_search_by_key(&name, |(name, _)| *name).ok();
    let mut after = *before;
    for slot in &mut after {
        // Who has more than its share gives up its last slots.
        let kept = slot.and_then(place).filter(|&at| left[at] > 0);
        match kept {
            Some(at) => left[at] -= 1,
            None => *slot = None,
        }
    }
    // In turn, so that neighbouring slots go to different members.
    let mut next = 0;
    for slot in after.iter_mut().filter(|slot| slot.is_none()) {
        let Some(at) = (0..members.len()).map(|step| (next + step) % members.len()).find(|&at| left[at] > 0) else {
            return after;
        };
        left[at] -= 1;
        *slot = members.get(at).map(|(name, _)| *name);
        next = at + 1;
    }
    after
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    type Members = BTreeMap<u8, u16>;

    fn members_of(members: &Members) -> Vec<(u8, u16)> {
        members.iter().map(|(&name, &weight)| (name, weight)).collect()
    }

    fn assigned(before: &[Option<u8>; GROUP_SLOTS], members: &Members) -> [Option<u8>; GROUP_SLOTS] {
        assign(before, &members_of(members))
    }

    #[test]
    fn equal_members_get_equal_shares_and_weights_count() {
        assert_eq!(shares(&[1, 1]), [128, 128]);
        assert_eq!(shares(&[1, 1, 1]), [86, 85, 85]);
        assert_eq!(shares(&[1, 3]), [64, 192]);
        assert_eq!(shares(&[256, 1]), [255, 1]);
        assert_eq!(shares(&[7]), [256]);
        assert!(shares(&[]).is_empty());
        assert_eq!(shares(&[1; GROUP_MEMBERS_MAX]), [4; GROUP_MEMBERS_MAX]);
        assert_eq!(assign::<u8>(&[Some(3); GROUP_SLOTS], &[]), [None; GROUP_SLOTS]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn everybody_has_a_fair_share(members in btree_map(any::<u8>(), 1u16..=256, 1..=GROUP_MEMBERS_MAX)) {
            let list = members_of(&members);
            let shares = shares(&list.iter().map(|(_, weight)| *weight).collect::<Vec<_>>());
            prop_assert_eq!(shares.iter().sum::<usize>(), GROUP_SLOTS);
            prop_assert!(shares.iter().all(|&share| share >= 1));
            let total: f64 = list.iter().map(|(_, weight)| f64::from(*weight)).sum();
            if list.len() <= 8 {
                for ((_, weight), share) in list.iter().zip(&shares) {
                    let ideal = GROUP_SLOTS as f64 * f64::from(*weight) / total;
                    // The first slot, which everybody gets, is taken from the others' shares.
                    prop_assert!((*share as f64 - ideal).abs() <= 1.0 + list.len() as f64, "{share} of {ideal}");
                }
            }
        }

        #[test]
        fn who_leaves_or_comes_moves_only_its_own_slots(
            members in btree_map(any::<u8>(), 1u16..=256, 2..=GROUP_MEMBERS_MAX),
            changes in proptest::collection::vec((any::<u8>(), 1u16..=256), 1..20),
        ) {
            let mut members = members;
            let mut slots = assigned(&[None; GROUP_SLOTS], &members);
            for (name, weight) in changes {
                let came = if members.remove(&name).is_some() {
                    false
                } else if members.len() < GROUP_MEMBERS_MAX {
                    members.insert(name, weight);
                    true
                } else {
                    continue;
                };
                let after = assigned(&slots, &members);
                for (before, after) in slots.iter().zip(&after).filter(|_| !members.is_empty()) {
                    let moved = before != after;
                    let right = if came { *after == Some(name) } else { *before == Some(name) };
                    // A group that was empty is filled by whoever comes.
                    prop_assert!(!moved || right || before.is_none(), "{before:?} to {after:?}, {name} {came}");
                }
                let shares = shares(&members_of(&members).iter().map(|(_, weight)| *weight).collect::<Vec<_>>());
                for ((name, _), share) in members.iter().zip(shares) {
                    prop_assert_eq!(after.iter().filter(|slot| **slot == Some(*name)).count(), share);
                }
                prop_assert_eq!(assigned(&after, &members), after, "nothing changes without a change");
                slots = after;
            }
        }
    }
}
