//! Families of metrics, taken at one moment, in the hands of the library that knows OpenMetrics.

use std::ops::RangeInclusive;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::stats::Histogram;

const PREFIX: &str = "aiproxy";

/// Names and values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Vec<(&'static str, String)>);

pub fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    Labels::default().with(labels)
}

impl Labels {
    #[must_use]
    pub fn with<const N: usize>(&self, labels: [(&'static str, &str); N]) -> Self {
        let more = labels.map(|(name, value)| (name, value.to_owned()));
        Self(self.0.iter().cloned().chain(more).collect())
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }
}

/// What is to be shown.
#[derive(Debug, Default)]
pub struct Exposition(Vec<Family>);

type Samples<T> = Vec<(Labels, T)>;

#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    unit: Option<Unit>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counter(Samples<f64>),
    Gauge(Samples<f64>),
    Info(Labels),
    Histogram(Samples<Bucketed>),
}

/// A histogram in a scraper's buckets: their ends in seconds, and how many are in each alone.
#[derive(Debug)]
struct Bucketed {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Exposition {
    fn add(&mut self, name: String, help: &str, unit: Option<Unit>, values: Values) {
        self.0.push(Family { name, help: help.to_owned(), unit, values });
    }

    pub fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, samples: Samples<f64>) {
        self.add(format!("{PREFIX}_{name}"), help, unit, Values::Counter(samples));
    }

    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, samples: Samples<f64>) {
        self.add(format!("{PREFIX}_{name}"), help, unit, Values::Gauge(samples));
    }

    pub fn process_counter(&mut self, name: &str, help: &str, unit: Option<Unit>, samples: Samples<f64>) {
        self.add(format!("process_{name}"), help, unit, Values::Counter(samples));
    }

    pub fn process_gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, samples: Samples<f64>) {
        self.add(format!("process_{name}"), help, unit, Values::Gauge(samples));
    }

    pub fn info(&mut self, name: &str, help: &str, labels: Labels) {
        self.add(format!("{PREFIX}_{name}"), help, None, Values::Info(labels));
    }

    /// Buckets end at powers of two of microseconds, which are steps of the histogram, so that none is split.
    pub fn histogram(&mut self, name: &str, help: &str, powers: RangeInclusive<u32>, samples: Samples<Histogram>) {
        let bucketed = samples.into_iter().map(|(labels, histogram)| {
            let mut before = 0;
            let mut buckets: Vec<(f64, u64)> = powers
                .clone()
                .map(|power| {
                    let below = histogram.below(1 << power);
                    let bucket = (f64::from(1_u32 << power) / 1e6, below - before);
                    before = below;
                    bucket
                })
                .collect();
            buckets.push((f64::INFINITY, histogram.count() - before));
            (labels, Bucketed { sum: histogram.sum().as_secs_f64(), count: histogram.count(), buckets })
        });
        let values = Values::Histogram(bucketed.collect());
        self.add(format!("{PREFIX}_{name}"), help, Some(Unit::Seconds), values);
    }

    /// As OpenMetrics text.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for Family { name, help, unit, values } in &self.0 {
            let kind = match values {
                Values::Counter(_) => MetricType::Counter,
                Values::Gauge(_) => MetricType::Gauge,
                Values::Info(_) => MetricType::Info,
                Values::Histogram(_) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match values {
                Values::Counter(samples) => {
                    for (labels, value) in samples {
                        metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
                    }
                }
                Values::Gauge(samples) => {
                    for (labels, value) in samples {
                        metric.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Values::Info(labels) => metric.encode_info(labels)?,
                Values::Histogram(samples) => {
                    for (labels, Bucketed { sum, count, buckets }) in samples {
                        metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_openmetrics_wants_it() {
        let mut histogram = Histogram::default();
        for micros in [1, 3, 4, 1_000_000] {
            histogram.record(micros);
        }
        let mut exposition = Exposition::default();
        exposition.counter("requests", "Ended", None, vec![(labels([("model", "a\"\\\nb")]), 3.0)]);
        exposition.gauge("latency", "Now", Some(Unit::Seconds), vec![(Labels::default(), 0.5)]);
        exposition.histogram("call", "Calls", 1..=2, vec![(labels([("plugin", "p")]), histogram)]);
        exposition.info("build", "This", labels([("version", "1")]));
        let expected = "\
# HELP aiproxy_requests Ended
# TYPE aiproxy_requests counter
aiproxy_requests_total{model=\"a\\\"\\\\\\nb\"} 3.0
# HELP aiproxy_latency_seconds Now
# TYPE aiproxy_latency_seconds gauge
# UNIT aiproxy_latency_seconds seconds
aiproxy_latency_seconds 0.5
# HELP aiproxy_call_seconds Calls
# TYPE aiproxy_call_seconds histogram
# UNIT aiproxy_call_seconds seconds
aiproxy_call_seconds_sum{plugin=\"p\"} 1.000008
aiproxy_call_seconds_count{plugin=\"p\"} 4
aiproxy_call_seconds_bucket{le=\"0.000002\",plugin=\"p\"} 1
aiproxy_call_seconds_bucket{le=\"0.000004\",plugin=\"p\"} 2
aiproxy_call_seconds_bucket{le=\"+Inf\",plugin=\"p\"} 4
# HELP aiproxy_build This
# TYPE aiproxy_build info
aiproxy_build_info{version=\"1\"} 1
# EOF
";
        assert_eq!(exposition.text(), expected);
    }
}
