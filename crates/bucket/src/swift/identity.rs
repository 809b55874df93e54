//! `Identity`: who asks, and what that is worth: a token, and the address of an account.
//!
//! There are three ways to ask. The store itself answers (OpenStack Object Storage API v1, "Authentication
//! and access": `GET` with `X-Auth-User` and `X-Auth-Key`), or Keystone does (Identity API v2.0,
//! `POST /v2.0/tokens`; Identity API v3, `POST /v3/auth/tokens`). Which of them it is stands in the address.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use url::Url;

use super::timestamp;
use super::who::{OS_AUTH_URL, ST_AUTH, Who};
use crate::error::Kind;
use crate::http::{Trouble, answer, content};
use crate::settings::Settings;

/// The longest answer that is believed, in bytes. A catalog of a large cloud has some 100 KB.
const LONGEST: usize = 4 << 20;

/// An account that is open. It has no `Debug`: the token is as good as a password.
pub(super) struct Access {
    /// The account's address, without a slash at the end.
    pub(super) storage: String,
    pub(super) token: HeaderValue,
    /// When it is time for a new token; `None`: when this one is refused.
    due: Option<Instant>,
}

/// Who asks, whom, and what of the answer is taken. It has no `Debug`: most of it is secret.
pub(super) struct Identity {
    way: Way,
    /// The account's address, whatever the answer says.
    storage: Option<String>,
    region: Option<String>,
    /// Which of a store's addresses: `public`, `internal` or `admin`.
    interface: String,
}

/// How a token is had.
enum Way {
    /// The user has one.
    Brought { storage: String, token: HeaderValue },
    /// From the store.
    Store { named: &'static str, url: String, user: HeaderValue, key: HeaderValue },
    /// From Keystone.
    Keystone { named: &'static str, url: String, body: String },
}

impl Access {
    /// Whether to ask for another token before this one ends.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

impl Identity {
    /// By the names of restic's variables. `Err`: what is wrong with them.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let get = |name: &str| settings.get(name);
        let storage =
            get("OS_STORAGE_URL").map(|url| address("OS_STORAGE_URL", url)).transpose()?;
        let token = get("OS_AUTH_TOKEN");
        let way = match (&storage, token, get(OS_AUTH_URL), get(ST_AUTH)) {
            (Some(storage), Some(token), _, _) => {
                let token = header("OS_AUTH_TOKEN", token)?;
                Way::Brought { storage: storage.clone(), token }
            }
            (_, _, Some(url), _) => Way::new(Who::new(settings, OS_AUTH_URL), url)?,
            (_, _, None, Some(url)) => Way::new(Who::new(settings, ST_AUTH), url)?,
            (None, Some(_), None, None) => return Err("OS_STORAGE_URL is missing".to_owned()),
            (Some(_), None, None, None) => return Err("OS_AUTH_TOKEN is missing".to_owned()),
            (None, None, None, None) => {
                let others = "ST_AUTH, or OS_STORAGE_URL with OS_AUTH_TOKEN";
                return Err(format!("{OS_AUTH_URL} is missing (or {others})"));
            }
        };
        let region = get("OS_REGION_NAME").map(str::to_owned);
        let interface = get("OS_ENDPOINT_TYPE").unwrap_or("public");
        let interface = interface.strip_suffix("URL").unwrap_or(interface).to_owned();
        Ok(Self { way, storage, region, interface })
    }

    /// A token, by one question. `again`: the one before was refused.
    pub(super) async fn authenticate(
        &self,
        client: &Client,
        again: bool,
    ) -> Result<Access, Trouble> {
        let (named, request) = match &self.way {
            Way::Brought { .. } if again => {
                let reason = "OS_AUTH_TOKEN is refused: it has ended, or is one of another account \
                              (OS_AUTH_URL and what belongs to it would do for longer)";
                return Err(Trouble::new(Kind::Forbidden, reason));
            }
            Way::Brought { storage, token } => {
                return Ok(Access { storage: storage.clone(), token: token.clone(), due: None });
            }
            Way::Store { named, url, user, key } => {
                let request = client.get(url).header("X-Auth-User", user.clone());
                (named, request.header("X-Auth-Key", key.clone()))
            }
            Way::Keystone { named, url, body } => {
                let request = client.post(url).header(CONTENT_TYPE, "application/json");
                (named, request.body(body.clone()))
            }
        };
        self.ask(request).await.map_err(|trouble| {
            let reason = format!("{named} was asked for a token: {}", trouble.reason);
            Trouble::new(trouble.kind, reason)
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Access, Trouble> {
        let invalid = |reason: String| Trouble::new(Kind::Invalid, reason);
        let response = agreed(request.send().await).await?;
        let headers = response.headers().clone();
        let (token, storage, lasts) = if matches!(self.way, Way::Keystone { .. }) {
            let told = content(response, LONGEST).await?;
            // It holds a token: no word of it is repeated.
            let told: Value = serde_json::from_slice(&told)
                .map_err(|_| invalid("the answer is none of Keystone's".to_owned()))?;
            // Version 2 answers with an `access` that has all, version 3 with a `token` but its text.
            let (token, catalog) = match told.get("access") {
                Some(access) => (&access["token"], &access["serviceCatalog"]),
                None => (&told["token"], &told["token"]["catalog"]),
            };
            let time = |name: &str| timestamp(token[name].as_str()?);
            let ends = time("expires_at").or_else(|| time("expires"));
            // By Keystone's clock alone, as ours may be another.
            let lasts = ends.zip(time("issued_at")).map(|(end, begin)| end.duration_since(begin));
            let text = match token["id"].as_str() {
                Some(id) => HeaderValue::from_str(id).ok(),
                None => headers.get("X-Subject-Token").cloned(),
            };
            (text, self.endpoint(catalog), lasts.and_then(|lasts| Duration::try_from(lasts).ok()))
        } else {
            let text = |name: &str| headers.get(name)?.to_str().ok();
            let storage = text("X-Storage-Url").map(str::to_owned);
            let storage = storage.ok_or_else(|| "the answer has no X-Storage-Url".to_owned());
            let lasts =
                text("X-Auth-Token-Expires").and_then(|seconds| seconds.parse::<u64>().ok());
            (headers.get("X-Auth-Token").cloned(), storage, lasts.map(Duration::from_secs))
        };
        let mut token = token.ok_or_else(|| invalid("the answer holds no token".to_owned()))?;
        token.set_sensitive(true);
        let storage = match &self.storage {
            Some(storage) => storage.clone(),
            None => address("the store's address", &storage.map_err(invalid)?).map_err(invalid)?,
        };
        // A quarter before its end: a long upload that begins with it should also end with it. In the
        // middle of one a refusal may be lost, with the connection that is closed on it.
        let due = lasts.and_then(|lasts| Instant::now().checked_add(lasts / 4 * 3));
        Ok(Access { storage, token, due })
    }

    /// The address of the object store in a catalog. In version 3 it has an endpoint for each of its
    /// addresses, in version 2 one that has them all.
    fn endpoint(&self, catalog: &Value) -> Result<String, String> {
        let services = catalog.as_array().into_iter().flatten();
        let stores = services.filter(|service| service["type"] == "object-store");
        let endpoints: Vec<&Value> =
            stores.filter_map(|store| store["endpoints"].as_array()).flatten().collect();
        let found = endpoints.iter().find_map(|endpoint| {
            let here = match &self.region {
                Some(region) => {
                    endpoint["region"] == region.as_str()
                        || endpoint["region_id"] == region.as_str()
                }
                None => true,
            };
            let url = match endpoint["interface"].as_str() {
                Some(interface) if interface == self.interface => &endpoint["url"],
                Some(_) => return None,
                None => &endpoint[format!("{}URL", self.interface)],
            };
            url.as_str().filter(|_| here)
        });
        if let Some(url) = found {
            return Ok(url.to_owned());
        }
        if endpoints.is_empty() {
            let reason = "the catalog has no object store: is there one, and is the project \
                          (OS_PROJECT_NAME, OS_TENANT_NAME) given and the right one?";
            return Err(reason.to_owned());
        }
        let mut regions: Vec<&str> =
            endpoints.iter().filter_map(|endpoint| endpoint["region"].as_str()).collect();
        regions.sort_unstable();
        regions.dedup();
        let wanted = match &self.region {
            Some(region) => format!(" in OS_REGION_NAME {region:?}"),
            None => String::new(),
        };
        Err(format!(
            "the catalog has no {} address of an object store{wanted}; it has object stores in: {}",
            self.interface,
            regions.join(", ")
        ))
    }
}

impl Way {
    /// How to ask at an address.
    fn new(who: Who<'_>, url: &str) -> Result<Self, String> {
        let named = who.named();
        let url = address(named, url)?;
        let version_there = version_of(&url);
        // rclone's 0 is no version.
        let told = who.says("ST_AUTH_VERSION").and_then(|told| told.chars().next());
        let version = told.filter(|told| *told != '0').or(version_there);
        // Stores are asked at addresses of any kind, and today's Keystone has version 3 alone.
        let version = version.unwrap_or(if named == ST_AUTH { '1' } else { '3' });
        let keystone = |version: &str, path: &str, body: Value| {
            let base = match version_there {
                Some(_) => url.clone(),
                None => format!("{url}/{version}"),
            };
            Self::Keystone { named, url: format!("{base}/{path}"), body: body.to_string() }
        };
        match version {
            '1' => {
                let user = header("the user's name", who.user()?)?;
                let key = header("the user's key", who.password()?)?;
                Ok(Self::Store { named, url, user, key })
            }
            '2' => Ok(keystone("v2.0", "tokens", who.version_2()?)),
            '3' => Ok(keystone("v3", "auth/tokens", who.version_3()?)),
            _ => Err(format!("{named} is asked in a way that is none of v1, v2.0 and v3")),
        }
    }
}

/// An answer that says yes, or what it says instead, in its own words where it has some.
async fn agreed(sent: reqwest::Result<Response>) -> Result<Response, Trouble> {
    let response = sent.map_err(Trouble::of_request)?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return answer(Ok(response));
    }
    let words = content(response, LONGEST).await.unwrap_or_default();
    let words: Value = serde_json::from_slice(&words).unwrap_or_default();
    let reason = match words["error"]["message"].as_str() {
        Some(words) => format!("the answer is {status} ({words})"),
        None => format!("the answer is {status}"),
    };
    Err(match Kind::of_status(status.as_u16()) {
        // It is no object that is not there.
        Kind::NotFound => {
            let such = "https://HOST:5000/v3 (Keystone), https://HOST/auth/v1.0 (the store itself)";
            Trouble::new(Kind::Invalid, format!("{reason}; there are addresses such as {such}"))
        }
        kind => Trouble::new(kind, reason),
    })
}

/// An address of http without a slash at the end. `what` it is stands in the error.
fn address(what: &str, text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok();
    let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let url = url.filter(usable).ok_or_else(|| format!("{what} is no address of http"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The first digit of a `v1.0`, `v2.0` or `v3` in the path of an address.
fn version_of(url: &str) -> Option<char> {
    let (_, rest) = url.split_once("://")?;
    let parts = rest.split('/').skip(1);
    parts.filter_map(|part| part.strip_prefix('v')?.chars().next()).find(char::is_ascii_digit)
}

/// What is sent as a header and never shown.
fn header(what: &str, text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| format!("{what} has a line break or the like, which cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
