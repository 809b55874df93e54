//! `Swift`: OpenStack Object Storage (its API v1), and what speaks it, such as Ceph's gateway.
//!
//! An account has containers, and a container has objects. A token opens the account; it is had elsewhere
//! (`identity`) and does not last.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::error::{Error, Kind, Operation};
use crate::http::{Trouble, answer, client, content, entry, object, range_header};
use crate::key::{below, problem_with_path, relative};
use crate::parts::whole;
use crate::retry::Retries;
use crate::settings::Settings;
use crate::store::{Entry, Listing, Store};
use crate::whole_range::cut;
use identity::{Access, Identity};

mod identity;
mod who;

/// The longest object that is one and not made of segments, in bytes (`max_file_size`, as every Swift has
/// it unless told otherwise).
const LONGEST: u64 = 5 << 30;

/// How many objects are listed at once. A server that allows fewer than are asked for (10 000 is usual)
/// refuses; and a page has to come in time over the slowest connection.
const PAGE: usize = 2000;

/// The longest page that is believed, in bytes.
const LONGEST_PAGE: usize = 64 << 20;

/// What stands in an address for itself.
const IN_ADDRESSES: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A container, or a path in it.
pub(crate) struct Swift {
    /// Its name as it stands in addresses.
    container: String,
    path: String,
    /// The storage policy of a container that is made; the server's own unless given.
    policy: Option<String>,
    identity: Identity,
    access: Mutex<Option<Arc<Access>>>,
    client: Client,
    retries: Retries,
}

/// An object as a server lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    bytes: u64,
    last_modified: Option<String>,
}

impl fmt::Debug for Swift {
    /// Without what opens the account.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swift").field("location", &self.retries.location()).finish_non_exhaustive()
    }
}

impl Swift {
    /// A container of an account, by the names of restic's variables.
    pub(crate) fn new(
        container: &str,
        path: String,
        settings: &Settings,
        ca: Option<&Path>,
        retries: Retries,
    ) -> Result<Self, Error> {
        let invalid = |reason: String| {
            Error::new(Kind::Invalid, Operation::Open, retries.location(), "", reason)
        };
        let identity = Identity::new(settings).map_err(invalid)?;
        let client = client(ca).map_err(invalid)?;
        let policy = settings.get("SWIFT_DEFAULT_CONTAINER_POLICY").map(str::to_owned);
        let (container, access) = (encoded(container), Mutex::new(None));
        Ok(Self { container, path, policy, identity, access, client, retries })
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, self.retries.location(), key, trouble.reason)
    }

    /// What requests are sent with: asked for when there is none, or it is due, or was refused. One asks,
    /// and all others wait for that answer.
    async fn access(&self, refused: Option<&Arc<Access>>) -> Result<Arc<Access>, Trouble> {
        let mut access = self.access.lock().await;
        if let Some(current) = &*access
            && !current.is_due()
            && !refused.is_some_and(|refused| Arc::ptr_eq(refused, current))
        {
            return Ok(Arc::clone(current));
        }
        let new = self.identity.authenticate(&self.client, refused.is_some()).await?;
        let new = Arc::new(new);
        *access = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Sends a request about what is `at` this place in the account, and once more with a new token if the
    /// token is refused: they may end before their time.
    async fn send(
        &self,
        method: Method,
        at: &str,
        ready: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Response, Trouble> {
        let mut refused: Option<Arc<Access>> = None;
        loop {
            let access = self.access(refused.as_ref()).await?;
            let request = self
                .client
                .request(method.clone(), format!("{}/{at}", access.storage))
                .header("X-Auth-Token", access.token.clone());
            let response = ready(request).send().await.map_err(Trouble::of_request)?;
            if response.status() != StatusCode::UNAUTHORIZED || refused.is_some() {
                return Ok(response);
            }
            refused = Some(access);
        }
    }

    async fn ask(&self, method: Method, at: &str) -> Result<Response, Trouble> {
        agreed(self.send(method, at, |request| request).await?)
    }

    /// Where an object is in the account.
    fn object(&self, key: &str) -> Result<String, Trouble> {
        // Addresses with such parts mean others.
        if let Some(problem) = problem_with_path(key) {
            return Err(Trouble::new(Kind::Invalid, problem));
        }
        Ok(format!("{}/{}", self.container, encoded(&below(&self.path, key))))
    }

    /// An answer of 404 may mean the object or the container: only the latter can be asked for.
    async fn not_found(&self, trouble: Trouble) -> Trouble {
        if trouble.kind != Kind::NotFound {
            return trouble;
        }
        match self.ask(Method::HEAD, &self.container).await {
            Ok(_) => trouble,
            Err(missing) if missing.kind == Kind::NotFound => no_container(),
            // Who may use objects may still not look at the container.
            Err(refused) if refused.kind == Kind::Forbidden => trouble,
            Err(other) => other,
        }
    }

    async fn try_create(&self) -> Result<(), Trouble> {
        // Who is not let in hears of it now.
        self.access(None).await?;
        match self.ask(Method::HEAD, &self.container).await {
            Ok(_) => return Ok(()),
            Err(missing) if missing.kind == Kind::NotFound => {}
            // It exists: what may be done with it shows later.
            Err(refused) if refused.kind == Kind::Forbidden => return Ok(()),
            Err(other) => return Err(other),
        }
        let ready = |request: RequestBuilder| {
            let request = request.header(CONTENT_LENGTH, "0");
            match &self.policy {
                Some(policy) => request.header("X-Storage-Policy", policy),
                None => request,
            }
        };
        let made = agreed(self.send(Method::PUT, &self.container, ready).await?);
        made.map(drop).map_err(|trouble| match &self.policy {
            Some(policy) if trouble.kind == Kind::Invalid => Trouble::new(
                Kind::Invalid,
                format!("{} (SWIFT_DEFAULT_CONTAINER_POLICY is {policy})", trouble.reason),
            ),
            _ => trouble,
        })
    }

    async fn try_get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            return Ok(cut(Bytes::new(), range, self.try_head(key).await?.size, 0)?);
        }
        let at = self.object(key)?;
        let header = range.as_ref().map(range_header);
        let sent = self.send(Method::GET, &at, |request| match &header {
            Some(range) => request.header(RANGE, range),
            None => request,
        });
        // The answer may be long, but begins soon.
        let sent = self.retries.answer(sent).await;
        let sent = sent.map_err(|silence| Trouble::new(Kind::Unreachable, silence))?;
        match agreed(sent?) {
            Ok(response) => object(response, range).await,
            Err(trouble) => Err(self.not_found(trouble).await),
        }
    }

    /// Where `is_new` is set, nothing is replaced; false, if something is there.
    async fn try_put(&self, key: &str, content: Bytes, is_new: bool) -> Result<bool, Trouble> {
        let at = self.object(key)?;
        if content.len() as u64 > LONGEST {
            let reason = "it is longer than 5 GiB, beyond which Swift wants segments: this release \
                          writes none";
            return Err(Trouble::new(Kind::Invalid, reason));
        }
        // The server compares what arrived.
        let checksum: String =
            Md5::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let ready = |request: RequestBuilder| {
            let request = request
                // Without it an object that is empty is refused.
                .header(CONTENT_LENGTH, content.len())
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(ETAG, &checksum)
                .body(content.clone());
            if is_new { request.header(IF_NONE_MATCH, "*") } else { request }
        };
        let response = self.send(Method::PUT, &at, ready).await?;
        // 202 in place of 201: the object is there, written by somebody else a moment later.
        if is_new
            && [StatusCode::PRECONDITION_FAILED, StatusCode::ACCEPTED].contains(&response.status())
        {
            return Ok(false);
        }
        match agreed(response) {
            Ok(_) => Ok(true),
            Err(trouble) => Err(self.not_found(trouble).await),
        }
    }

    async fn try_head(&self, key: &str) -> Result<Entry, Trouble> {
        match self.ask(Method::HEAD, &self.object(key)?).await {
            Ok(response) => entry(key, response.headers()),
            Err(trouble) => Err(self.not_found(trouble).await),
        }
    }

    async fn try_delete(&self, key: &str) -> Result<(), Trouble> {
        match self.ask(Method::DELETE, &self.object(key)?).await {
            Ok(_) => Ok(()),
            Err(trouble) => match self.not_found(trouble).await {
                gone if gone.kind == Kind::NotFound => Ok(()),
                other => Err(other),
            },
        }
    }

    /// One page of a listing, and the name that the next begins after.
    async fn try_page(
        &self,
        prefix: &str,
        marker: Option<&str>,
    ) -> Result<(Vec<Entry>, Option<String>), Trouble> {
        let asked = encoded(&below(&self.path, prefix));
        let after = encoded(marker.unwrap_or_default());
        let container = &self.container;
        let at = format!("{container}?format=json&limit={PAGE}&prefix={asked}&marker={after}");
        let response = self.ask(Method::GET, &at).await.map_err(|trouble| match trouble.kind {
            Kind::NotFound => no_container(),
            _ => trouble,
        })?;
        let page = content(response, LONGEST_PAGE).await?;
        // An answer of 204 has no content.
        let page: &[u8] = if page.is_empty() { b"[]" } else { &page };
        let page: Vec<Listed> = serde_json::from_slice(page).map_err(|error| {
            Trouble::new(Kind::Failing, format!("the listing cannot be read: {error}"))
        })?;
        // A page may be shorter than was asked for, and not the last: that one is empty.
        let next = page.last().map(|last| last.name.clone());
        if next.is_some() && next.as_deref() == marker {
            return Err(Trouble::new(Kind::Failing, "the listing does not go on"));
        }
        let entries = page.into_iter().map(|listed| self.entry(listed));
        Ok((entries.collect::<Result<Vec<Entry>, Trouble>>()?, next))
    }

    fn entry(&self, Listed { name, bytes, last_modified }: Listed) -> Result<Entry, Trouble> {
        let key = relative(&self.path, &name).ok_or_else(|| {
            Trouble::new(Kind::Failing, format!("{name} is listed, which was not asked for"))
        })?;
        let modified = last_modified.as_deref().and_then(timestamp);
        Ok(Entry { key: key.to_owned(), size: bytes, modified })
    }
}

#[async_trait]
impl Store for Swift {
    fn location(&self) -> &str {
        self.retries.location()
    }

    async fn create(&self) -> Result<(), Error> {
        self.try_create().await.map_err(|trouble| self.error(Operation::Create, "", trouble))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        let got = self.try_get(key, range).await;
        got.map_err(|trouble| self.error(Operation::Get, key, trouble))
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        let put = self.try_put(key, content, false).await;
        put.map(drop).map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    fn is_exclusive(&self) -> bool {
        // Each replica looks for itself, before the content comes. Of several who write at once all may be
        // let through, and the last one stays.
        false
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let put = async {
            // For servers that take no notice of the condition.
            match self.try_head(key).await {
                Ok(_) => Ok(false),
                Err(absent) if absent.kind == Kind::NotFound => {
                    self.try_put(key, content, true).await
                }
                Err(other) => Err(other),
            }
        };
        put.await.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    /// The checksum goes ahead of the content, and parts would be objects of their own. So the content is
    /// gathered first.
    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let gathered = whole(content).await;
        let gathered = gathered.map_err(|trouble| self.error(Operation::Put, key, trouble))?;
        let attempt = || self.put(key, gathered.clone());
        self.retries.run(Operation::Put, key, gathered.len() as u64, attempt).await
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        let entry = self.try_head(key).await;
        entry.map_err(|trouble| self.error(Operation::Head, key, trouble))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.retries.pages(prefix, move |marker| async move {
            let page = self.try_page(prefix, marker.as_deref()).await;
            page.map_err(|trouble| self.error(Operation::List, prefix, trouble))
        })
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.try_delete(key).await;
        deleted.map_err(|trouble| self.error(Operation::Delete, key, trouble))
    }
}

/// An answer that says yes, or what it says instead.
fn agreed(response: Response) -> Result<Response, Trouble> {
    let status = response.status().as_u16();
    answer(Ok(response)).map_err(|trouble| match status {
        // Somebody writes the same object at the same moment.
        409 => Trouble::new(Kind::Failing, trouble.reason),
        422 => Trouble::new(Kind::Unreachable, "the content was damaged on its way"),
        // The status that Swift's limit of requests has for itself.
        498 => Trouble::new(Kind::Throttled, trouble.reason),
        _ => trouble,
    })
}

fn no_container() -> Trouble {
    Trouble::new(Kind::NoBucket, "there is no such container")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, IN_ADDRESSES).to_string()
}

/// A time as OpenStack writes it; without a zone it is UTC.
fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Patience;

    fn swift(settings: &[(&str, &str)]) -> Result<Swift, Error> {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::new(settings);
        let location = "swift:c:/a b".to_owned();
        let retries = Retries::new(Patience::default(), location, settings.clone());
        Swift::new("c", "a b".to_owned(), &settings, None, retries)
    }

    #[test]
    fn an_object_s_address_means_that_object_and_no_other() {
        let swift = swift(&[
            ("OS_STORAGE_URL", "http://host/v1/AUTH_test"),
            ("OS_AUTH_TOKEN", "hunter22-token"),
        ])
        .unwrap();
        assert_eq!(swift.object("d/ü%2F?#\n~").unwrap(), "c/a%20b/d/%C3%BC%252F%3F%23%0A~");
        for key in ["", "../x", "a/./b", "a//b", "/a"] {
            assert_eq!(swift.object(key).unwrap_err().kind, Kind::Invalid, "{key}");
        }
        assert!(!format!("{swift:?}").contains("hunter22"));
    }

    #[test]
    fn what_is_missing_is_named_when_it_is_opened() {
        let missing = swift(&[("ST_AUTH", "http://host/auth/v1.0"), ("ST_USER", "account:user")]);
        let missing = missing.unwrap_err();
        assert_eq!(missing.kind(), Kind::Invalid);
        assert_eq!(missing.to_string(), "cannot open swift:c:/a b: ST_KEY is missing");
    }

    #[test]
    fn a_time_is_read_with_and_without_its_zone() {
        let expected = "2015-05-19T07:08:21.927295Z".parse().ok();
        assert_eq!(timestamp("2015-05-19T07:08:21.927295"), expected);
        assert_eq!(timestamp("2015-05-19T07:08:21.927295Z"), expected);
        assert_eq!(timestamp("2015-05-19T02:08:21.927295-05:00"), expected);
        assert_eq!(timestamp("yesterday"), None);
    }
}
