//! Answers: a path becomes what there is to say of the app.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::render;
use crate::monitor::{Health, Left, Monitor};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const PATHS: &str = "/metrics\n/live\n/ready\n/drain\n/contract\n/stats\n";

/// What is sent.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

/// Answers a request; without an app while it is starting.
pub(super) fn answer(request: &Request<Incoming>, app: Option<&Monitor>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    let Answer { status, kind, body } = to(request.uri().path(), app);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.status_mut() = status;
    *response.body_mut() = Full::from(body);
    response
}

fn to(path: &str, app: Option<&Monitor>) -> Answer {
    let health = app.map_or(Health::Starting, Monitor::health);
    match (path, app) {
        ("/", _) => Answer { status: StatusCode::OK, kind: TEXT, body: PATHS.to_owned() },
        ("/live", _) => state(health, health != Health::Failed),
        ("/ready", _) => state(health, health == Health::Ready),
        ("/metrics", None) => Answer { status: StatusCode::OK, kind: render::CONTENT_TYPE, body: render::nothing() },
        ("/metrics", Some(app)) => match render::metrics(&app.stats()) {
            Ok(body) => Answer { status: StatusCode::OK, kind: render::CONTENT_TYPE, body },
            Err(_) => Answer { status: StatusCode::INTERNAL_SERVER_ERROR, kind: TEXT, body: String::new() },
        },
        ("/drain" | "/contract" | "/stats", None) => state(health, false),
        ("/drain", Some(app)) => {
            let is_draining = health == Health::Draining;
            let Left { unhandled, staged } = app.left();
            serialized(&json!({"health": health, "draining": is_draining, "unhandled": unhandled, "staged": staged}))
        }
        ("/contract", Some(app)) => serialized(app.contract()),
        ("/stats", Some(app)) => serialized(&app.stats()),
        _ => Answer { status: StatusCode::NOT_FOUND, kind: TEXT, body: PATHS.to_owned() },
    }
}

fn state(health: Health, good: bool) -> Answer {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer { status, ..serialized(&json!({ "health": health })) }
}

fn serialized<T: Serialize>(what: &T) -> Answer {
    match serde_json::to_string(what) {
        Ok(body) => Answer { status: StatusCode::OK, kind: JSON, body },
        Err(error) => Answer { status: StatusCode::INTERNAL_SERVER_ERROR, kind: TEXT, body: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_is_starting_is_alive_and_not_ready() {
        assert_eq!(to("/live", None).status, StatusCode::OK);
        for path in ["/ready", "/drain", "/contract", "/stats"] {
            let Answer { status, body, .. } = to(path, None);
            assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, r#"{"health":"starting"}"#));
        }
        assert_eq!(to("/metrics", None).body, "# EOF\n");
    }
}
