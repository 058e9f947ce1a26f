//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open titles take one part in so many of all there may be; the rest is for connections, segments and what is being opened.
const TITLES_SHARE: u64 = 4;

/// Takes as many descriptors as the system gives: a shell's default is 1,024, and each connection and each file of an open
/// title needs one.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Files of opened titles that may be kept open at once; at least one.
pub fn title_file_count_max() -> u64 {
    let limit = getrlimit(Resource::Nofile).current;
    (limit.unwrap_or(u64::MAX) / TITLES_SHARE).max(1)
}
