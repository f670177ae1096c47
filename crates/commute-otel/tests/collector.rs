//! Metrics at a collector, and what happens when there is none.

mod kit;

use std::collections::BTreeMap;

use commute::metrics::{ALL, Kind};
use commute_otel::Otel;
use kit::{Collector, app, ping, text};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message as _;
use tokio::net::TcpListener;
use tracing_subscriber::prelude::*;

#[tokio::test]
async fn a_collector_gets_every_metric_of_the_table_with_exact_values_when_the_app_has_ended() {
    let collector = Collector::default();
    let otel = Otel::to(&collector.serve().await, "the-service").unwrap();
    let app = app(&otel).await;
    otel.watch(app.monitor());
    ping(&app).await;
    app.stop().await.unwrap();
    otel.shutdown().await;
    let last = collector.bodies("/v1/metrics").pop().expect("one at the end");
    let mut request = ExportMetricsServiceRequest::decode(last).unwrap();
    let sent = request.resource_metrics.remove(0);
    assert_eq!(text(&sent.resource.unwrap().attributes, "service.name"), "the-service");
    let sent: BTreeMap<_, _> =
        sent.scope_metrics.into_iter().flat_map(|of| of.metrics).map(|of| (of.name.clone(), of)).collect();
    assert_eq!(sent.len(), ALL.len());
    for metric in ALL {
        let kind = match sent[metric.name].data {
            Some(Data::Sum(ref sum)) if sum.is_monotonic => Kind::Counter,
            Some(Data::Gauge(_)) => Kind::Gauge,
            Some(Data::Histogram(_)) => Kind::Histogram,
            ref other => panic!("{other:?}"),
        };
        assert_eq!((kind, metric.unit), (metric.kind, sent[metric.name].unit.as_str()), "{}", metric.name);
    }
    let Some(Data::Sum(handled)) = &sent["commute.events.handled"].data else { panic!("a sum") };
    let handled: BTreeMap<_, _> = handled
        .data_points
        .iter()
        .map(|point| (text(&point.attributes, "messaging.destination.name"), point.value))
        .collect();
    assert_eq!(handled["pings"], Some(Number::AsInt(1)));
    assert_eq!(handled["pongs"], Some(Number::AsInt(1)));
    let Some(Data::Histogram(process)) = &sent["messaging.process.duration"].data else { panic!("a histogram") };
    let of_pings = |attributes: &[KeyValue]| text(attributes, "messaging.destination.name") == "pings";
    let process = process.data_points.iter().find(|point| of_pings(&point.attributes)).unwrap();
    assert_eq!((process.count, process.bucket_counts.iter().sum()), (2, 2));
    assert_eq!(process.bucket_counts.len(), process.explicit_bounds.len() + 1);
}

#[tokio::test]
async fn an_app_goes_on_when_there_is_no_collector() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let otel = Otel::to(&format!("http://{nobody}"), "the-service").unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(otel.layer()));
    let app = app(&otel).await;
    otel.watch(app.monitor());
    ping(&app).await;
    assert_eq!(app.stats().handled(), 2);
    app.stop().await.unwrap();
    otel.shutdown().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_spoken_to_is_refused_with_what_to_do() {
    let error = Otel::to("https://collector:4318", "the-service").unwrap_err();
    assert!(error.detail().contains("http://"), "{error}");
}
