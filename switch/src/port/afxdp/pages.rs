//! Huge pages for memory that is read in no order.

use std::ops::Range;

/// `MADV_COLLAPSE` (Linux 6.1, include/uapi/asm-generic/mman-common.h).
const COLLAPSE: libc::c_int = 25;

/// Asks the kernel to back `memory`, which this process has written already, with transparent huge pages: as much of it
/// as whole huge pages cover. With pages of 4 KiB nearly every look into a large table misses the processor's
/// table of translations. Contents and addresses stay as they are. Any thread; may take milliseconds a MiB.
///
/// True if the kernel has done so. It refuses where transparent huge pages are `never` to be used or no memory is in
/// one piece; one older than 6.1 takes it as advice for later. Nothing depends on the answer.
pub fn prefer_huge(memory: Range<*const u8>) -> bool {
    // SAFETY: a plain call.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = memory.start.addr().next_multiple_of(page);
    let end = memory.end.addr() / page * page;
    let Some(len) = end.checked_sub(start).filter(|&len| len > 0) else { return false };
    let advise = |advice| {
        // SAFETY: neither advice changes what any address reads as, whoever the memory belongs to, nor do they take
        // a mapping away; addresses without one are refused.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(start), len, advice) == 0 }
    };
    // The advice remains with the memory, and counts for what cannot be collapsed now.
    let advised = advise(libc::MADV_HUGEPAGE);
    advised && advise(COLLAPSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process's huge pages between two addresses.
    fn huge_in(memory: &Range<*const u8>) -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut kib) = (false, 0);
        for line in text.lines() {
            if let Some((start, rest)) = line.split_once('-')
                && let Ok(start) = usize::from_str_radix(start, 16)
            {
                let end = rest.split(' ').next().and_then(|end| usize::from_str_radix(end, 16).ok()).unwrap();
                inside = start < memory.end.addr() && end > memory.start.addr();
            } else if let Some(huge) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
                kib += huge.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
            }
        }
        kib << 10
    }

    #[test]
    fn what_is_written_moves_to_huge_pages_and_stays_what_it_was() {
        let memory: Vec<u64> = (0..1 << 20).collect();
        let Range { start, end } = memory.as_ptr_range();
        let range = start.cast()..end.cast();
        if prefer_huge(range.clone()) {
            // The ends may be no whole huge page.
            assert!(huge_in(&range) >= 4 << 20, "{} bytes on huge pages", huge_in(&range));
        } else {
            println!("SKIPPED: this kernel gives no huge pages");
        }
        assert!(memory.iter().enumerate().all(|(at, &word)| at as u64 == word));
    }

    #[test]
    fn nothing_is_asked_for_less_than_a_page_nor_for_addresses_without_memory() {
        let byte = 0u8;
        let start: *const u8 = &byte;
        assert!(!prefer_huge(start..start.wrapping_add(1)));
        assert!(!prefer_huge(start.wrapping_add(1)..start));
        let low = std::ptr::without_provenance(4096);
        assert!(!prefer_huge(low..std::ptr::without_provenance(1 << 21)));
    }
}
