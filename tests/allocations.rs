//! A CPU step allocates nothing once steps of its size have been run: what it needs is kept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
use firecrest_engine::backend::{Backend, Outputs};
use firecrest_engine::batch::Class;
use firecrest_tests::synthetic::{Recipe, Run, Sequences};

/// Counts what is allocated, on any thread.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system's allocator as it is asked.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_of_a_known_size_allocates_nothing() {
    for recipe in [Recipe::llama(), Recipe::gemma2()] {
        let model = recipe.build(2);
        let (sequences, pages) = Sequences::new(&model, 4, 40, 3);
        let mut backend = Backend::Cpu(CpuBackend::new(CpuOptions { threads: Some(2), ..CpuOptions::default() }).expect("a backend"));
        model.install(&mut backend, pages);
        let run = |sequence: u32, positions: std::ops::Range<u32>, class| Run { sequence, positions, class };
        let prompts = sequences.batch(&(0..4).map(|s| run(s, 0..9, Class::Prompt)).collect::<Vec<_>>());
        let decode = |position: u32| sequences.batch(&(0..4).map(|s| run(s, position..position + 1, Class::Generated)).collect::<Vec<_>>());
        let mut outputs = Outputs::default();
        let mut step = |batch| {
            pollster::block_on(backend.run(&model.plan, batch)).expect("runs");
            pollster::block_on(backend.read(&mut outputs)).expect("reads");
        };
        let batches = [decode(9), decode(10), decode(11)];
        step(&prompts);
        step(&batches[0]);
        for batch in &batches[1..] {
            let before = COUNT.load(Ordering::Relaxed);
            step(batch);
            assert_eq!(COUNT.load(Ordering::Relaxed) - before, 0, "allocations in a step");
        }
    }
}
