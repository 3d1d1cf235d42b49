//! Zeroed memory that costs nothing until it is touched, and prefetching.

use std::ops::Deref;

/// A type of which all-zero bytes are a valid value.
///
/// # Safety
/// Zeroed bytes must be a valid `Self`, and `Self` must need no drop.
pub(crate) unsafe trait Zeroable {
    /// The value that zeroed bytes stand for (loom's atomics have to be made one by one).
    #[cfg(loom)]
    fn zeroed() -> Self;
}

/// A boxed slice of zeroed values, aligned to a pair of cache lines.
///
/// The pages are the allocator's untouched zero pages: a large table occupies address space, not
/// memory, until its entries are used. Two lines, because CPUs fetch neighbouring lines in pairs.
pub(crate) struct Zeroed<T> {
    #[cfg(not(loom))]
    base: std::ptr::NonNull<u8>,
    #[cfg(not(loom))]
    first: std::ptr::NonNull<T>,
    #[cfg(not(loom))]
    layout: std::alloc::Layout,
    #[cfg(not(loom))]
    len: usize,
    #[cfg(loom)]
    values: Box<[T]>,
}

#[cfg(not(loom))]
impl<T: Zeroable> Zeroed<T> {
    /// Allocates `len` zeroed values.
    ///
    /// # Panics
    /// If `len` is 0 or the size overflows.
    pub(crate) fn new(len: usize) -> Self {
        use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) }
        assert!(len > 0, "an empty table is useless");
        let bytes = len.checked_mul(size_of::<T>()).and_then(|n| n.checked_add(ALIGNMENT));
        // Asking for 16 instead of 128 keeps the allocator on its `calloc` path; over-aligned
        // zeroed memory is written by the standard library, which would touch every page.
        let layout = Layout::from_size_align(bytes.expect("table size fits the address space"), 16)
            .expect("16 is a power of two and the size was checked");
        // SAFETY: the size is not zero.
        let Some(base) = std::ptr::NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        let offset = base.as_ptr().align_offset(ALIGNMENT);
        assert!(offset <= ALIGNMENT, "a byte pointer can always be aligned");
        // SAFETY: offset is at most ALIGNMENT, which was added to the size of the values.
        let first = unsafe { base.add(offset) }.cast();
        Self { base, first, layout, len }
    }
}

#[cfg(loom)]
impl<T: Zeroable> Zeroed<T> {
    pub(crate) fn new(len: usize) -> Self {
        assert!(len > 0, "an empty table is useless");
        Self { values: (0..len).map(|_| T::zeroed()).collect() }
    }
}

impl<T> Deref for Zeroed<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        #[cfg(loom)]
        return &self.values;
        // SAFETY: `first` starts `len` aligned values inside the allocation, zeroed when made and
        // valid so by `Zeroable`; they live as long as self and are only changed through cells.
        #[cfg(not(loom))]
        unsafe {
            std::slice::from_raw_parts(self.first.as_ptr(), self.len)
        }
    }
}

#[cfg(not(loom))]
impl<T> Drop for Zeroed<T> {
    fn drop(&mut self) {
        // SAFETY: `base` came from the global allocator with this layout; the values need no drop.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

// SAFETY: a `Zeroed<T>` owns its values like a `Box<[T]>` and hands out only shared references.
#[cfg(not(loom))]
unsafe impl<T: Send> Send for Zeroed<T> {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl<T: Sync> Sync for Zeroed<T> {}

/// Asks the CPU to fetch the line of `target` for reading; a no-op where we know no way to ask.
#[inline(always)]
pub(crate) fn prefetch<T>(target: &T) {
    prefetch_at(target);
}

/// The same for an address, whatever is there.
#[inline(always)]
pub(crate) fn prefetch_at<T>(target: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(target.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = target;
}

/// Two cache lines.
#[cfg(not(loom))]
const ALIGNMENT: usize = 128;
