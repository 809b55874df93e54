//! `/metrics`: who may read it, and over what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Request, StatusCode};
use jiff::Timestamp;
use kube::Client;

use crate::certificate::{Certificate, Files};
use crate::metrics::{self, Metrics};
use crate::review::{Authority, Reviews, Verdict};
use crate::serve::{Answer, listen, serve, text};

/// How long the API server may take to say who somebody is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How metrics are served.
#[derive(Debug, Clone)]
pub(crate) struct ScrapeOptions {
    /// Host and port.
    pub(crate) address: String,
    /// Over TLS.
    pub(crate) secure: bool,
    /// Only to those who may get `/metrics`. Not without TLS: tokens do not travel in the open.
    pub(crate) require_rbac: bool,
    /// The certificate; `None`: one is made.
    pub(crate) certificate: Option<Files>,
}

/// Serves metrics for as long as the process lives. Fails at once if it cannot.
pub(crate) async fn start(
    options: ScrapeOptions,
    client: Client,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let ScrapeOptions { address, secure, require_rbac, certificate } = options;
    let listener = listen(&address).await;
    let listener = listener.with_context(|| format!("cannot serve metrics on {address}"))?;
    let tls = match secure {
        true => Some(Arc::new(Certificate::new(certificate).await?)),
        false => None,
    };
    let reviews = (secure && require_rbac).then(|| Arc::new(Reviews::new(client)));
    if reviews.is_none() {
        tracing::warn!(%address, "anybody who reaches this address can read metrics");
    }
    let address = listener.local_addr().map_or(address, |bound| bound.to_string());
    tracing::info!(%address, secure, "serving metrics");
    tokio::spawn(serve(listener, tls, move |request| {
        let (reviews, metrics) = (reviews.clone(), metrics.clone());
        async move { answer(request, reviews.as_deref(), &metrics).await }
    }));
    Ok(())
}

async fn answer<A: Authority, B>(
    request: Request<B>,
    reviews: Option<&Reviews<A>>,
    metrics: &Metrics,
) -> Answer {
    let (head, _) = request.into_parts();
    if let Some(refusal) = refuse(&head.method, head.uri.path()) {
        return refusal;
    }
    if let Some(reviews) = reviews
        && let Some(denial) = deny(reviews, &head.headers).await
    {
        return denial;
    }
    scrape(metrics, Timestamp::now())
}

/// The answer to a request for something else.
fn refuse(method: &Method, path: &str) -> Option<Answer> {
    if path != "/metrics" {
        return Some(text(StatusCode::NOT_FOUND, "/metrics is served here\n"));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    (!reads).then(|| text(StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read\n"))
}

/// The answer to somebody who may not read metrics.
async fn deny<A: Authority>(reviews: &Reviews<A>, headers: &HeaderMap) -> Option<Answer> {
    let Some(token) = bearer(headers) else {
        return Some(unauthorized("metrics need a bearer token\n"));
    };
    match tokio::time::timeout(PATIENCE, reviews.verdict(token, Instant::now())).await {
        Ok(Ok(Verdict::Permitted)) => None,
        Ok(Ok(Verdict::Unknown)) => Some(unauthorized("this cluster does not know the token\n")),
        Ok(Ok(Verdict::Forbidden)) => Some(text(
            StatusCode::FORBIDDEN,
            "this user may not get /metrics; bind it to a ClusterRole with that nonResourceURL\n",
        )),
        Ok(Err(error)) => {
            tracing::warn!("cannot tell who may read metrics: {error}");
            Some(text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the API server could not be asked about the token; see the operator's log\n",
            ))
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            tracing::warn!("cannot tell who may read metrics: no answer within {seconds} s");
            Some(text(
                StatusCode::GATEWAY_TIMEOUT,
                "the API server did not answer about the token in time\n",
            ))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn unauthorized(why: &'static str) -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, why);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn scrape(metrics: &Metrics, now: Timestamp) -> Answer {
    match metrics.text(now) {
        Ok(body) => {
            let mut answer = text(StatusCode::OK, body);
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Err(error) => {
            tracing::error!(%error, "cannot write metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n")
        }
    }
}

#[cfg(test)]
mod tests;
