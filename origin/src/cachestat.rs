//! `cachestat(2)`: how many pages of a file range are in the page cache (Linux 6.5 and later). libc has no wrapper yet.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// The same number on every architecture (except Alpha, which Rust does not run on).
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    size: u64,
}

/// `struct cachestat` of `linux/mman.h`; all in pages.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    written_back: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Pages of `size` bytes from `offset` that are in the page cache.
pub fn cached_pages(file: &File, offset: u64, size: u64) -> std::io::Result<u64> {
    let range = Range { offset, size };
    let mut found = Cachestat::default();
    // SAFETY: both structures have the layout the kernel expects and outlive the call, which writes to `found` alone.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut found, 0_u32) };
    match result {
        0 => Ok(found.cached),
        _ => Err(std::io::Error::last_os_error()),
    }
}
