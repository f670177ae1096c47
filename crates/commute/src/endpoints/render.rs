//! Rendering: a snapshot of the statistics as OpenMetrics text, which Prometheus reads.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{self, Kind, Value, prometheus};
use crate::stats::Stats;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of the table that has a sample.
pub(super) fn metrics(stats: &Stats) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(stats.clone())));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A valid text without metrics.
pub(super) fn nothing() -> String {
    "# EOF\n".to_owned()
}

#[derive(Debug)]
struct Snapshot(Stats);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in metrics::ALL {
            let name = prometheus(metric.name);
            let unit = (metric.unit == "s").then_some(Unit::Seconds);
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(&name, metric.help, unit.as_ref(), kind)?;
            for sample in metric.samples(&self.0) {
                let labels: Vec<_> =
                    sample.labels.into_iter().map(|(label, value)| (prometheus(label), value)).collect();
                let labels = labels.as_slice();
                write(family.encode_family(&labels)?, metric.kind, &sample.value)?;
            }
        }
        Ok(())
    }
}

fn write(mut encoder: MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (value, kind) {
        (Value::Count(count), Kind::Counter) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        (Value::Number(number), Kind::Counter) => encoder.encode_counter::<NoLabelSet, _, f64>(number, None),
        (Value::Count(count), _) => encoder.encode_gauge(count),
        (Value::Number(number), _) => encoder.encode_gauge(number),
        (Value::Distribution(all), _) => {
            let mut buckets = all.buckets.clone();
            let below: u64 = buckets.iter().map(|(_, count)| count).sum();
            buckets.push((f64::INFINITY, all.count.saturating_sub(below)));
            encoder.encode_histogram::<NoLabelSet>(all.sum.as_secs_f64(), all.count, &buckets, None)
        }
    }
}
