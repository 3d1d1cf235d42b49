//! Large pages for large tables.
//!
//! A look-up in a table of a million sessions touches a page of its own each time, and with pages of 4 KiB the walk to
//! find it costs as much as the memory itself.

use std::ops::Range;

/// Asks the system to back a range of addresses with large pages as it is touched; returns whether it agreed. A
/// refusal costs speed and nothing else.
#[cfg(target_os = "linux")]
pub fn prefer_large_pages(range: Range<usize>) -> bool {
    /// A large page: only whole ones can be asked for.
    const LARGE: usize = 2 << 20;
    let (start, end) = (range.start.next_multiple_of(LARGE), range.end / LARGE * LARGE);
    if start >= end {
        return false;
    }
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: MADV_HUGEPAGE changes how memory is backed, not what it holds; a range that is not mapped is refused.
    unsafe { libc::madvise(address, end - start, libc::MADV_HUGEPAGE) == 0 }
}

/// There is no such request here: illumos chooses the page size itself as memory is touched.
#[cfg(not(target_os = "linux"))]
pub fn prefer_large_pages(_: Range<usize>) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_it_was() {
        let memory = vec![7_u8; 6 << 20];
        let range = memory.as_ptr_range();
        prefer_large_pages(range.start.addr()..range.end.addr());
        assert!(memory.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_holds_no_large_page_is_not_asked_for() {
        assert!(!prefer_large_pages(0x1000..0x2000));
        assert!(!prefer_large_pages(5..5));
    }
}
