//! What every store promises, held against each of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: what goes wrong ends the test"
)]

mod promises;

use std::sync::Arc;

use volsync_bucket::{Location, Memory, Recording, Settings, open};
use volsync_testing::Scratch;
use volsync_testing::servers::{REST_USER, S3_KEYS, Server};

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
