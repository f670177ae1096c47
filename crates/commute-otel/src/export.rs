//! Export: one HTTP client for spans and metrics, which works from threads without a runtime, too.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError, Request, Response, ResponseExt};
use tokio::runtime::Handle;

/// How long one request may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends on the runtime in which it was made: the span processor has a thread of its own and no runtime there.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    runtime: Handle,
    http: HyperClient,
}

impl Client {
    pub(crate) fn new() -> Result<Self, tokio::runtime::TryCurrentError> {
        Ok(Client { runtime: Handle::try_current()?, http: HyperClient::with_default_connector(TIMEOUT, None) })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) async fn post(&self, url: &str, body: Vec<u8>) -> Result<(), HttpError> {
        let request = Request::post(url).header("content-type", "application/x-protobuf").body(Bytes::from(body))?;
        self.http.send_bytes(request).await?.error_for_status()?;
        Ok(())
    }
}

// The trait is made with `async_trait`; this is what that writes.
impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { http.send_bytes(request).await });
        Box::pin(async move { sent.await? })
    }
}
