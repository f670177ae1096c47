//! The pages about metrics say what the table says. COMMUTE_WRITE=1 writes the list in the guide anew; the dashboard may name
//! only metrics and labels that exist.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use commute::metrics::{ALL, Kind, Metric, prometheus};
use serde_json::Value;

const BEGIN: &str = "<!-- from here to the end: made by crates/commute/tests/metrics_page.rs -->";

fn guide(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(file)
}

fn table() -> String {
    let mut text =
        "| Prometheus | OpenTelemetry | Kind | Unit | What it says | Labels |\n|---|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels: Vec<_> = metric.labels().into_iter().map(|label| format!("`{}`", prometheus(label))).collect();
        let Metric { name, unit, help, .. } = metric;
        let spelled = metric.prometheus_name();
        let _ = writeln!(text, "| `{spelled}` | `{name}` | {kind} | `{unit}` | {help} | {} |", labels.join(", "));
    }
    text
}

#[test]
fn the_list_in_the_guide_is_the_table() {
    let file = guide("metrics.md");
    let page = fs::read_to_string(&file).expect("the page");
    let (head, shown) = page.split_once(BEGIN).expect("the place of the list");
    let made = format!("\n\n{}", table());
    if std::env::var_os("COMMUTE_WRITE").is_some() {
        fs::write(&file, format!("{head}{BEGIN}{made}")).expect("written");
    } else {
        assert_eq!(shown, made, "run it with COMMUTE_WRITE=1");
    }
}

#[test]
fn the_dashboard_names_only_metrics_and_labels_that_exist_and_leaves_none_out() {
    let text = fs::read_to_string(guide("grafana/commute.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut shown = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let expr = target["expr"].as_str().expect("an expression");
            let found = check(expr).unwrap_or_else(|wrong| panic!("{}: {wrong} in {expr}", panel["title"]));
            // What the legend shows must be there after the aggregation.
            let legend = target["legendFormat"].as_str().expect("a legend");
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(
                    expr.contains(&format!("{label})")) || expr.contains(&format!("{label},")),
                    "{label} in {expr}"
                );
            }
            shown.extend(found);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect(query);
        let (of, label) = inner.rsplit_once(", ").expect(query);
        check(&format!("sum by ({label}) ({of})")).unwrap_or_else(|wrong| panic!("{wrong} in {query}"));
    }
    let left_out: Vec<_> = ALL.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(left_out.is_empty(), "no panel shows {left_out:?}");
}

#[test]
fn a_wrong_name_or_label_is_found() {
    assert!(check("sum by (commute_app) (rate(commute_app_ready{commute_app=~\"$app\"}[5m]))").is_ok());
    for (expr, what) in [
        ("rate(commute_gone_total[5m])", "commute_gone_total"),
        ("commute_app_ready{job=\"x\"}", "job"),
        ("sum by (queue) (commute_app_ready)", "queue"),
        ("sum by (messaging_system) (commute_app_ready)", "messaging_system"),
        ("commute_app_ready_bucket", "commute_app_ready_bucket"),
        ("commute_event_latency_seconds", "commute_event_latency_seconds"),
        ("sum by (le) (commute_event_latency_seconds_sum)", "le"),
    ] {
        assert!(check(expr).expect_err(expr).contains(what), "{expr}");
    }
}

/// The metrics that an expression reads; or what it names that is not there. Knows as much of PromQL as the dashboard uses.
fn check(expr: &str) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    let mut labels = Vec::new();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        let name: &str = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())];
        if name.is_empty() {
            let skipped = match first {
                '[' => rest.find(']').ok_or("no ]")? + 1,
                first => first.len_utf8(),
            };
            rest = &rest[skipped..];
            continue;
        }
        rest = rest[name.len()..].trim_start();
        if name.parse::<f64>().is_ok() {
            // "0.5" comes as two numbers.
        } else if name == "by" {
            let (inside, after) =
                rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or("by without labels")?;
            labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if !rest.starts_with('(') && !["sum", "max"].contains(&name) {
            let (metric, its) = metric(name).ok_or_else(|| format!("no metric {name}"))?;
            let mut used = std::mem::take(&mut labels);
            if let Some(matchers) = rest.strip_prefix('{') {
                let (inside, after) = matchers.split_once('}').ok_or("no }")?;
                used.extend(
                    inside
                        .split("\",")
                        .filter_map(|matcher| matcher.split(['=', '!']).next())
                        .map(|l| l.trim().to_owned()),
                );
                rest = after;
            }
            if let Some(unknown) = used.iter().find(|label| !its.contains(label)) {
                return Err(format!("{name} has no label {unknown}"));
            }
            found.push(metric.name);
        }
    }
    if found.is_empty() { Err("no metric".to_owned()) } else { Ok(found) }
}

/// A metric by the name of one of its series, with the labels of that.
fn metric(series: &str) -> Option<(&'static Metric, Vec<String>)> {
    ALL.iter().find_map(|metric| {
        let name = metric.prometheus_name();
        let suffix = series.strip_prefix(&name)?;
        let fits = match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&suffix),
            Kind::Counter | Kind::Gauge => suffix.is_empty(),
        };
        let mut labels: Vec<_> = metric.labels().into_iter().map(prometheus).collect();
        labels.extend((suffix == "_bucket").then(|| "le".to_owned()));
        fits.then_some((metric, labels))
    })
}
