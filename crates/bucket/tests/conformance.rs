//! What every store promises, held against each of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: what goes wrong ends the test"
)]

mod promises;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use volsync_bucket::{Kind, Location, Memory, Recording, Settings, Store, open};
use volsync_testing::Scratch;
use volsync_testing::http_proxy::HttpProxy;
use volsync_testing::keys::{KeyKind, KeyPair};
use volsync_testing::keystone::{self, Keystone};
use volsync_testing::proxy::Proxy;
use volsync_testing::servers::{AZURE_ACCOUNT, REST_USER, S3_KEYS, Server, SftpServer};
use volsync_testing::swift_server::SwiftServer;

use promises::{Names, keeps_all};

#[tokio::test]
async fn memory_keeps_every_promise() {
    keeps_all(&Memory::new(), Names::Any).await;
}

#[tokio::test]
async fn a_recording_store_keeps_every_promise_of_what_is_behind_it() {
    keeps_all(&Recording::new(Arc::new(Memory::new())), Names::Any).await;
}

#[tokio::test]
async fn a_directory_keeps_every_promise() {
    let scratch = Scratch::new();
    let location = Location::Directory { path: scratch.join("repo") };
    let store = open(&location, &Settings::default(), None).unwrap();
    keeps_all(store.as_ref(), Names::Any).await;
}

fn settings(all: &[(&str, &str)]) -> Settings {
    Settings::new(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[tokio::test]
async fn a_bucket_keeps_every_promise() {
    let server = Server::s3();
    let keys = [("AWS_ACCESS_KEY_ID", S3_KEYS.0), ("AWS_SECRET_ACCESS_KEY", S3_KEYS.1)];
    let whole = Location::parse(&format!("s3:http://{}/whole", server.address())).unwrap();
    keeps_all(open(&whole, &settings(&keys), None).unwrap().as_ref(), Names::Unencoded).await;
    let path = Location::parse(&format!("s3:http://{}/bucket/a b/c", server.address())).unwrap();
    let store = open(&path, &settings(&keys), None).unwrap();
    store.create().await.unwrap();
    let beside = Location::parse(&format!("s3:http://{}/bucket/a b", server.address())).unwrap();
    let beside = open(&beside, &settings(&keys), None).unwrap();
    beside.put("cc/not ours", "x".into()).await.unwrap();
    keeps_all(store.as_ref(), Names::Unencoded).await;
    assert_eq!(beside.get("cc/not ours", None).await.unwrap(), "x");
}

#[tokio::test]
async fn a_rest_server_keeps_every_promise_about_the_files_of_a_repository() {
    let server = Server::rest();
    let (user, password) = REST_USER;
    let location =
        Location::parse(&format!("rest:http://{user}:{password}@{}/a/repo", server.address()));
    let store = open(&location.unwrap(), &Settings::default(), None).unwrap();
    keeps_all(store.as_ref(), Names::Restic).await;
}

#[tokio::test]
async fn an_azure_container_keeps_every_promise() {
    let server = Server::azure();
    let (account, key) = AZURE_ACCOUNT;
    let endpoint = format!("http://{}/{account}", server.address());
    let given = [
        ("AZURE_ACCOUNT_NAME", account),
        ("AZURE_ACCOUNT_KEY", key),
        ("AZURE_ENDPOINT_SUFFIX", &endpoint),
    ];
    let whole = Location::parse("azure:whole:/").unwrap();
    keeps_all(open(&whole, &settings(&given), None).unwrap().as_ref(), Names::Printable).await;
    let path = Location::parse("azure:container:/a b/c").unwrap();
    let store = open(&path, &settings(&given), None).unwrap();
    store.create().await.unwrap();
    let beside = Location::parse("azure:container:/a b").unwrap();
    let beside = open(&beside, &settings(&given), None).unwrap();
    beside.put("cc/not ours", "x".into()).await.unwrap();
    keeps_all(store.as_ref(), Names::Printable).await;
    assert_eq!(beside.get("cc/not ours", None).await.unwrap(), "x");
}

#[tokio::test]
async fn azure_says_what_is_wrong() {
    let server = Server::azure();
    let (account, key) = AZURE_ACCOUNT;
    let endpoint = format!("http://{}/{account}", server.address());
    let location = Location::parse("azure:nowhere:/").unwrap();
    let with = |key: &str| {
        let given = [
            ("AZURE_ACCOUNT_NAME", account),
            ("AZURE_ACCOUNT_KEY", key),
            ("AZURE_ENDPOINT_SUFFIX", &endpoint),
        ];
        open(&location, &settings(&given), None)
    };
    let store = with(key).unwrap();
    for error in [
        store.get("config", None).await.unwrap_err(),
        store.head("config").await.unwrap_err(),
        store.put("config", "x".into()).await.unwrap_err(),
        store.list("").next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NoBucket, "{error}");
    }
    let other = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=";
    let refused = with(other).unwrap().get("config", None).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    assert!(!refused.to_string().contains(other), "{refused}");
    let nonsense = with("not base64!").unwrap_err();
    assert_eq!(nonsense.kind(), Kind::Invalid, "{nonsense}");
    let missing = open(&location, &Settings::default(), None).unwrap_err();
    assert!(missing.to_string().ends_with("AZURE_ACCOUNT_NAME is missing"), "{missing}");
}

/// Google's dialect is the one of S3 (Cloud Storage's XML API), so a server of S3 stands in for it.
#[tokio::test]
async fn a_google_bucket_keeps_every_promise() {
    let server = Server::anonymous_s3();
    let proxy = HttpProxy::start(server.address(), 1);
    let scratch = Scratch::new();
    let file = scratch.join("gcs.json");
    let credentials = format!(
        r#"{{"gcs_base_url": "http://{}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#,
        proxy.address()
    );
    std::fs::write(&file, credentials).unwrap();
    std::fs::create_dir(server.directory().join("bucket")).unwrap();
    let given = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    let location = Location::parse("gs:bucket:/a/b").unwrap();
    let store = open(&location, &settings(&given), None).unwrap();
    keeps_all(store.as_ref(), Names::Printable).await;
    let nowhere = Location::parse("gs:nowhere:/").unwrap();
    let nowhere = open(&nowhere, &settings(&given), None).unwrap();
    assert_eq!(nowhere.get("config", None).await.unwrap_err().kind(), Kind::NoBucket);
    let create = nowhere.create().await.unwrap_err().to_string();
    assert!(create.contains("GOOGLE_PROJECT_ID"), "{create}");
}

#[tokio::test]
async fn a_swift_container_keeps_every_promise() {
    let server = SwiftServer::start();
    let auth = server.auth_url();
    let given = [("ST_AUTH", auth.as_str()), ("ST_USER", server.user()), ("ST_KEY", server.key())];
    let at = |location: &str| {
        open(&Location::parse(location).unwrap(), &settings(&given), None).unwrap()
    };
    let whole = at("swift:whole:/");
    whole.create().await.unwrap();
    whole.put("a b/c", "x".into()).await.unwrap();
    let listed: Vec<_> = whole.list("a ").try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["a b/c"]);
    let store = at("swift:container:/a b/c");
    store.create().await.unwrap();
    let beside = at("swift:container:/a b");
    beside.put("cc/not ours", "x".into()).await.unwrap();
    keeps_all(store.as_ref(), Names::Any).await;
    assert_eq!(beside.get("cc/not ours", None).await.unwrap(), "x");
}

#[tokio::test]
async fn swift_is_opened_in_every_way_that_openstack_has() {
    let server = SwiftServer::start();
    let keystone = Keystone::start(&server.auth_url(), server.user(), server.key());
    let (bare, v2, v3) = (keystone.url(""), keystone.url("v2.0"), keystone.url("v3"));
    let (bare, v2, v3) = (("OS_AUTH_URL", &*bare), ("OS_AUTH_URL", &*v2), ("OS_AUTH_URL", &*v3));
    let (storage, token) = keystone.account();
    let user = ("OS_USERNAME", keystone::USER);
    let user_id = ("OS_USER_ID", keystone::USER_ID);
    let password = ("OS_PASSWORD", keystone::PASSWORD);
    let domain = ("OS_USER_DOMAIN_NAME", keystone::DOMAIN);
    let project = ("OS_PROJECT_NAME", keystone::PROJECT);
    let project_domain = ("OS_PROJECT_DOMAIN_NAME", keystone::PROJECT_DOMAIN);
    let region = ("OS_REGION_NAME", keystone::REGION);
    let (id, name, secret) = keystone::CREDENTIAL;
    let (id, name, secret) = (
        ("OS_APPLICATION_CREDENTIAL_ID", id),
        ("OS_APPLICATION_CREDENTIAL_NAME", name),
        ("OS_APPLICATION_CREDENTIAL_SECRET", secret),
    );
    let (auth, storage_url) = (server.auth_url(), ("OS_STORAGE_URL", storage));
    for given in [
        vec![v2, user, password, ("OS_TENANT_NAME", keystone::PROJECT), region],
        vec![v2, user, password, ("OS_TENANT_ID", keystone::PROJECT_ID), region],
        vec![v3, user, password, domain, project, project_domain, region],
        vec![bare, user, password, domain, project, project_domain, region],
        vec![v3, user_id, password, ("OS_PROJECT_ID", keystone::PROJECT_ID), region],
        vec![v3, user_id, password, ("OS_TRUST_ID", keystone::TRUST), region],
        vec![v3, id, secret, region],
        vec![v3, name, secret, user, domain, region],
        // Without a project there is no catalog, and so none of its addresses.
        vec![v3, user_id, password, storage_url],
        vec![storage_url, ("OS_AUTH_TOKEN", token)],
        vec![
            ("RCLONE_CONFIG_CLOUD_TYPE", "swift"),
            ("RCLONE_CONFIG_CLOUD_AUTH", auth.as_str()),
            ("RCLONE_CONFIG_CLOUD_USER", server.user()),
            ("RCLONE_CONFIG_CLOUD_KEY", server.key()),
        ],
    ] {
        let location = match given[0].0 {
            "RCLONE_CONFIG_CLOUD_TYPE" => "rclone:cloud:container/a",
            _ => "swift:container:/a",
        };
        let location = Location::parse(location).unwrap();
        let store = open(&location, &settings(&given), None).unwrap();
        let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        store.create().await.unwrap_or_else(|error| panic!("{names:?}: {error}"));
        store.put("config", "x".into()).await.unwrap();
        assert_eq!(store.get("config", None).await.unwrap(), "x", "{names:?}");
    }
}

#[tokio::test]
async fn swift_says_what_is_wrong() {
    let server = SwiftServer::start();
    let keystone = Keystone::start(&server.auth_url(), server.user(), server.key());
    let (auth, v3) = (server.auth_url(), keystone.url("v3"));
    let with = |given: &[(&str, &str)]| {
        open(&Location::parse("swift:nowhere:/").unwrap(), &settings(given), None).unwrap()
    };
    let by_key = |key: &str| {
        with(&[("ST_AUTH", auth.as_str()), ("ST_USER", server.user()), ("ST_KEY", key)])
    };
    let store = by_key(server.key());
    for error in [
        store.get("config", None).await.unwrap_err(),
        store.head("config").await.unwrap_err(),
        store.put("config", "x".into()).await.unwrap_err(),
        store.delete("config").await.unwrap_err(),
        store.list("").next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NoBucket, "{error}");
    }
    let refused = by_key("a-wrong-key").create().await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    assert!(refused.reason().starts_with("ST_AUTH was asked for a token: "), "{refused}");
    let (storage, _) = keystone.account();
    let token = with(&[("OS_STORAGE_URL", storage), ("OS_AUTH_TOKEN", "a-token-that-ended")]);
    let refused = token.get("config", None).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    assert!(refused.reason().starts_with("OS_AUTH_TOKEN is refused: "), "{refused}");
    assert!(!format!("{refused:?} {token:?}").contains("a-token-that-ended"), "{refused}");
    let by_id = |password: &str, more: &[(&str, &str)]| {
        let user = ("OS_USER_ID", keystone::USER_ID);
        let mut given = vec![("OS_AUTH_URL", v3.as_str()), user, ("OS_PASSWORD", password)];
        given.extend_from_slice(more);
        with(&given)
    };
    let refused = by_id("a-wrong-password", &[]).get("config", None).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Forbidden, "{refused}");
    assert!(refused.reason().contains("requires authentication"), "{refused}");
    let project = ("OS_TENANT_ID", keystone::PROJECT_ID);
    for (more, reason) in [
        (vec![], "the catalog has no object store: "),
        (vec![project, ("OS_REGION_NAME", "there")], "object stores in: elsewhere, here"),
    ] {
        let invalid = by_id(keystone::PASSWORD, &more).get("config", None).await.unwrap_err();
        assert_eq!(invalid.kind(), Kind::Invalid, "{invalid}");
        assert!(invalid.reason().contains(reason), "{invalid}");
    }
    let not_keystone = keystone.url("here");
    let invalid = with(&[
        ("OS_AUTH_URL", not_keystone.as_str()),
        ("OS_USER_ID", keystone::USER_ID),
        ("OS_PASSWORD", keystone::PASSWORD),
    ]);
    // What is not there is Keystone, and no object.
    let invalid = invalid.get("config", None).await.unwrap_err();
    assert_eq!(invalid.kind(), Kind::Invalid, "{invalid}");
    let policy = [
        ("ST_AUTH", auth.as_str()),
        ("ST_USER", server.user()),
        ("ST_KEY", server.key()),
        ("SWIFT_DEFAULT_CONTAINER_POLICY", "none-of-this-name"),
    ];
    let invalid = with(&policy).create().await.unwrap_err();
    assert_eq!(invalid.kind(), Kind::Invalid, "{invalid}");
    assert!(invalid.reason().contains("none-of-this-name"), "{invalid}");
}

#[tokio::test]
async fn a_token_of_swift_s_is_had_anew_by_one_when_it_ends() {
    let server = SwiftServer::start();
    let keystone = Keystone::start(&server.auth_url(), server.user(), server.key());
    let url = keystone.url("v3");
    let given = [
        ("OS_AUTH_URL", url.as_str()),
        ("OS_USER_ID", keystone::USER_ID),
        ("OS_PASSWORD", keystone::PASSWORD),
        ("OS_TENANT_ID", keystone::PROJECT_ID),
        ("OS_REGION_NAME", keystone::REGION),
    ];
    let location = Location::parse("swift:container:/").unwrap();
    let opened = || open(&location, &settings(&given), None).unwrap();
    opened().create().await.unwrap();
    assert_eq!(keystone.asked(), 1);

    keystone.hand_out_once("a-token-that-ended");
    let store = opened();
    let keys: Vec<String> = (0..8).map(|number| format!("keys/{number}")).collect();
    let puts = keys.iter().map(|key| store.put(key, Bytes::from_static(b"x")));
    futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(keystone.asked(), 3, "one token that is refused, and one in its place");
    assert!(store.get("keys/7", None).await.is_ok());
    assert_eq!(keystone.asked(), 3);

    keystone.hand_out_for(0);
    let store = opened();
    for _ in 0..2 {
        store.head("keys/7").await.unwrap();
    }
    assert_eq!(keystone.asked(), 5, "what is over is not used");
}

/// A directory of a server, reached at this address with these two settings.
fn behind_ssh(
    server: &SftpServer,
    address: SocketAddr,
    directory: &Path,
    private_key: &str,
    known_hosts: &str,
) -> Arc<dyn Store> {
    let text = format!("sftp://{}@{address}/{}", server.user(), directory.display());
    let given = [("SFTP_PRIVATE_KEY", private_key), ("SFTP_KNOWN_HOSTS", known_hosts)];
    open(&Location::parse(&text).unwrap(), &settings(&given), None).unwrap()
}

#[tokio::test]
async fn a_directory_behind_ssh_keeps_every_promise() {
    let server = SftpServer::start();
    let (address, directory) = (server.address(), server.directory().join("a b/repo"));
    let known = server.known_hosts(address);
    let store = behind_ssh(&server, address, &directory, server.private_key(), &known);
    keeps_all(store.as_ref(), Names::Any).await;
}

#[tokio::test]
async fn ssh_says_what_is_wrong() {
    let server = SftpServer::start();
    let (address, directory) = (server.address(), server.directory());
    let (known, key) = (server.known_hosts(address), server.private_key());
    let other = KeyPair::new(KeyKind::Ed25519);
    let others = format!("[{}]:{} {}", address.ip(), address.port(), other.public);

    let store = behind_ssh(&server, address, &directory, key, &others);
    let error = store.get("config", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Untrusted, "{error}");
    assert!(error.reason().contains("SHA256:"), "{error}");
    let revoked = format!("{known}\n@revoked * {}", known.split_once(' ').unwrap().1);
    let store = behind_ssh(&server, address, &directory, key, &revoked);
    let error = store.get("config", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Untrusted, "{error}");

    let store = behind_ssh(&server, address, &directory, &other.private, &known);
    let error = store.get("config", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}\n{}", server.log());
    assert!(error.reason().contains("SFTP_PRIVATE_KEY"), "{error}");

    let store = behind_ssh(&server, address, &directory.join("missing"), key, &known);
    for error in [
        store.get("config", None).await.unwrap_err(),
        store.head("data/ab/abcd").await.unwrap_err(),
        store.put("data/ab/abcd", "x".into()).await.unwrap_err(),
        store.delete("config").await.unwrap_err(),
        store.list("").next().await.unwrap().unwrap_err(),
        store.list("data/").next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NoBucket, "{error}");
    }
    assert!(!directory.join("missing").exists(), "writing makes no bucket");
}

#[tokio::test]
async fn what_is_no_file_behind_ssh_is_no_object() {
    let server = SftpServer::start();
    let (address, directory) = (server.address(), server.directory());
    let known = server.known_hosts(address);
    let store = behind_ssh(&server, address, &directory, server.private_key(), &known);
    store.put("data/ab/abcd", "x".into()).await.unwrap();
    std::os::unix::fs::symlink(directory.join("data/ab/abcd"), directory.join("link")).unwrap();
    std::fs::create_dir(directory.join("lost+found")).unwrap();
    std::fs::write(directory.join("lost+found/#1"), "").unwrap();
    std::fs::write(directory.join("data/.volsync-unfinished-00"), "").unwrap();
    for key in ["data", "data/ab", "link", "data/ab/abcd/deeper"] {
        assert_eq!(store.head(key).await.unwrap_err().kind(), Kind::NotFound, "{key}");
        assert_eq!(store.get(key, None).await.unwrap_err().kind(), Kind::NotFound, "{key}");
    }
    assert_eq!(store.put("data", "x".into()).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.put("data/ab/abcd/e", "x".into()).await.unwrap_err().kind(), Kind::Invalid);
    store.delete("data").await.unwrap();
    let keys = promises::keys(store.as_ref(), "").await;
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["data/ab/abcd"]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_and_leaves_nothing() {
    let server = SftpServer::start();
    let proxy = Proxy::start(server.address(), Duration::ZERO);
    let directory = server.directory();
    let known = server.known_hosts(proxy.address());
    let store = behind_ssh(&server, proxy.address(), &directory, server.private_key(), &known);
    let content = Bytes::from((0..6_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
    store.put("data/ab/first", content.clone()).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.cut_after(proxy.sent() + 3_000_000);
    store.put("data/ab/second", content.clone()).await.unwrap();
    assert_eq!(proxy.connections(), 2);
    assert!(store.get("data/ab/second", None).await.unwrap() == content);
    let patience = Instant::now() + Duration::from_secs(20);
    while std::fs::read_dir(directory.join("data/ab")).unwrap().count() > 2 {
        assert!(Instant::now() < patience, "an unfinished file stays behind");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
