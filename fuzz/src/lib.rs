//! What one input may cost: a tenth of a second of the processor, and sixty-four bytes of memory for each of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Of the processor, for one input; inputs have 16 KiB at most. Instruments make everything several times slower, so that what
/// users run costs far less.
const TIME: Duration = Duration::from_millis(100);
/// Bytes held at once for each byte of input, beside some for what any input needs.
const BYTES: usize = 64;
const BASE: usize = 1 << 20;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// Counts what a thread holds.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn taken(bytes: usize) {
    // A thread that ends has no place for this any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

fn given_back(bytes: usize) {
    // What another thread took may be given back here.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

// SAFETY: every call goes on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        given_back(layout.size());
        taken(size);
        // SAFETY: as the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn processor() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Runs what an input of so many bytes asks for, and insists that it costs no more than it may. What is made once for all
/// inputs must be there before.
pub fn bounded(length: usize, run: impl Fn()) {
    bounded_beside(length, 0, run);
}

/// The same of what has a budget of its own, for which it may hold so many bytes beside.
pub fn bounded_beside(length: usize, budget: usize, run: impl Fn()) {
    let held = HELD.with(Cell::get);
    MOST.with(|most| most.set(held));
    let begun = processor();
    run();
    let mut time = processor() - begun;
    let most = MOST.with(Cell::get) - held;
    assert!(most <= BASE + BYTES * length + budget, "{most} bytes were held at once for {length} of input");
    // The processor's caches may have been somebody else's.
    for _ in 0..2 {
        if time > TIME {
            let begun = processor();
            run();
            time = time.min(processor() - begun);
        }
    }
    assert!(time <= TIME, "it takes {time:?}");
}
