//! `Cloud`: Azure Blob Storage and Google Cloud Storage. This is the only file that names
//! `object_store`.

use std::error::Error as StdError;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path as FilePath;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use object_store::azure::{AzureAuthorizer, MicrosoftAzure, MicrosoftAzureBuilder, split_sas};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutPayload, RetryConfig,
};
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Kind, Operation, chain, kind_of_connection};
use crate::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use crate::http::{CONNECT, Method, STALLED, Trouble};
use crate::key::{below, problem_with_path, relative};
use crate::parts::{PARTS_AT_ONCE, parts};
use crate::retry::Retries;
use crate::settings::Settings;
use crate::store::{Entry, Listing, Store};
use crate::trusted;
use crate::whole_range::cut;

/// Where Azure's accounts are, unless `AZURE_ENDPOINT_SUFFIX` says otherwise.
const AZURE: &str = "core.windows.net";

/// Where Google's storage is.
const GOOGLE: &str = "https://storage.googleapis.com";

/// A container or bucket, or a path in it.
pub(crate) struct Cloud {
    service: Service,
    path: String,
    http: HttpClient,
    retries: Retries,
}

/// Who keeps the objects.
enum Service {
    Azure { client: MicrosoftAzure, account: String, endpoint: Url, container: String },
    Google { client: GoogleCloudStorage, base: String, bucket: String, project: Option<String> },
}

/// What is read of Google's credentials besides by the library: a service that is not Google's own.
#[derive(Debug, Default, Deserialize)]
struct GoogleFile {
    gcs_base_url: Option<String>,
}

/// What a service calls objects, pages and parts by.
trait Client: ObjectStore + PaginatedListStore + MultipartStore {}
impl<T: ObjectStore + PaginatedListStore + MultipartStore> Client for T {}

impl fmt::Debug for Cloud {
    /// The library would print credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("location", &self.retries.location()).finish_non_exhaustive()
    }
}

impl Cloud {
    /// A container of an Azure account, by the names of restic's variables. `AZURE_ENDPOINT_SUFFIX`
    /// may be a whole address, of a server that speaks the same.
    pub(crate) fn azure(
        container: String,
        path: String,
        settings: &Settings,
        ca: Option<&FilePath>,
        retries: Retries,
    ) -> Result<Self, Error> {
        let invalid = |reason: String| {
            let reason = settings.redact(&reason);
            Error::new(Kind::Invalid, Operation::Open, retries.location(), "", reason)
        };
        let get = |name| settings.get(name);
        let account = get("AZURE_ACCOUNT_NAME")
            .ok_or_else(|| invalid("AZURE_ACCOUNT_NAME is missing".to_owned()))?;
        let endpoint = match get("AZURE_ENDPOINT_SUFFIX") {
            Some(whole) if whole.contains("://") => whole.trim_end_matches('/').to_owned(),
            suffix => format!("https://{account}.blob.{}", suffix.unwrap_or(AZURE)),
        };
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| invalid("AZURE_ENDPOINT_SUFFIX is no name of a host".to_owned()))?;
        let options = options(ca, endpoint.scheme() == "http").map_err(&invalid)?;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(&container)
            .with_endpoint(endpoint.to_string().trim_end_matches('/').to_owned())
            .with_allow_http(endpoint.scheme() == "http")
            .with_client_options(options.clone())
            .with_retry(once());
        if let Some(key) = get("AZURE_ACCOUNT_KEY") {
            builder = builder.with_access_key(key);
        } else if let Some(sas) = get("AZURE_ACCOUNT_SAS") {
            let pairs = split_sas(sas)
                .map_err(|_| invalid("AZURE_ACCOUNT_SAS is no signature".to_owned()))?;
            builder = builder.with_sas_authorization(pairs);
        } else {
            // Who the pod is, by a token in a file; or who the machine is.
            if let Some(id) = get("AZURE_CLIENT_ID") {
                builder = builder.with_client_id(id);
            }
            if let Some(tenant) = get("AZURE_TENANT_ID") {
                builder = builder.with_tenant_id(tenant);
            }
            if let Some(file) = get("AZURE_FEDERATED_TOKEN_FILE") {
                builder = builder.with_federated_token_file(file);
            }
            if let Some(host) = get("AZURE_AUTHORITY_HOST") {
                builder = builder.with_authority_host(host);
            }
        }
        let client = builder.build().map_err(|error| invalid(chain(&error)))?;
        let http = ReqwestConnector::default().connect(&options);
        let http = http.map_err(|error| invalid(chain(&error)))?;
        let service = Service::Azure { client, account: account.to_owned(), endpoint, container };
        Ok(Self { service, path, http, retries })
    }

    /// A bucket of Google's. `GOOGLE_APPLICATION_CREDENTIALS` is a file; without it Google's own
    /// ways are tried: gcloud's credentials, and who the machine is.
    pub(crate) fn google(
        bucket: String,
        path: String,
        settings: &Settings,
        ca: Option<&FilePath>,
        retries: Retries,
    ) -> Result<Self, Error> {
        let invalid =
            |reason| Error::new(Kind::Invalid, Operation::Open, retries.location(), "", reason);
        let mut builder =
            GoogleCloudStorageBuilder::new().with_bucket_name(&bucket).with_retry(once());
        let mut base = GOOGLE.to_owned();
        if let Some(file) = settings.get("GOOGLE_APPLICATION_CREDENTIALS") {
            let content = fs::read(file).map_err(|error| {
                invalid(format!("GOOGLE_APPLICATION_CREDENTIALS cannot be read: {error}"))
            })?;
            // The parser's own words repeat a part of what may be a key.
            let parsed: GoogleFile = serde_json::from_slice(&content).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                invalid(format!(
                    "GOOGLE_APPLICATION_CREDENTIALS is no JSON of Google's (line {line}, column {column})"
                ))
            })?;
            if let Some(other) = parsed.gcs_base_url {
                base = other.trim_end_matches('/').to_owned();
                // The library takes it from service accounts whose key is given, not from others.
                builder = builder.with_service_account_path(file).with_base_url(&base);
            } else {
                builder = builder.with_application_credentials(file);
            }
        }
        let options = options(ca, base.starts_with("http://")).map_err(&invalid)?;
        let client = builder
            .with_client_options(options.clone())
            .build()
            .map_err(|error| invalid(chain(&error)))?;
        let http = ReqwestConnector::default().connect(&options);
        let http = http.map_err(|error| invalid(chain(&error)))?;
        let project = settings.get("GOOGLE_PROJECT_ID").map(str::to_owned);
        let service = Service::Google { client, base, bucket, project };
        Ok(Self { service, path, http, retries })
    }

    fn client(&self) -> &dyn Client {
        match &self.service {
            Service::Azure { client, .. } => client,
            Service::Google { client, .. } => client,
        }
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, self.retries.location(), key, trouble.reason)
    }

    fn object(&self, key: &str) -> Result<Path, Trouble> {
        if let Some(problem) = problem_with_path(key) {
            return Err(Trouble::new(Kind::Invalid, problem));
        }
        if matches!(self.service, Service::Azure { .. }) && key.contains('\\') {
            return Err(Trouble::new(
                Kind::Invalid,
                "Azure makes a slash of the backslash in the key",
            ));
        }
        Path::parse(below(&self.path, key))
            .map_err(|error| Trouble::new(Kind::Invalid, error.to_string()))
    }

    /// An answer of 404 without a word may mean the object or the container: only the latter can be
    /// asked for.
    async fn not_found(&self, trouble: Trouble) -> Trouble {
        if trouble.kind != Kind::NotFound {
            return trouble;
        }
        match self.try_page("", None, Some(1)).await {
            // Who may use objects may still not list them.
            Ok(_) => trouble,
            Err(refused) if refused.kind == Kind::Forbidden => trouble,
            Err(other) => other,
        }
    }

    /// One page of a listing, and where the next begins.
    async fn try_page(
        &self,
        prefix: &str,
        token: Option<&str>,
        most: Option<usize>,
    ) -> Result<(Vec<Entry>, Option<String>), Trouble> {
        let whole = below(&self.path, prefix);
        // Azure's listing, as the library has it, leaves out the object that is called like the
        // prefix: so it is asked for all that begin with one letter less.
        let asked = match (&self.service, whole.char_indices().next_back()) {
            (Service::Azure { .. }, Some((last, _))) => &whole[..last],
            _ => whole.as_str(),
        };
        let options = PaginatedListOptions {
            max_keys: most,
            page_token: token.map(str::to_owned),
            ..PaginatedListOptions::default()
        };
        let asked = Some(asked).filter(|asked| !asked.is_empty());
        let page =
            self.client().list_paginated(asked, options).await.map_err(|error| {
                match trouble(&error) {
                    missing if missing.kind == Kind::NotFound => no_bucket(),
                    other => other,
                }
            })?;
        let entries = page.result.objects.iter().filter_map(|object| {
            let name = object.location.as_ref();
            let key = name.starts_with(&whole).then(|| relative(&self.path, name)).flatten()?;
            Some(entry(key, object))
        });
        Ok((entries.collect(), page.page_token))
    }

    async fn try_create(&self) -> Result<(), Trouble> {
        match self.try_page("", None, Some(1)).await {
            Err(missing) if missing.kind == Kind::NoBucket => {}
            // It exists: what may be done with it shows later.
            Err(refused) if refused.kind == Kind::Forbidden => return Ok(()),
            other => return other.map(drop),
        }
        let (url, body) = match &self.service {
            Service::Azure { endpoint, container, .. } => {
                let mut url = address(endpoint, &[container])?;
                url.set_query(Some("restype=container"));
                (url, Bytes::new())
            }
            Service::Google { base, bucket, project, .. } => {
                let Some(project) = project else {
                    let missing = "there is no such bucket, and no GOOGLE_PROJECT_ID to make it in";
                    return Err(Trouble::new(Kind::NoBucket, missing));
                };
                let base =
                    Url::parse(base).map_err(|_| Trouble::new(Kind::Invalid, "no address"))?;
                let mut url = address(&base, &["storage", "v1", "b"])?;
                url.query_pairs_mut().append_pair("project", project);
                (url, serde_json::json!({ "name": bucket }).to_string().into())
            }
        };
        let method = if body.is_empty() { Method::PUT } else { Method::POST };
        match self.send(method, url, body).await {
            // Somebody else made it meanwhile, or it is somebody else's.
            Err((409, trouble)) if trouble.kind != Kind::Failing => {
                self.try_page("", None, Some(1)).await.map(drop)
            }
            other => other.map_err(|(_, trouble)| trouble),
        }
    }

    /// Sends a request that the library does not know. An answer that says no comes with its status.
    async fn send(&self, method: Method, url: Url, body: Bytes) -> Result<(), (u16, Trouble)> {
        let failed = |error: object_store::Error| (0, trouble(&error));
        let mut request = HttpRequest::new(HttpRequestBody::from(body.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| (0, Trouble::new(Kind::Invalid, "the address cannot be one")))?;
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        match &self.service {
            Service::Azure { client, account, .. } => {
                let credential = client.credentials().get_credential().await.map_err(failed)?;
                let authorizer = AzureAuthorizer::new(&credential, account);
                authorizer.try_authorize(&mut request).map_err(failed)?;
            }
            Service::Google { client, .. } => {
                let credential = client.credentials().get_credential().await.map_err(failed)?;
                let bearer = HeaderValue::from_str(&format!("Bearer {}", credential.bearer))
                    .map_err(|_| (0, Trouble::new(Kind::Invalid, "the token cannot be one")))?;
                let headers = request.headers_mut();
                headers.insert(AUTHORIZATION, bearer);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        let broken =
            |error: HttpError| (0, Trouble::new(kind_of_connection(&error), chain(&error)));
        let answer = self.http.execute(request).await.map_err(broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = answer.into_body().bytes().await.map_err(broken)?;
        Err((status.as_u16(), refusal(status.as_u16(), &String::from_utf8_lossy(&body))))
    }

    async fn try_get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            return Ok(cut(Bytes::new(), range, self.try_head(key).await?.size, 0)?);
        }
        let object = self.object(key)?;
        let options =
            GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let sent = self.retries.answer(self.client().get_opts(&object, options)).await;
        let got = match sent.map_err(|silence| Trouble::new(Kind::Unreachable, silence))? {
            Ok(got) => got,
            Err(error) => {
                let trouble = self.not_found(trouble(&error)).await;
                // What a server says of a range at the end of an object may be nonsense to the library.
                if let (Kind::Failing, Some(range)) = (trouble.kind, &range) {
                    let size = self.try_head(key).await?.size;
                    if range.end > size {
                        return Ok(cut(Bytes::new(), range, size, 0)?);
                    }
                }
                return Err(trouble);
            }
        };
        let (came, total) = (got.range.clone(), got.meta.size);
        let content = got.bytes().await.map_err(|error| {
            let reason = format!("the content was cut short: {}", trouble(&error).reason);
            Trouble::new(kind_of_connection(&error), reason)
        })?;
        if content.len() as u64 != came.end - came.start {
            return Err(Trouble::new(Kind::Unreachable, "the content was cut short"));
        }
        match range {
            None => Ok(content),
            Some(range) => Ok(cut(content, &range, total, came.start)?),
        }
    }

    /// Where it is to be new, nothing is replaced; false, if something is there.
    async fn try_put(&self, key: &str, content: Bytes, mode: PutMode) -> Result<bool, Trouble> {
        let object = self.object(key)?;
        match self.client().put_opts(&object, content.into(), mode.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) if self.try_head(key).await.is_ok() => {
                Ok(false)
            }
            Err(error) => Err(self.not_found(trouble(&error)).await),
        }
    }

    async fn try_head(&self, key: &str) -> Result<Entry, Trouble> {
        let object = self.object(key)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.client().get_opts(&object, options).await {
            Ok(found) => Ok(entry(key, &found.meta)),
            Err(error) => Err(self.not_found(trouble(&error)).await),
        }
    }

    async fn try_delete(&self, key: &str) -> Result<(), Trouble> {
        let object = self.object(key)?;
        let deleted = match &self.service {
            // The library deletes many at once, which not every signature permits.
            Service::Azure { endpoint, container, .. } => {
                let parts: Vec<&str> =
                    [container.as_str()].into_iter().chain(object.as_ref().split('/')).collect();
                let url = address(endpoint, &parts)?;
                let sent = self.send(Method::DELETE, url, Bytes::new()).await;
                sent.map_err(|(_, trouble)| trouble)
            }
            Service::Google { client, .. } => {
                client.delete(&object).await.map_err(|error| trouble(&error))
            }
        };
        match deleted {
            Ok(()) => Ok(()),
            Err(other) => match self.not_found(other).await {
                gone if gone.kind == Kind::NotFound => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Writes a stream in parts; the caller gives the upload up if this fails.
    async fn upload(
        &self,
        key: &str,
        object: &Path,
        upload: &String,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let refused = |error: object_store::Error| self.error(Operation::Put, key, trouble(&error));
        let done: Vec<(PartId, u64)> = parts(content)
            .map_err(|error| {
                self.error(Operation::Put, key, Trouble::new(Kind::Content, error.to_string()))
            })
            .map_ok(|(number, part)| async move {
                let index = number.unsigned_abs() as usize - 1;
                let attempt = || async {
                    let payload = PutPayload::from(part.clone());
                    self.client().put_part(object, upload, index, payload).await.map_err(refused)
                };
                let size = part.len() as u64;
                let done = self.retries.run(Operation::Put, key, size, attempt).await?;
                Ok((done, size))
            })
            .try_buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let length: u64 = done.iter().map(|(_, size)| size).sum();
        let done: Vec<PartId> = done.into_iter().map(|(part, _)| part).collect();
        let attempt = || async {
            match self.client().complete_multipart(object, upload, done.clone()).await {
                Ok(_) => Ok(()),
                // It was completed before, and the answer was lost.
                Err(error) if trouble(&error).kind == Kind::NotFound => {
                    match self.try_head(key).await {
                        Ok(there) if there.size == length => Ok(()),
                        Ok(_) | Err(_) => Err(refused(error)),
                    }
                }
                Err(error) => Err(refused(error)),
            }
        };
        self.retries.run(Operation::Put, key, 0, attempt).await
    }
}

#[async_trait]
impl Store for Cloud {
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
        let put = self.try_put(key, content, PutMode::Overwrite).await;
        put.map(drop).map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    fn is_exclusive(&self) -> bool {
        // Google is, too; what speaks its dialect need not be.
        matches!(self.service, Service::Azure { .. })
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let put = async {
            match self.try_head(key).await {
                Ok(_) => Ok(false),
                Err(absent) if absent.kind == Kind::NotFound => {
                    self.try_put(key, content, PutMode::Create).await
                }
                Err(other) => Err(other),
            }
        };
        put.await.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let put = |trouble| self.error(Operation::Put, key, trouble);
        let object = self.object(key).map_err(put)?;
        let attempt = || async {
            match self.client().create_multipart(&object).await {
                Ok(upload) => Ok(upload),
                Err(error) => Err(put(self.not_found(trouble(&error)).await)),
            }
        };
        let upload = self.retries.run(Operation::Put, key, 0, attempt).await?;
        let done = self.upload(key, &object, &upload, content).await;
        if done.is_err() {
            // What remains of an upload costs money until it is given up. What went wrong before is
            // what the caller hears of.
            if let Err(error) = self.client().abort_multipart(&object, &upload).await {
                let reason = trouble(&error).reason;
                tracing::warn!(key, %reason, "an unfinished upload stays behind");
            }
        }
        done
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        let entry = self.try_head(key).await;
        entry.map_err(|trouble| self.error(Operation::Head, key, trouble))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.retries.pages(prefix, move |token| async move {
            let page = self.try_page(prefix, token.as_deref(), None).await;
            page.map_err(|trouble| self.error(Operation::List, prefix, trouble))
        })
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.try_delete(key).await;
        deleted.map_err(|trouble| self.error(Operation::Delete, key, trouble))
    }
}

fn options(ca: Option<&FilePath>, plain: bool) -> Result<ClientOptions, String> {
    let mut options = ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(CONNECT)
        .with_read_timeout(STALLED)
        // How long a whole answer may take depends on its length: whoever calls knows it.
        .with_timeout_disabled()
        .with_no_system_certificates(true);
    for certificate in trusted::certificates(ca)? {
        let certificate = Certificate::from_der(&certificate).map_err(|error| chain(&error))?;
        options = options.with_root_certificate(certificate);
    }
    Ok(options)
}

/// Whoever calls tries again; two would multiply.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn address(base: &Url, parts: &[&str]) -> Result<Url, Trouble> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| Trouble::new(Kind::Invalid, "the address cannot be one"))?
        .pop_if_empty()
        .extend(parts);
    Ok(url)
}

fn entry(key: &str, object: &ObjectMeta) -> Entry {
    let modified = object.last_modified;
    #[allow(clippy::cast_possible_wrap, reason = "nanoseconds are fewer than 2 * 10^9")]
    let nanoseconds = modified.timestamp_subsec_nanos() as i32;
    Entry {
        key: key.to_owned(),
        size: object.size,
        modified: Timestamp::new(modified.timestamp(), nanoseconds).ok(),
    }
}

fn no_bucket() -> Trouble {
    Trouble::new(Kind::NoBucket, "there is no such bucket or container")
}

/// What an error of the library means. It keeps the status of an answer in its words alone.
fn trouble(error: &object_store::Error) -> Trouble {
    use object_store::Error as Theirs;
    let text = error.to_string();
    if let Some((_, answer)) = text.split_once("status code: ") {
        let digits: String = answer.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(status) = digits.parse() {
            return refusal(status, answer);
        }
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(now) = cause {
        if let Some(broken) = now.downcast_ref::<HttpError>() {
            return Trouble::new(kind_of_connection(broken), chain(broken));
        }
        cause = now.source();
    }
    let kind = match error {
        Theirs::NotFound { .. } => Kind::NotFound,
        Theirs::PermissionDenied { .. } | Theirs::Unauthenticated { .. } => Kind::Forbidden,
        Theirs::InvalidPath { .. } | Theirs::NotSupported { .. } => Kind::Invalid,
        _ => Kind::Failing,
    };
    Trouble::new(kind, chain(error))
}

/// What an answer means that says no, by its status and its words: XML with a `Code`, or JSON with a
/// `reason`, an `error` or a `message`.
fn refusal(status: u16, words: &str) -> Trouble {
    let between = |start: &str, end: &str| {
        let (_, rest) = words.split_once(start)?;
        rest.split_once(end).map(|(found, _)| found.to_owned())
    };
    let said = between("<Code>", "</Code>").or_else(|| {
        let (_, json) = words.split_once('{')?;
        let json: serde_json::Value = serde_json::from_str(&format!("{{{json}")).ok()?;
        let places = ["/error/errors/0/reason", "/error/message", "/error", "/error_description"];
        places.iter().find_map(|place| json.pointer(place)?.as_str().map(str::to_owned))
    });
    let kind = match said.as_deref() {
        Some("NoSuchBucket" | "ContainerNotFound") => {
            return no_bucket();
        }
        Some("invalid_grant" | "invalid_client" | "unauthorized_client") => Kind::Forbidden,
        Some("ServerBusy" | "rateLimitExceeded" | "userRateLimitExceeded") => Kind::Throttled,
        Some("AccountBeingCreated" | "ContainerBeingDeleted" | "OperationTimedOut") => {
            Kind::Failing
        }
        _ => Kind::of_status(status),
    };
    let reason = match said {
        Some(said) => format!("{said} (status {status})"),
        None => format!("the answer is status {status}"),
    };
    Trouble::new(kind, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_understood_in_both_of_its_languages() {
        let xml = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        for (status, words, kind, reason) in [
            (404, xml("BlobNotFound"), Kind::NotFound, "BlobNotFound (status 404)"),
            (404, xml("ContainerNotFound"), Kind::NoBucket, "there is no such bucket or container"),
            (
                403,
                xml("AuthenticationFailed"),
                Kind::Forbidden,
                "AuthenticationFailed (status 403)",
            ),
            (503, xml("ServerBusy"), Kind::Throttled, "ServerBusy (status 503)"),
            (
                400,
                r#"{"error": "invalid_grant", "error_description": "no"}"#.to_owned(),
                Kind::Forbidden,
                "invalid_grant (status 400)",
            ),
            (
                403,
                r#"{"error": {"errors": [{"reason": "forbidden"}], "message": "no"}}"#.to_owned(),
                Kind::Forbidden,
                "forbidden (status 403)",
            ),
            (502, "<html>".to_owned(), Kind::Failing, "the answer is status 502"),
        ] {
            let trouble = refusal(status, &words);
            assert_eq!((trouble.kind, trouble.reason.as_str()), (kind, reason), "{words}");
        }
    }
}
