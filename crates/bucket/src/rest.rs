//! `Rest`: a server that speaks restic's REST protocol.
//!
//! The protocol (restic's manual, "REST Backend") knows the files of a repository and nothing else:
//! `config`, and names in `data`, `index`, `keys`, `locks` and `snapshots`. A pack that lies at
//! `data/ab/abcd…` elsewhere is `data/abcd…` on such a server. Version 2 lists names with lengths.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Kind, Operation};
use crate::http::{Trouble, answer, client, content, entry, object, range_header};
use crate::location::Credentials;
use crate::parts::whole;
use crate::retry::Retries;
use crate::store::{Entry, Listing, Store};
use crate::whole_range::cut;

/// The version of the protocol that lists lengths.
const VERSION_2: &str = "application/vnd.x.restic.rest.v2";

/// What a repository consists of, besides its `config`.
const DIRECTORIES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// How long a listing is expected to be, in bytes: of a million packs it is 90 MB.
const USUAL_LISTING: u64 = 90 << 20;

/// The longest listing that is believed, in bytes.
const LONGEST_LISTING: usize = 1 << 30;

/// A repository on a server.
#[derive(Debug)]
pub(crate) struct Rest {
    url: Url,
    credentials: Option<Credentials>,
    client: Client,
    retries: Retries,
}

/// A file as a server lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl Rest {
    /// The repository at an address that ends with a slash.
    pub(crate) fn new(
        url: Url,
        credentials: Option<Credentials>,
        ca: Option<PathBuf>,
        retries: Retries,
    ) -> Result<Self, Error> {
        let client = client(ca.as_deref()).map_err(|reason| {
            Error::new(Kind::Invalid, Operation::Open, retries.location(), "", reason)
        })?;
        Ok(Self { url, credentials, client, retries })
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, self.retries.location(), key, trouble.reason)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Trouble> {
        let url =
            self.url.join(path).map_err(|error| Trouble::new(Kind::Invalid, error.to_string()))?;
        let request = self.client.request(method, url).header(ACCEPT, VERSION_2);
        Ok(match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        })
    }

    /// Sends a request whose answer may be long, but begins soon.
    async fn sent(&self, request: RequestBuilder) -> Result<reqwest::Result<Response>, Trouble> {
        let sent = self.retries.answer(request.send()).await;
        sent.map_err(|silence| Trouble::new(Kind::Unreachable, silence))
    }

    async fn try_create(&self) -> Result<(), Trouble> {
        answer(self.request(Method::POST, "?create=true")?.send().await).map(drop)
    }

    async fn try_get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            return Ok(cut(Bytes::new(), range, self.try_head(key).await?.size, 0)?);
        }
        let mut request = self.request(Method::GET, &path_of(key)?)?;
        if let Some(range) = &range {
            request = request.header(RANGE, range_header(range));
        }
        object(answer(self.sent(request).await?)?, range).await
    }

    async fn try_put(&self, key: &str, content: Bytes) -> Result<(), Trouble> {
        let request = self.request(Method::POST, &path_of(key)?)?;
        match answer(request.body(content.clone()).send().await) {
            Ok(_) => Ok(()),
            // Servers that never overwrite refuse what is there already, also when the answer to a
            // first attempt was lost.
            Err(refused) if refused.kind == Kind::Forbidden => {
                match self.try_get(key, None).await {
                    Ok(there) if there == content => Ok(()),
                    Ok(_) | Err(_) => Err(refused),
                }
            }
            Err(other) => Err(other),
        }
    }

    async fn try_head(&self, key: &str) -> Result<Entry, Trouble> {
        let response = answer(self.request(Method::HEAD, &path_of(key)?)?.send().await)?;
        entry(key, response.headers())
    }

    async fn try_delete(&self, key: &str) -> Result<(), Trouble> {
        match answer(self.request(Method::DELETE, &path_of(key)?)?.send().await) {
            Ok(_) => Ok(()),
            Err(gone) if gone.kind == Kind::NotFound => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Everything in one of the directories whose key starts with `prefix`.
    async fn try_list(&self, directory: &str, prefix: &str) -> Result<Vec<Entry>, Trouble> {
        let request = self.request(Method::GET, &format!("{directory}/"))?;
        let response = answer(self.sent(request).await?).map_err(|trouble| match trouble.kind {
            Kind::NotFound => Trouble::new(Kind::NoBucket, "there is no such repository"),
            _ => trouble,
        })?;
        let version_2 = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|version| version.as_bytes().starts_with(VERSION_2.as_bytes()));
        let listing = content(response, LONGEST_LISTING).await?;
        let unreadable = |error: serde_json::Error| {
            Trouble::new(Kind::Failing, format!("the listing cannot be read: {error}"))
        };
        if version_2 {
            let listed: Option<Vec<Listed>> =
                serde_json::from_slice(&listing).map_err(unreadable)?;
            return Ok(listed
                .unwrap_or_default()
                .into_iter()
                .map(|Listed { name, size }| Entry {
                    key: key_of(directory, &name),
                    size,
                    modified: None::<Timestamp>,
                })
                .filter(|entry| entry.key.starts_with(prefix))
                .collect());
        }
        let names: Option<Vec<String>> = serde_json::from_slice(&listing).map_err(unreadable)?;
        let mut entries = Vec::new();
        for key in names.unwrap_or_default().iter().map(|name| key_of(directory, name)) {
            if !key.starts_with(prefix) {
                continue;
            }
            match self.try_head(&key).await {
                Ok(entry) => entries.push(entry),
                // It was deleted meanwhile.
                Err(gone) if gone.kind == Kind::NotFound => {}
                Err(other) => return Err(other),
            }
        }
        Ok(entries)
    }

    async fn try_list_config(&self) -> Result<Vec<Entry>, Trouble> {
        match self.try_head("config").await {
            Ok(entry) => Ok(vec![entry]),
            Err(absent) if absent.kind == Kind::NotFound => Ok(Vec::new()),
            Err(other) => Err(other),
        }
    }
}

#[async_trait]
impl Store for Rest {
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
        let put = self.try_put(key, content).await;
        put.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    /// Servers refuse to write a config over another.
    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let put = async {
            match self.try_head(key).await {
                Ok(_) => return Ok(false),
                Err(absent) if absent.kind == Kind::NotFound => {}
                Err(other) => return Err(other),
            }
            match self.try_put(key, content).await {
                Ok(()) => Ok(true),
                Err(refused) if refused.kind == Kind::Forbidden => match self.try_head(key).await {
                    Ok(_) => Ok(false),
                    Err(_) => Err(refused),
                },
                Err(other) => Err(other),
            }
        };
        put.await.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    /// The protocol has no parts, and servers keep what arrived of a request that has no length and
    /// breaks. So the content is gathered first.
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
        let directories = DIRECTORIES.iter().map(|directory| Some(*directory));
        let wanted = std::iter::once(None).chain(directories).filter(move |directory| {
            let beginning = directory.map_or("config".to_owned(), |name| format!("{name}/"));
            beginning.starts_with(prefix) || directory.is_some() && prefix.starts_with(&beginning)
        });
        stream::iter(wanted)
            .then(move |directory| async move {
                let attempt = || async {
                    let listed = match directory {
                        Some(directory) => self.try_list(directory, prefix).await,
                        None => self.try_list_config().await,
                    };
                    listed.map_err(|trouble| self.error(Operation::List, prefix, trouble))
                };
                let entries = self.retries.run(Operation::List, prefix, USUAL_LISTING, attempt);
                Ok::<_, Error>(stream::iter(entries.await?.into_iter().map(Ok)))
            })
            .try_flatten()
            .boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.try_delete(key).await;
        deleted.map_err(|trouble| self.error(Operation::Delete, key, trouble))
    }
}

/// Where a key is on the server.
fn path_of(key: &str) -> Result<String, Trouble> {
    let parts: Vec<&str> = key.split('/').collect();
    let named =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match parts.as_slice() {
        ["config"] => Ok("config".to_owned()),
        ["data", start, name] if named(name) && *start == first_two(name) => {
            Ok(format!("data/{name}"))
        }
        [directory, name]
            if *directory != "data" && DIRECTORIES.contains(directory) && named(name) =>
        {
            Ok(key.to_owned())
        }
        _ => Err(Trouble::new(
            Kind::Invalid,
            "restic's REST protocol knows the files of a repository alone",
        )),
    }
}

/// The key of what a server lists.
fn key_of(directory: &str, name: &str) -> String {
    match directory {
        "data" => format!("data/{}/{name}", first_two(name)),
        _ => format!("{directory}/{name}"),
    }
}

fn first_two(name: &str) -> &str {
    name.get(..2).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_lie_flat_on_a_server() {
        for (key, path) in [
            ("config", "config"),
            ("data/ab/abcd", "data/abcd"),
            ("keys/1234", "keys/1234"),
            ("snapshots/ffff", "snapshots/ffff"),
        ] {
            assert_eq!(path_of(key).unwrap(), path);
            if let Some((directory, name)) = path.split_once('/') {
                assert_eq!(key_of(directory, name), key);
            }
        }
        for key in ["", "x", "data/abcd", "data/cd/abcd", "keys/../config", "keys/a b", "keys/a/b"]
        {
            assert_eq!(path_of(key).unwrap_err().kind, Kind::Invalid, "{key}");
        }
    }
}
