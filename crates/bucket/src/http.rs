//! Requests by HTTP that are sent once: whoever calls tries again.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, LAST_MODIFIED};
use reqwest::{Certificate, Client, Response, StatusCode};
pub(crate) use reqwest::{Method, header};
use tokio::time::timeout;

use crate::error::{Kind, chain, kind_of_connection};
use crate::store::Entry;
use crate::trusted;
use crate::whole_range::{RangeProblem, cut};

/// How long a connection may take to come about.
pub(crate) const CONNECT: Duration = Duration::from_secs(15);

/// How long no byte may move while content does.
pub(crate) const STALLED: Duration = Duration::from_secs(60);

/// What went wrong, before it is known with what.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

impl Trouble {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// What broke on the way. The address is left out: the error names the store.
    pub(crate) fn of_request(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let kind = if error.is_builder() { Kind::Invalid } else { kind_of_connection(&error) };
        Self::new(kind, chain(&error))
    }
}

impl From<RangeProblem> for Trouble {
    fn from(problem: RangeProblem) -> Self {
        Self::new(problem.kind, problem.reason)
    }
}

/// A client that trusts the system's certificates and those of a file.
pub(crate) fn client(ca: Option<&Path>) -> Result<Client, String> {
    // An answer that leads elsewhere would take the password with it.
    let trusted = trusted::certificates(ca)?;
    let trusted: Result<Vec<Certificate>, _> =
        trusted.iter().map(|certificate| Certificate::from_der(certificate)).collect();
    Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tls_certs_only(trusted.map_err(|error| chain(&error))?)
        .build()
        .map_err(|error| chain(&error))
}

/// An answer that says yes, or what it says instead.
pub(crate) fn answer(sent: reqwest::Result<Response>) -> Result<Response, Trouble> {
    let response = sent.map_err(Trouble::of_request)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let kind = match Kind::of_status(status.as_u16()) {
        // None of the protocols has such an answer: it is not one of their servers.
        Kind::Invalid if status.is_redirection() => {
            return Err(Trouble::new(
                Kind::Invalid,
                format!("the answer is {status}: the server is somewhere else"),
            ));
        }
        kind => kind,
    };
    Err(Trouble::new(kind, format!("the answer is {status}")))
}

/// The whole content of an answer, as long as it keeps coming; at most so many bytes.
pub(crate) async fn content(mut response: Response, longest: usize) -> Result<Bytes, Trouble> {
    let promised = response.content_length();
    let mut whole = BytesMut::new();
    loop {
        let Ok(chunk) = timeout(STALLED, response.chunk()).await else {
            return Err(Trouble::new(Kind::Unreachable, "the content stopped coming"));
        };
        let chunk = chunk.map_err(|error| {
            let trouble = Trouble::of_request(error);
            Trouble::new(trouble.kind, format!("the content was cut short: {}", trouble.reason))
        })?;
        let Some(chunk) = chunk else { break };
        whole.extend_from_slice(&chunk);
        if whole.len() > longest {
            return Err(Trouble::new(Kind::Failing, "the answer has no end"));
        }
    }
    if promised.is_some_and(|promised| promised != whole.len() as u64) {
        return Err(Trouble::new(Kind::Unreachable, "the content was cut short"));
    }
    Ok(whole.freeze())
}

/// What asks for a range that is not empty.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// The object that an answer holds, or this range of it, whichever of them came.
pub(crate) async fn object(
    response: Response,
    range: Option<Range<u64>>,
) -> Result<Bytes, Trouble> {
    let partial = response.status() == StatusCode::PARTIAL_CONTENT;
    let total = total_of(response.headers());
    let content = content(response, usize::MAX).await?;
    let Some(range) = range else { return Ok(content) };
    let start = if partial { range.start } else { 0 };
    let total = total.unwrap_or(start + content.len() as u64);
    Ok(cut(content, &range, total, start)?)
}

/// How long the whole object is of which a part came.
fn total_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit('/').next()?.parse().ok()
}

/// An object, as the headers of an answer without content describe it.
pub(crate) fn entry(key: &str, headers: &HeaderMap) -> Result<Entry, Trouble> {
    let size = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .ok_or_else(|| Trouble::new(Kind::Failing, "the answer has no length"))?;
    let modified = headers.get(LAST_MODIFIED).and_then(|time| {
        let time = jiff::fmt::rfc2822::parse(time.to_str().ok()?).ok()?;
        Some(time.timestamp())
    });
    Ok(Entry { key: key.to_owned(), size, modified })
}
