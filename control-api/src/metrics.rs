//! Metrics of the control plane, named once. By operation and outcome, never by user.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    slots: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "headwater_control_requests_total",
                "Answered requests by operation and outcome (error code or ok)",
            ),
            &["operation", "outcome"],
        )?;
        let buckets = vec![
            0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
        ];
        let seconds = HistogramVec::new(
            HistogramOpts::new("headwater_control_request_seconds", "Time to answer by operation").buckets(buckets),
            &["operation"],
        )?;
        let slots = IntCounterVec::new(
            Opts::new(
                "headwater_control_streams_total",
                "Stream starts by outcome (started, full, stale)",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(slots.clone()))?;
        Ok(Metrics {
            registry,
            requests,
            seconds,
            slots,
        })
    }

    /// Counts an answered request.
    pub fn answered(&self, operation: &str, outcome: &str, seconds: f64) {
        self.requests.with_label_values(&[operation, outcome]).inc();
        self.seconds.with_label_values(&[operation]).observe(seconds);
    }

    /// Counts a stream start.
    pub fn slot(&self, outcome: &str) {
        self.slots.with_label_values(&[outcome]).inc();
    }

    /// All of them as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
