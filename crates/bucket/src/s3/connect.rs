//! From an endpoint and credentials to a client: region, style of addresses, certificates.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::SdkError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::backblaze;
use super::trouble::Trouble;
use crate::error::Kind;
use crate::settings::Settings;
use crate::trusted;

/// What S3 takes a bucket to be in that says nothing.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// How long no byte may move while content does.
const STALLED: Duration = Duration::from_secs(60);

/// How to connect to a bucket.
#[derive(Clone)]
pub(crate) struct Connect {
    endpoint: String,
    /// Whether the endpoint is the one that knows Backblaze's accounts, and not one of S3.
    backblaze: bool,
    settings: Settings,
    ca: Option<PathBuf>,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A client, and the region it signs for.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) region: String,
}

impl Connect {
    /// How to connect to an endpoint (`https://host:port`).
    pub(crate) fn new(endpoint: String, settings: Settings, ca: Option<PathBuf>) -> Self {
        Self { endpoint, backblaze: false, settings, ca }
    }

    /// How to connect to the S3 of an account of Backblaze's, which `accounts` knows
    /// (`https://host`; Backblaze's own unless it says otherwise).
    pub(crate) fn backblaze(
        accounts: Option<String>,
        settings: Settings,
        ca: Option<PathBuf>,
    ) -> Self {
        let endpoint = accounts.unwrap_or_else(|| backblaze::ACCOUNTS.to_owned());
        Self { endpoint, backblaze: true, settings, ca }
    }

    /// The checksum that servers which are not Amazon's also understand. Amazon's SDK adds its own.
    pub(super) fn content_md5(&self, content: &[u8]) -> Option<String> {
        (!is_amazon(&self.endpoint)).then(|| STANDARD.encode(Md5::digest(content)))
    }

    pub(super) async fn connect(&self, bucket: &str) -> Result<Connected, Trouble> {
        if !self.backblaze {
            return self.connect_to_s3(bucket).await;
        }
        let (endpoint, settings) =
            backblaze::authorize(&self.endpoint, &self.settings, self.ca.as_deref()).await?;
        Self::new(endpoint, settings, self.ca.clone()).connect_to_s3(bucket).await
    }

    async fn connect_to_s3(&self, bucket: &str) -> Result<Connected, Trouble> {
        let known = self.settings.get("AWS_DEFAULT_REGION").or_else(|| region_of(&self.endpoint));
        let base = self.base(known.unwrap_or(DEFAULT_REGION)).await?;
        let client = self.client(&base, bucket, known.unwrap_or(DEFAULT_REGION));
        if let Some(region) = known {
            return Ok(Connected { client, region: region.to_owned() });
        }
        match discover(&client, bucket).await? {
            Some(region) if region != DEFAULT_REGION => {
                Ok(Connected { client: self.client(&base, bucket, &region), region })
            }
            _ => Ok(Connected { client, region: DEFAULT_REGION.to_owned() }),
        }
    }

    /// What clients of the store and of the token service share.
    async fn base(&self, region: &str) -> Result<SdkConfig, Trouble> {
        let get = |name| self.settings.get(name);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .http_client(self.http_client()?)
            // Whoever calls tries again; two would multiply.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled().grace_period(STALLED).build(),
            );
        match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                let token = get("AWS_SESSION_TOKEN").map(str::to_owned);
                let keys = Credentials::new(id, secret, token, None, "repository's Secret");
                loader = loader.credentials_provider(SharedCredentialsProvider::new(keys));
            }
            (None, None) => {
                if let Some(profile) = get("AWS_PROFILE") {
                    loader = loader.profile_name(profile);
                }
            }
            (Some(_), None) => {
                return Err(Trouble::new(Kind::Invalid, "AWS_SECRET_ACCESS_KEY is missing"));
            }
            (None, Some(_)) => {
                return Err(Trouble::new(Kind::Invalid, "AWS_ACCESS_KEY_ID is missing"));
            }
        }
        let base = loader.load().await;
        let Some(role) = get("RESTIC_AWS_ASSUME_ROLE_ARN") else {
            return Ok(base);
        };
        let mut token_service = base.to_builder();
        token_service
            .set_endpoint_url(get("RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT").map(str::to_owned));
        let mut assume = AssumeRoleProvider::builder(role).configure(&token_service.build());
        if let Some(region) = get("RESTIC_AWS_ASSUME_ROLE_REGION") {
            assume = assume.region(Region::new(region.to_owned()));
        }
        if let Some(name) = get("RESTIC_AWS_ASSUME_ROLE_SESSION_NAME") {
            assume = assume.session_name(name);
        }
        if let Some(id) = get("RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID") {
            assume = assume.external_id(id);
        }
        if let Some(policy) = get("RESTIC_AWS_ASSUME_ROLE_POLICY") {
            assume = assume.policy(policy);
        }
        let provider = SharedCredentialsProvider::new(assume.build().await);
        Ok(base.into_builder().credentials_provider(provider).build())
    }

    fn client(&self, base: &SdkConfig, bucket: &str, region: &str) -> Client {
        let amazon = is_amazon(&self.endpoint);
        let mut config = aws_sdk_s3::config::Builder::from(base)
            .region(Region::new(region.to_owned()))
            // A name with dots does not fit the certificate of one host a bucket.
            .force_path_style(!amazon || bucket.contains('.'));
        if !amazon {
            // Others do not know the checksums of new SDKs.
            config = config
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        if !amazon || region_of(&self.endpoint).is_none() && !is_plain_amazon(&self.endpoint) {
            config = config.endpoint_url(&self.endpoint);
        }
        Client::from_conf(config.build())
    }

    fn http_client(&self) -> Result<SharedHttpClient, Trouble> {
        let pem = trusted::pem(self.ca.as_deref());
        let pem = pem.map_err(|why| Trouble::new(Kind::Invalid, why))?;
        let trusted = TrustStore::empty().with_pem_certificate(pem);
        let tls = TlsContext::builder()
            .with_trust_store(trusted)
            .build()
            .map_err(|error| Trouble::new(Kind::Invalid, error.to_string()))?;
        Ok(Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|known| known.sleep_impl()));
            connector
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(tls.clone())
                .build()
        }))
    }
}

/// Asks where a bucket is, as restic does, when nobody says. `None` if the server does not say.
async fn discover(client: &Client, bucket: &str) -> Result<Option<String>, Trouble> {
    let by_head = match client.head_bucket().bucket(bucket).send().await {
        Ok(answer) => answer.bucket_region,
        Err(error) => match said_region(&error) {
            Some(region) => Some(region),
            None => ignoring_refusals(Trouble::of_sdk(error))?,
        },
    };
    if by_head.is_some() {
        return Ok(by_head);
    }
    match client.get_bucket_location().bucket(bucket).send().await {
        Ok(answer) => Ok(answer
            .location_constraint
            .map(|region| region.as_str().to_owned())
            .filter(|region| !region.is_empty())),
        Err(error) => match said_region(&error) {
            Some(region) => Ok(Some(region)),
            None => ignoring_refusals(Trouble::of_sdk(error)),
        },
    }
}

/// The server has spoken, only not of its region: what else is wrong shows in what follows.
fn ignoring_refusals(trouble: Trouble) -> Result<Option<String>, Trouble> {
    match trouble.kind {
        Kind::Unreachable | Kind::Untrusted | Kind::Throttled | Kind::Failing => Err(trouble),
        _ => Ok(None),
    }
}

/// A server that was asked in the wrong region says the right one, in a header or in words.
fn said_region<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    let answer = error.raw_response()?;
    if let Some(region) = answer.headers().get("x-amz-bucket-region") {
        return Some(region.to_owned());
    }
    let body = str::from_utf8(answer.body().bytes()?).ok()?;
    let (_, rest) = body.split_once("<Region>")?;
    let (region, _) = rest.split_once("</Region>")?;
    Some(region.to_owned()).filter(|region| !region.is_empty())
}

fn host_of(endpoint: &str) -> &str {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    host.split(':').next().unwrap_or(host)
}

fn is_amazon(endpoint: &str) -> bool {
    let host = host_of(endpoint);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

/// The name of S3 that is the same everywhere.
fn is_plain_amazon(endpoint: &str) -> bool {
    host_of(endpoint) == "s3.amazonaws.com"
}

/// The region that one of Amazon's hosts names.
fn region_of(endpoint: &str) -> Option<&str> {
    let host = host_of(endpoint);
    let name = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let region = name.strip_prefix("s3.dualstack.").or_else(|| name.strip_prefix("s3."));
    let region = region.or_else(|| name.strip_prefix("s3-"))?;
    (region.contains('-') && !region.contains('.')).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_amazon_names_its_region() {
        for (endpoint, region) in [
            ("https://s3.amazonaws.com", None),
            ("https://s3.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("https://s3-us-west-2.amazonaws.com", Some("us-west-2")),
            ("https://s3.dualstack.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("https://s3.eu-central-1.wasabisys.com", None),
            ("http://localhost:9000", None),
        ] {
            assert_eq!(region_of(endpoint), region, "{endpoint}");
        }
        assert!(is_amazon("https://s3.amazonaws.com"));
        assert!(!is_amazon("https://s3.amazonaws.com.example.org:443"));
    }

    #[tokio::test]
    async fn half_a_pair_of_keys_is_a_mistake() {
        let settings = Settings::new([("AWS_ACCESS_KEY_ID".to_owned(), "AKIA".to_owned())]);
        let connect = Connect::new("http://127.0.0.1:1".to_owned(), settings, None);
        let trouble = connect.connect("bucket").await.unwrap_err();
        assert_eq!(trouble.kind, Kind::Invalid);
        assert_eq!(trouble.reason, "AWS_SECRET_ACCESS_KEY is missing");
    }
}
