//! The memory a fuzz target may have: an allocation past the bound fails at once, and the input that asked is kept.
//!
//! libFuzzer's own bound looks at the whole process once a second, its corpus and tables included; this one counts every
//! byte of Rust's heap.

use std::alloc::System;

use cap::Cap;

const HEAP_SIZE_BYTES_MAX: usize = 256 << 20;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, HEAP_SIZE_BYTES_MAX);
