//! What clients may cost: the `[origin.limits]` table, checked. What no setting should change is a constant here.

use std::time::Duration;

/// Bytes of a request head, and of what HTTP/1.1 answers wait in user space: grants and cookies are below 8 KiB.
pub const HEAD_SIZE_BYTES_MAX: usize = 16 << 10;
/// Header fields of a request: browsers send about twenty.
pub const HEADER_COUNT_MAX: usize = 64;
/// Answers on one HTTP/2 connection at once; RFC 9113 6.5.2 asks for no fewer than 100.
pub const STREAM_COUNT_MAX: u32 = 100;
/// Bytes of one HTTP/2 answer that wait for the client's window.
pub const STREAM_SEND_SIZE_BYTES_MAX: usize = 64 << 10;
/// What a client may send on an HTTP/2 stream or connection before it is read: requests have bodies of a few KiB.
pub const RECEIVE_WINDOW_BYTES: u32 = 64 << 10;
/// Streams that a client opened and reset before they were looked at (rapid reset, CVE-2023-44487).
pub const PENDING_RESET_COUNT_MAX: usize = 20;
/// Streams reset by us for a client's errors before its connection ends (RUSTSEC-2024-0003).
pub const ERROR_RESET_COUNT_MAX: usize = 256;
/// Answers that an HTTP/2 client gives up within a second. A player that is scrubbed gives up a dozen.
pub const CANCEL_COUNT_MAX: u32 = 200;
/// Quiet HTTP/2 connections are asked whether anybody is there, so that dead ones do not hold answers.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);
/// An HTTP/2 client that does not answer the question is gone.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Ciphertext that waits for one TLS client: four records, a system call's worth.
pub const TLS_BUFFER_SIZE_BYTES_MAX: usize = 64 << 10;
/// The same for a client that may turn out not to read at all: until it has taken [`TLS_PROVEN_SIZE_BYTES`].
pub const TLS_FIRST_BUFFER_SIZE_BYTES_MAX: usize = 32 << 10;
/// More than the kernel takes for a client that does not read.
pub const TLS_PROVEN_SIZE_BYTES: u64 = 1 << 20;
/// Bytes that the kernel takes of one client's answers before it has sent what it took, beyond what is on its way. Without
/// it, a client that does not read would be given megabytes at once while all others wait.
pub const UNSENT_SIZE_BYTES_MAX: u32 = 128 << 10;
/// How often every connection of a thread is judged.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// What was read or made for a connection whose socket takes nothing for so long is let go, and read or made again when it
/// does: clients that read, however slowly, are asked for more several times a second.
pub const STILL_MAX: Duration = Duration::from_secs(1);
/// When seven of eight connections are taken, idle ones are let go of after this.
pub const CROWDED_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A connection that was asked to end and has nothing to do has this long to.
pub const RETIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// At a stop, HTTP/1.1 connections that are idle wait this long for one more request, whose answer then says that it is
/// the last: a connection closed at once may cross a request on its way.
pub const LAST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// `[origin.limits]` as written by people.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Connections of one client (IPv4 address or IPv6 /64) at once; 0 for no limit.
    pub connections_per_client_max: u32,
    /// A connection without requests is closed after so long.
    pub keep_alive_timeout_s: u64,
    /// A TLS handshake must be over after so long.
    pub handshake_timeout_s: u64,
    /// A request body must be there after so long.
    pub body_timeout_s: u64,
    /// A client that is to read an answer is judged by what it takes in so long.
    pub send_stall_timeout_s: u64,
    /// Less than this, in bytes a second over `send_stall_timeout_s`, and it is let go.
    pub send_rate_min: u64,
    /// Requests of one thread that wait for files, keys or memory at once; more are answered 503.
    pub work_count_max: usize,
    /// Answers of one thread that are being sent at once; more are answered 503.
    pub answer_count_max: usize,
    /// Bytes of media that all threads built for answers which are being sent (MPEG-TS, encrypted); beyond it media that
    /// must be built is answered 503.
    pub answer_memory_bytes_max: u64,
    /// Media is answered 503 while requests stand longer than this before a thread comes to them; 0 for never.
    pub delay_ms_max: u64,
}

impl Default for LimitsSection {
    fn default() -> LimitsSection {
        LimitsSection {
            connections_per_client_max: 1_000,
            keep_alive_timeout_s: 60,
            handshake_timeout_s: 10,
            body_timeout_s: 10,
            send_stall_timeout_s: 30,
            send_rate_min: 1_024,
            work_count_max: 1_024,
            answer_count_max: 8_192,
            answer_memory_bytes_max: 512 << 20,
            delay_ms_max: 250,
        }
    }
}

/// What clients may cost, checked.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of one client at once.
    pub connections_per_client_max: Option<u32>,
    /// Patience with connections that ask nothing.
    pub keep_alive_timeout: Duration,
    /// Patience with TLS handshakes.
    pub handshake_timeout: Duration,
    /// Patience with request bodies.
    pub body_timeout: Duration,
    /// Window over which readers are judged.
    pub send_stall_timeout: Duration,
    /// Bytes a reader has to take in that window.
    pub send_size_bytes_min: u64,
    /// Requests of a thread that wait for us at once.
    pub work_count_max: usize,
    /// Answers of a thread that are being sent at once.
    pub answer_count_max: usize,
    /// Bytes built for answers that are being sent.
    pub answer_memory_bytes_max: u64,
    /// Standing delay beyond which media is refused.
    pub delay_max: Option<Duration>,
}

impl LimitsSection {
    /// The limits, checked; else the key that is wrong and why.
    pub fn check(self) -> Result<Limits, (&'static str, String)> {
        let seconds = |key, value: u64, max: u64| match (1..=max).contains(&value) {
            true => Ok(Duration::from_secs(value)),
            false => Err((key, format!("{value} is outside 1 to {max}"))),
        };
        let count = |key, value: usize| match (1..=1 << 20).contains(&value) {
            true => Ok(value),
            false => Err((key, format!("{value} is outside 1 to {}", 1 << 20))),
        };
        if self.delay_ms_max > 60_000 {
            let reason = format!("{} is more than a minute; 0 is for never", self.delay_ms_max);
            return Err(("limits.delay_ms_max", reason));
        }
        Ok(Limits {
            connections_per_client_max: (self.connections_per_client_max > 0)
                .then_some(self.connections_per_client_max),
            keep_alive_timeout: seconds("limits.keep_alive_timeout_s", self.keep_alive_timeout_s, 3_600)?,
            handshake_timeout: seconds("limits.handshake_timeout_s", self.handshake_timeout_s, 120)?,
            body_timeout: seconds("limits.body_timeout_s", self.body_timeout_s, 120)?,
            send_stall_timeout: seconds("limits.send_stall_timeout_s", self.send_stall_timeout_s, 600)?,
            send_size_bytes_min: self.send_rate_min.saturating_mul(self.send_stall_timeout_s),
            work_count_max: count("limits.work_count_max", self.work_count_max)?,
            answer_memory_bytes_max: self.answer_memory_bytes_max.max(16 << 20),
            answer_count_max: count("limits.answer_count_max", self.answer_count_max)?,
            delay_max: (self.delay_ms_max > 0).then_some(Duration::from_millis(self.delay_ms_max)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let check = |change: fn(&mut LimitsSection), expected: Option<&str>| {
            let mut section = LimitsSection::default();
            change(&mut section);
            assert_eq!(section.check().err().map(|(key, _)| key), expected);
        };
        check(|_| {}, None);
        check(|section| section.connections_per_client_max = 0, None);
        check(
            |section| section.keep_alive_timeout_s = 0,
            Some("limits.keep_alive_timeout_s"),
        );
        check(
            |section| section.handshake_timeout_s = 121,
            Some("limits.handshake_timeout_s"),
        );
        check(
            |section| section.body_timeout_s = u64::MAX,
            Some("limits.body_timeout_s"),
        );
        check(
            |section| section.send_stall_timeout_s = 0,
            Some("limits.send_stall_timeout_s"),
        );
        check(|section| section.send_rate_min = u64::MAX, None);
        check(|section| section.work_count_max = 0, Some("limits.work_count_max"));
        check(
            |section| section.answer_count_max = usize::MAX,
            Some("limits.answer_count_max"),
        );
        check(|section| section.delay_ms_max = 60_001, Some("limits.delay_ms_max"));
    }
}
