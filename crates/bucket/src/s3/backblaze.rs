//! From Backblaze's own credentials to its S3: one question, `b2_authorize_account` (Backblaze's
//! native API, version 3), says where it is.

use std::path::Path;

use serde::Deserialize;

use super::trouble::Trouble;
use crate::error::Kind;
use crate::http::{self, answer, client, content};
use crate::settings::Settings;

/// Where accounts are asked for.
pub(super) const ACCOUNTS: &str = "https://api.backblazeb2.com";

/// The longest answer that is believed, in bytes.
const LONGEST: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorized {
    api_info: ApiInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiInfo {
    storage_api: StorageApi,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StorageApi {
    s3_api_url: String,
}

/// The endpoint of an account's S3, and the settings to use it with. An application key is both: a
/// key of Backblaze's API and one of its S3. The account's master key is only the former.
pub(super) async fn authorize(
    accounts: &str,
    settings: &Settings,
    ca: Option<&Path>,
) -> Result<(String, Settings), Trouble> {
    let get = |name: &str| {
        let missing = || Trouble::new(Kind::Invalid, format!("{name} is missing"));
        settings.get(name).ok_or_else(missing)
    };
    let (id, key) = (get("B2_ACCOUNT_ID")?, get("B2_ACCOUNT_KEY")?);
    let client = client(ca).map_err(|why| Trouble::new(Kind::Invalid, why))?;
    let request =
        client.get(format!("{accounts}/b2api/v3/b2_authorize_account")).basic_auth(id, Some(key));
    let told = async {
        let answer = answer(request.send().await)?;
        content(answer, LONGEST).await
    };
    let told = told.await.map_err(|trouble: http::Trouble| {
        let reason = format!("Backblaze was asked for the account: {}", trouble.reason);
        Trouble::new(trouble.kind, reason)
    })?;
    // The answer holds a token: no word of it is repeated.
    let told: Authorized = serde_json::from_slice(&told).map_err(|_| {
        Trouble::new(Kind::Failing, "Backblaze's answer does not say where the account's S3 is")
    })?;
    let endpoint = told.api_info.storage_api.s3_api_url;
    let mut there = Settings::default();
    there.insert("AWS_ACCESS_KEY_ID", id);
    there.insert("AWS_SECRET_ACCESS_KEY", key);
    if let Some(region) = region_of(&endpoint) {
        there.insert("AWS_DEFAULT_REGION", region);
    }
    Ok((endpoint, there))
}

/// The region that a host of Backblaze's names: `https://s3.REGION.backblazeb2.com`.
fn region_of(endpoint: &str) -> Option<&str> {
    endpoint.split_once("://s3.")?.1.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_backblaze_names_its_region() {
        assert_eq!(region_of("https://s3.us-west-004.backblazeb2.com"), Some("us-west-004"));
        assert_eq!(region_of("http://127.0.0.1:9000"), None);
    }

    #[tokio::test]
    async fn half_a_pair_of_keys_is_a_mistake() {
        let settings = Settings::new([("B2_ACCOUNT_ID".to_owned(), "id".to_owned())]);
        let trouble = authorize("http://127.0.0.1:1", &settings, None).await.unwrap_err();
        assert_eq!(
            (trouble.kind, trouble.reason.as_str()),
            (Kind::Invalid, "B2_ACCOUNT_KEY is missing")
        );
    }
}
