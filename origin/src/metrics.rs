//! Every metric of the origin, named once.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus::{Encoder, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Counters and gauges of one origin.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    connections: IntGauge,
    index_memory: IntGauge,
    opened: IntGauge,
    /// Connections now; mirrored into the gauge when scraped.
    pub connection_count: AtomicI64,
    /// Bytes of answers begun.
    pub sent_bytes: AtomicU64,
    sent: IntGauge,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("headwater_origin_requests_total", "Requests by resource and outcome"),
            &["resource", "outcome"],
        )?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let connections = gauge("headwater_origin_connections", "Open client connections")?;
        let index_memory = gauge("headwater_origin_index_memory_bytes", "Memory of opened presentations")?;
        let opened = gauge("headwater_origin_opened_presentations", "Opened presentations")?;
        let sent = gauge(
            "headwater_origin_answer_bytes",
            "Bytes of all answers begun since start",
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Metrics {
            registry,
            requests,
            connections,
            index_memory,
            opened,
            connection_count: AtomicI64::new(0),
            sent_bytes: AtomicU64::new(0),
            sent,
        })
    }

    /// Counts one answered request.
    pub fn count(&self, resource: &'static str, outcome: &'static str) {
        self.requests.with_label_values(&[resource, outcome]).inc();
    }

    /// The Prometheus text form, with the store's usage as of now.
    pub fn render(&self, (index_memory, opened): (u64, u64)) -> Result<Vec<u8>, prometheus::Error> {
        self.connections.set(self.connection_count.load(Ordering::Relaxed));
        self.sent.set(self.sent_bytes.load(Ordering::Relaxed) as i64);
        self.index_memory.set(index_memory as i64);
        self.opened.set(opened as i64);
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}
