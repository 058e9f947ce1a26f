//! Every metric of the origin, named once. What each request touches is counted by its thread alone and summed when
//! somebody looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::paging::{Fill, Gate, Probe};
use crate::pulse::Ended;

/// Labels of what is asked for.
const RESOURCES: [&str; 13] = [
    "segment",
    "media_playlist",
    "init",
    "multivariant",
    "mpd",
    "health",
    "page",
    "player_file",
    "metrics",
    "image",
    "key",
    "license",
    "refused",
];

/// A number that one thread changes and others read: no locked instruction, no shared cache line.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `amount`. Only for the thread that owns the tally.
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one serving thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    requests_ok: [Tally; RESOURCES.len()],
    /// Connections accepted.
    pub accepted: Tally,
    /// Connections ended.
    pub closed: Tally,
    /// Of these, with TLS.
    pub tls: Tally,
    /// Of these, sealed by the kernel.
    pub tls_kernel: Tally,
    /// TLS handshakes that failed.
    pub tls_failed: Tally,
    /// Connections of clients that had enough already.
    pub turned_away: Tally,
    /// Requests refused because too much was going on.
    pub refused: Tally,
    /// Answers that ended before their last byte, because media could not be read or made.
    pub cut_short: Tally,
    ended: [Tally; Ended::ALL.len()],
    /// Bytes of answers begun.
    pub answer_bytes: Tally,
    /// Bytes sent from memory.
    pub sent_memory_bytes: Tally,
    /// Bytes that went from file to socket inside the kernel.
    pub sent_file_bytes: Tally,
    /// Bytes of file slices that had to be copied: the file system has no `sendfile`.
    pub sent_copied_bytes: Tally,
    /// Bytes of media read into memory without waiting.
    pub read_bytes: Tally,
    /// Bytes of media read into memory by the blocking pool.
    pub read_waiting_bytes: Tally,
    /// Bytes of file slices that were not in the page cache.
    pub cold_bytes: Tally,
    /// Bytes that were let go of because their client did not read, to be had again.
    pub put_down_bytes: Tally,
}

/// Counters and gauges of one origin.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    sent: IntCounterVec,
    read: IntCounterVec,
    cold: IntCounter,
    answers: IntCounter,
    connections: IntGauge,
    accepted: IntCounterVec,
    ended: IntCounterVec,
    refused: IntCounter,
    cut_short: IntCounter,
    put_down: IntCounter,
    index_memory: IntGauge,
    opened: IntGauge,
    built_memory: IntGauge,
    paths: IntGaugeVec,
    threads: Mutex<Vec<Arc<Counters>>>,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let requests = counters(
            "headwater_origin_requests_total",
            "Requests by resource and outcome",
            &["resource", "outcome"],
        )?;
        let sent = counters(
            "headwater_origin_sent_bytes_total",
            "Bytes given to sockets: by sendfile, from memory, or copied where a file system has no sendfile",
            &["path"],
        )?;
        let read = counters(
            "headwater_origin_read_bytes_total",
            "Media bytes read into memory: at once from the page cache, or by a thread that may wait",
            &["path"],
        )?;
        let cold = counter(
            "headwater_origin_cold_bytes_total",
            "Bytes for sendfile that were not in the page cache when they were wanted",
        )?;
        let answers = counter(
            "headwater_origin_answer_bytes_total",
            "Bytes of all answers begun since start",
        )?;
        let connections = gauge("headwater_origin_connections", "Open client connections")?;
        let accepted = counters(
            "headwater_origin_accepted_connections_total",
            "Connections accepted: plain or with TLS; of these sealed by the kernel, or with a failed handshake; and closed at once for the client's limit",
            &["kind"],
        )?;
        let ended = counters(
            "headwater_origin_ended_connections_total",
            "Connections ended because the client took too long or gave up too much",
            &["reason"],
        )?;
        let refused = counter(
            "headwater_origin_overload_refusals_total",
            "Requests answered 503 because a thread had too much to do",
        )?;
        let put_down = counter(
            "headwater_origin_put_down_bytes_total",
            "Bytes read or made for clients that then did not read, let go and had again when they did.",
        )?;
        let cut_short = counter(
            "headwater_origin_cut_short_answers_total",
            "Answers that ended before their last byte because media could not be read or made",
        )?;
        let index_memory = gauge("headwater_origin_index_memory_bytes", "Memory of opened presentations")?;
        let opened = gauge("headwater_origin_opened_presentations", "Opened presentations")?;
        let built_memory = gauge(
            "headwater_origin_built_memory_bytes",
            "Memory of segments that are being built and sent",
        )?;
        let paths = IntGaugeVec::new(
            Opts::new("headwater_origin_io_path", "1 for the way that was chosen for each job"),
            &["job", "path"],
        )?;
        registry.register(Box::new(paths.clone()))?;
        Ok(Metrics {
            registry,
            requests,
            sent,
            read,
            cold,
            answers,
            connections,
            accepted,
            ended,
            refused,
            cut_short,
            put_down,
            index_memory,
            opened,
            built_memory,
            paths,
            threads: Mutex::default(),
        })
    }

    /// Counters for one more serving thread.
    pub fn thread(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(counters.clone());
        counters
    }

    /// Counts one request that failed.
    pub fn count_failure(&self, resource: &'static str, outcome: &'static str) {
        self.requests.with_label_values(&[resource, outcome]).inc();
    }

    /// Says how files are sent, how the page cache is asked, how cold ranges are read, and whether the kernel seals TLS, where
    /// that is spoken.
    pub fn set_paths(&self, sendfile: bool, gate: &Gate, sealed_by_kernel: Option<bool>) {
        self.paths.reset();
        let send = if sendfile { "sendfile" } else { "read" };
        self.paths.with_label_values(&["send", send]).set(1);
        self.paths
            .with_label_values(&["residency", probe_name(gate.probe())])
            .set(1);
        self.paths
            .with_label_values(&["fill", fill_name(gate.fill_by())])
            .set(1);
        if let Some(by_kernel) = sealed_by_kernel {
            let seal = if by_kernel { "kernel" } else { "process" };
            self.paths.with_label_values(&["seal", seal]).set(1);
        }
    }

    /// The Prometheus text form, with the store's usage as of now.
    pub fn render(&self, (index_memory, opened): (u64, u64)) -> Result<Vec<u8>, prometheus::Error> {
        {
            // Held to the end: two at once would add the same difference twice.
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = |of: fn(&Counters) -> &Tally| threads.iter().map(|thread| of(thread).get()).sum::<u64>();
            let raise = |counter: &IntCounter, total: u64| counter.inc_by(total.saturating_sub(counter.get()));
            for (index, resource) in RESOURCES.iter().enumerate() {
                let tallies = threads.iter().filter_map(|thread| thread.requests_ok.get(index));
                let total = tallies.map(Tally::get).sum();
                if total > 0 {
                    raise(&self.requests.with_label_values(&[resource, "ok"]), total);
                }
            }
            type Of = fn(&Counters) -> &Tally;
            let labelled: [(&IntCounterVec, &str, Of); 5] = [
                (&self.sent, "sendfile", |counters| &counters.sent_file_bytes),
                (&self.sent, "memory", |counters| &counters.sent_memory_bytes),
                (&self.sent, "copy", |counters| &counters.sent_copied_bytes),
                (&self.read, "cached", |counters| &counters.read_bytes),
                (&self.read, "waiting", |counters| &counters.read_waiting_bytes),
            ];
            for (counters, path, of) in labelled {
                raise(&counters.with_label_values(&[path]), sum(of));
            }
            let kinds = [
                (
                    "plain",
                    sum(|counters| &counters.accepted).saturating_sub(sum(|counters| &counters.tls)),
                ),
                ("tls", sum(|counters| &counters.tls)),
                ("tls_kernel", sum(|counters| &counters.tls_kernel)),
                ("tls_failed", sum(|counters| &counters.tls_failed)),
                ("turned_away", sum(|counters| &counters.turned_away)),
            ];
            for (kind, total) in kinds {
                raise(&self.accepted.with_label_values(&[kind]), total);
            }
            for (index, reason) in Ended::ALL.iter().enumerate() {
                let tallies = threads.iter().filter_map(|thread| thread.ended.get(index));
                raise(
                    &self.ended.with_label_values(&[reason.name()]),
                    tallies.map(Tally::get).sum(),
                );
            }
            raise(&self.refused, sum(|counters| &counters.refused));
            raise(&self.cut_short, sum(|counters| &counters.cut_short));
            raise(&self.put_down, sum(|counters| &counters.put_down_bytes));
            raise(&self.cold, sum(|counters| &counters.cold_bytes));
            raise(&self.answers, sum(|counters| &counters.answer_bytes));
            let open = sum(|counters| &counters.accepted).saturating_sub(sum(|counters| &counters.closed));
            self.connections.set(open as i64);
        }
        self.index_memory.set(index_memory as i64);
        self.opened.set(opened as i64);
        self.built_memory.set(crate::pool::in_use_bytes() as i64);
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl Counters {
    /// Counts and logs an answer that ends before its last byte; `error` says why.
    pub fn note_cut_short(&self, error: &std::io::Error) {
        self.cut_short.add(1);
        tracing::error!(%error, "an answer was cut short");
    }

    /// The same where `error` came from sending, unless the client is gone.
    pub fn note_failed_send(&self, error: &std::io::Error) {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            self.note_cut_short(error);
        }
    }

    /// Counts a connection that was ended.
    pub fn count_ended(&self, why: Ended) {
        let index = Ended::ALL.iter().position(|known| *known == why);
        if let Some(tally) = index.and_then(|index| self.ended.get(index)) {
            tally.add(1);
        }
    }

    /// Counts one request that was answered.
    pub fn count_ok(&self, resource: &'static str) {
        let index = RESOURCES.iter().position(|known| *known == resource);
        if let Some(tally) = index.and_then(|index| self.requests_ok.get(index)) {
            tally.add(1);
        }
    }
}

/// As it stands in metrics and logs.
pub fn probe_name(probe: Probe) -> &'static str {
    match probe {
        Probe::Cachestat => "cachestat",
        Probe::Nowait => "nowait",
        Probe::Never => "never",
    }
}

/// As it stands in metrics and logs.
pub fn fill_name(fill: Fill) -> &'static str {
    match fill {
        Fill::Uring => "uring",
        Fill::Pool => "pool",
    }
}
