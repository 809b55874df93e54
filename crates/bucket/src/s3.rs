//! `S3`: Amazon S3 and every server that speaks it.

use std::io;
use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration,
    EncodingType, Object,
};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Operation};
use crate::key::{below, problem_with_key, relative};
use crate::parts::{PARTS_AT_ONCE, parts};
use crate::retry::Retries;
use crate::store::{Entry, Listing, Store};
use crate::whole_range::{RangeProblem, cut};
pub(crate) use connect::Connect;
use connect::Connected;
use trouble::Trouble;

mod backblaze;
mod connect;
mod trouble;

/// A bucket, or a path in it.
#[derive(Debug)]
pub(crate) struct S3 {
    bucket: String,
    path: String,
    connect: Connect,
    connected: OnceCell<Connected>,
    retries: Retries,
}

impl S3 {
    /// A bucket that is connected to when it is first used.
    pub(crate) fn new(bucket: String, path: String, connect: Connect, retries: Retries) -> Self {
        Self { bucket, path, connect, connected: OnceCell::new(), retries }
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, self.retries.location(), key, trouble.reason)
    }

    async fn connected(&self) -> Result<&Connected, Trouble> {
        self.connected.get_or_try_init(|| self.connect.connect(&self.bucket)).await
    }

    async fn client(&self) -> Result<&Client, Trouble> {
        Ok(&self.connected().await?.client)
    }

    fn object(&self, key: &str) -> String {
        below(&self.path, key)
    }

    /// An answer of 404 without a word may mean the object or the bucket: only the latter can be
    /// asked for.
    async fn not_found(&self, client: &Client, trouble: Trouble) -> Trouble {
        if trouble.kind != Kind::NotFound || trouble.said {
            return trouble;
        }
        match client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => trouble,
            Err(error) => match Trouble::of_sdk(error) {
                missing if missing.kind == Kind::NotFound => {
                    Trouble::new(Kind::NoBucket, "there is no such bucket")
                }
                // Who may use objects may still not look at the bucket.
                refused if refused.kind == Kind::Forbidden => trouble,
                other => other,
            },
        }
    }

    async fn try_create(&self) -> Result<(), Trouble> {
        let Connected { client, region } = self.connected().await?;
        match client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => return Ok(()),
            Err(error) => match Trouble::of_sdk(error) {
                missing if missing.kind == Kind::NotFound || missing.kind == Kind::NoBucket => {}
                // It exists: what may be done with it shows later.
                refused if refused.kind == Kind::Forbidden => return Ok(()),
                other => return Err(other),
            },
        }
        let mut create = client.create_bucket().bucket(&self.bucket);
        if region != connect::DEFAULT_REGION {
            create = create.create_bucket_configuration(
                CreateBucketConfiguration::builder()
                    .location_constraint(BucketLocationConstraint::from(region.as_str()))
                    .build(),
            );
        }
        match create.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            // Somebody made it meanwhile, unless it is another's.
            Err(error) if error.code() == Some("BucketAlreadyExists") => {
                match client.head_bucket().bucket(&self.bucket).send().await {
                    Ok(_) => Ok(()),
                    Err(_) => Err(Trouble::of_sdk(error)),
                }
            }
            Err(error) => Err(Trouble::of_sdk(error)),
        }
    }

    async fn try_get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
        let client = self.client().await?;
        if let Some(range) = range.as_ref().filter(|range| range.start >= range.end) {
            let size = self.try_head(key).await?.size;
            cut(Bytes::new(), range, size, 0)?;
            return Ok(Bytes::new());
        }
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let request =
            client.get_object().bucket(&self.bucket).key(self.object(key)).set_range(header);
        let sent = self.retries.answer(request.send()).await;
        let answer = match sent.map_err(|silence| Trouble::new(Kind::Unreachable, silence))? {
            Ok(answer) => answer,
            Err(error) => return Err(self.not_found(client, Trouble::of_sdk(error)).await),
        };
        let promised = answer.content_length;
        let total = answer.content_range().and_then(|range| range.rsplit('/').next()?.parse().ok());
        let partial = answer.content_range.is_some();
        let content = answer.body.collect().await.map_err(|error| Trouble::of_body(&error))?;
        let content = content.into_bytes();
        let length = content.len() as u64;
        if promised.is_some_and(|promised| promised.unsigned_abs() != length) {
            return Err(Trouble::new(Kind::Unreachable, "the content was cut short"));
        }
        match range {
            None => Ok(content),
            Some(range) => {
                let start = if partial { range.start } else { 0 };
                Ok(cut(content, &range, total.unwrap_or(start + length), start)?)
            }
        }
    }

    /// Where `is_new` is set, nothing is replaced; false, if something is there. A server that does
    /// not know the condition takes no notice of it.
    async fn try_put(&self, key: &str, content: Bytes, is_new: bool) -> Result<bool, Trouble> {
        if let Some(problem) = problem_with_key(key) {
            return Err(Trouble::new(Kind::Invalid, problem));
        }
        let client = self.client().await?;
        let request = client
            .put_object()
            .bucket(&self.bucket)
            .key(self.object(key))
            .set_content_md5(self.connect.content_md5(&content))
            .content_type("application/octet-stream")
            .set_if_none_match(is_new.then(|| "*".to_owned()))
            .body(ByteStream::from(content));
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_new && error.code() == Some("PreconditionFailed") => Ok(false),
            Err(error) => Err(self.not_found(client, Trouble::of_sdk(error)).await),
        }
    }

    async fn try_head(&self, key: &str) -> Result<Entry, Trouble> {
        let client = self.client().await?;
        let request = client.head_object().bucket(&self.bucket).key(self.object(key));
        match request.send().await {
            Ok(answer) => Ok(Entry {
                key: key.to_owned(),
                size: answer
                    .content_length
                    .ok_or_else(|| Trouble::new(Kind::Failing, "the answer has no length"))?
                    .unsigned_abs(),
                modified: answer.last_modified.as_ref().and_then(timestamp),
            }),
            Err(error) => Err(self.not_found(client, Trouble::of_sdk(error)).await),
        }
    }

    async fn try_delete(&self, key: &str) -> Result<(), Trouble> {
        let client = self.client().await?;
        let request = client.delete_object().bucket(&self.bucket).key(self.object(key));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.not_found(client, Trouble::of_sdk(error)).await {
                gone if gone.kind == Kind::NotFound => Ok(()),
                other => Err(other),
            },
        }
    }

    /// One page of a listing, and where the next begins.
    async fn try_page(
        &self,
        prefix: &str,
        token: Option<&str>,
    ) -> Result<(Vec<Entry>, Option<String>), Trouble> {
        let answer = self
            .client()
            .await?
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(below(&self.path, prefix))
            .encoding_type(EncodingType::Url)
            .set_continuation_token(token.map(str::to_owned))
            .send()
            .await
            .map_err(|error| match Trouble::of_sdk(error) {
                missing if missing.kind == Kind::NotFound => {
                    Trouble::new(Kind::NoBucket, "there is no such bucket")
                }
                other => other,
            })?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let entries = answer
            .contents()
            .iter()
            .map(|object| self.entry(object, encoded))
            .collect::<Result<Vec<Entry>, Trouble>>()?;
        let more = answer.is_truncated() == Some(true);
        match answer.next_continuation_token {
            Some(token) if more => Ok((entries, Some(token))),
            None if more => {
                Err(Trouble::new(Kind::Failing, "the listing goes on, and nothing says where"))
            }
            _ => Ok((entries, None)),
        }
    }

    fn entry(&self, object: &Object, encoded: bool) -> Result<Entry, Trouble> {
        let name = object.key().unwrap_or_default();
        let name = if encoded { url_decoded(name)? } else { name.to_owned() };
        let key = relative(&self.path, &name).ok_or_else(|| {
            Trouble::new(Kind::Failing, format!("{name} is listed, which was not asked for"))
        })?;
        let size = object.size().ok_or_else(|| {
            Trouble::new(Kind::Failing, format!("{name} is listed without its length"))
        })?;
        Ok(Entry {
            key: key.to_owned(),
            size: size.unsigned_abs(),
            modified: object.last_modified().and_then(timestamp),
        })
    }

    /// Writes a stream in parts; the caller gives the upload up if this fails.
    async fn upload(
        &self,
        key: &str,
        upload: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let parts = parts(content)
            .map_err(|error| {
                self.error(Operation::Put, key, Trouble::new(Kind::Content, error.to_string()))
            })
            .map_ok(|(number, part)| async move {
                let size = part.len() as u64;
                let attempt = || async {
                    self.try_part(key, upload, number, part.clone())
                        .await
                        .map_err(|trouble| self.error(Operation::Put, key, trouble))
                };
                let done = self.retries.run(Operation::Put, key, size, attempt).await?;
                Ok((done, size))
            })
            .try_buffered(PARTS_AT_ONCE);
        let done: Vec<(CompletedPart, u64)> = parts.try_collect().await?;
        let length = done.iter().map(|(_, size)| size).sum();
        let done: Vec<CompletedPart> = done.into_iter().map(|(part, _)| part).collect();
        let attempt = || async {
            self.try_complete(key, upload, done.clone(), length)
                .await
                .map_err(|trouble| self.error(Operation::Put, key, trouble))
        };
        self.retries.run(Operation::Put, key, 0, attempt).await
    }

    async fn try_start(&self, key: &str) -> Result<String, Trouble> {
        if let Some(problem) = problem_with_key(key) {
            return Err(Trouble::new(Kind::Invalid, problem));
        }
        let client = self.client().await?;
        let request = client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .content_type("application/octet-stream");
        match request.send().await {
            Ok(answer) => answer
                .upload_id
                .ok_or_else(|| Trouble::new(Kind::Failing, "the upload was given no name")),
            Err(error) => Err(self.not_found(client, Trouble::of_sdk(error)).await),
        }
    }

    async fn try_part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        part: Bytes,
    ) -> Result<CompletedPart, Trouble> {
        let answer = self
            .client()
            .await?
            .upload_part()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(upload)
            .part_number(number)
            .set_content_md5(self.connect.content_md5(&part))
            .body(ByteStream::from(part))
            .send()
            .await
            .map_err(Trouble::of_sdk)?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(answer.e_tag)
            .set_checksum_crc32(answer.checksum_crc32)
            .build())
    }

    async fn try_complete(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<CompletedPart>,
        length: u64,
    ) -> Result<(), Trouble> {
        let request = self
            .client()
            .await?
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        match request.send().await {
            Ok(_) => Ok(()),
            // It was completed before, and the answer was lost.
            Err(error) if error.code() == Some("NoSuchUpload") => match self.try_head(key).await {
                Ok(entry) if entry.size == length => Ok(()),
                Ok(_) | Err(_) => Err(Trouble::of_sdk(error)),
            },
            Err(error) => Err(Trouble::of_sdk(error)),
        }
    }

    /// What remains of an upload costs money until it is given up. What went wrong before is what
    /// the caller hears of.
    async fn give_up(&self, key: &str, upload: &str) {
        let Ok(client) = self.client().await else { return };
        let request = client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.object(key))
            .upload_id(upload);
        if let Err(error) = request.send().await {
            let reason = Trouble::of_sdk(error).reason;
            tracing::warn!(key, %reason, "an unfinished upload stays behind");
        }
    }
}

#[async_trait]
impl Store for S3 {
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

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let looked = async {
            // For those that take no notice of the condition.
            match self.try_head(key).await {
                Ok(_) => Ok(false),
                Err(absent) if absent.kind == Kind::NotFound => {
                    self.try_put(key, content, true).await
                }
                Err(other) => Err(other),
            }
        };
        looked.await.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let attempt = || async {
            let started = self.try_start(key).await;
            started.map_err(|trouble| self.error(Operation::Put, key, trouble))
        };
        let upload = self.retries.run(Operation::Put, key, 0, attempt).await?;
        let done = self.upload(key, &upload, content).await;
        if done.is_err() {
            self.give_up(key, &upload).await;
        }
        done
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        let entry = self.try_head(key).await;
        entry.map_err(|trouble| self.error(Operation::Head, key, trouble))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.retries.pages(prefix, move |token| async move {
            let page = self.try_page(prefix, token.as_deref()).await;
            page.map_err(|trouble| self.error(Operation::List, prefix, trouble))
        })
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.try_delete(key).await;
        deleted.map_err(|trouble| self.error(Operation::Delete, key, trouble))
    }
}

impl From<RangeProblem> for Trouble {
    fn from(problem: RangeProblem) -> Self {
        Self::new(problem.kind, problem.reason)
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// S3 encodes the names in a listing as forms do.
fn url_decoded(name: &str) -> Result<String, Trouble> {
    let spaced = name.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Trouble::new(Kind::Failing, "a name is listed that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with this.
    fn answering(body: String) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = io::Read::read(&mut stream, &mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]);
                assert!(request.starts_with("GET /b2api/v3/b2_authorize_account "), "{request}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn an_account_of_backblaze_s_leads_to_its_s3() {
        use volsync_testing::servers::{S3_KEYS, Server};
        let server = Server::s3();
        let accounts = answering(format!(
            r#"{{"authorizationToken": "secret", "apiInfo": {{"storageApi": {{"s3ApiUrl": "http://{}"}}}}}}"#,
            server.address()
        ));
        let keys = [("B2_ACCOUNT_ID", S3_KEYS.0), ("B2_ACCOUNT_KEY", S3_KEYS.1)];
        let settings = crate::Settings::new(keys.map(|(name, key)| (name.into(), key.into())));
        let retries = Retries::new(
            crate::Patience::default(),
            "b2:bucket:path".to_owned(),
            crate::Settings::default(),
        );
        let connect = Connect::backblaze(Some(accounts), settings, None);
        let store = S3::new("bucket".to_owned(), "path".to_owned(), connect, retries);
        store.create().await.unwrap();
        store.put("config", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(store.get("config", None).await.unwrap(), "x");
    }

    #[test]
    fn names_in_listings_are_decoded() {
        assert_eq!(url_decoded("a%2Bb+c%252F/%C3%BC").unwrap(), "a+b c%2F/ü");
        assert!(url_decoded("%ff").is_err());
    }
}
