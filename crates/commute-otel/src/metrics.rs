//! Metrics: a snapshot of an app's statistics as an OTLP request, metric by metric of the one table.
//!
//! Written directly and not through instruments of the SDK: the app counts already, and the SDK has no histogram that is
//! read from elsewhere.

use std::time::{Duration, SystemTime};

use commute::metrics::{ALL, Kind, Metric, Sample, Value};
use commute::{Distribution, Stats};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric as Sent, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::SCOPE;

/// The time since 1970 in nanoseconds, as OTLP wants it.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The encoded request.
pub(crate) fn request(stats: &Stats, service: &str, begun: u64, now: u64) -> Vec<u8> {
    let metrics = ALL.iter().map(|metric| sent(metric, metric.samples(stats), begun, now)).collect();
    let scope = InstrumentationScope { name: SCOPE.to_owned(), ..InstrumentationScope::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn sent(metric: &Metric, samples: Vec<Sample>, begun: u64, now: u64) -> Sent {
    let cumulative = AggregationTemporality::Cumulative.into();
    let samples = samples.into_iter();
    let data = match metric.kind {
        Kind::Counter => {
            let data_points = samples.map(|sample| number(sample, begun, now)).collect();
            Data::Sum(Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true })
        }
        Kind::Gauge => Data::Gauge(Gauge { data_points: samples.map(|sample| number(sample, 0, now)).collect() }),
        Kind::Histogram => {
            let data_points = samples.filter_map(|sample| histogram(sample, begun, now)).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality: cumulative })
        }
    };
    Sent {
        name: metric.name.to_owned(),
        description: metric.help.to_owned(),
        unit: metric.unit.to_owned(),
        data: Some(data),
        ..Sent::default()
    }
}

fn number(sample: Sample, begun: u64, now: u64) -> NumberDataPoint {
    let value = match sample.value {
        Value::Count(count) => Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
        Value::Number(number) => Number::AsDouble(number),
        // A distribution is of a histogram, which does not come here; its sum is the next best.
        Value::Distribution(all) => Number::AsDouble(all.sum.as_secs_f64()),
    };
    NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: begun,
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn histogram(sample: Sample, begun: u64, now: u64) -> Option<HistogramDataPoint> {
    let Value::Distribution(Distribution { count, sum, buckets }) = sample.value else { return None };
    let (explicit_bounds, mut bucket_counts): (Vec<_>, Vec<_>) = buckets.into_iter().unzip();
    bucket_counts.push(count.saturating_sub(bucket_counts.iter().sum()));
    Some(HistogramDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: begun,
        time_unix_nano: now,
        count,
        sum: Some(sum.as_secs_f64()),
        bucket_counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    })
}

fn attributes(labels: Vec<(&'static str, String)>) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn attribute(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() }
}
