//! What stores do when the network or the server fails: bounded time, the right kind, no secrets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: what goes wrong ends the test"
)]

#[path = "faults/server.rs"]
mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use volsync_bucket::{Entry, Error, Kind, Location, Patience, Settings, Store, open_with};

use server::{Answer, Server, status, with_body};

const SECRETS: [&str; 3] = ["hunter22-secret-key", "hunter22-token", "hunter22-password"];

const PATIENCE: Patience = Patience {
    unanswered: Duration::from_secs(2),
    answered: Duration::from_secs(2),
    attempt: Duration::from_millis(700),
    first_delay: Duration::from_millis(10),
    longest_delay: Duration::from_millis(100),
};

/// Longer than any call may take with this patience: the last attempt may begin just before the end.
const BOUND: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    S3,
    Rest,
    Swift,
}

const ALL: [Service; 3] = [Service::S3, Service::Rest, Service::Swift];

fn store_at(service: Service, origin: &str, ca: Option<PathBuf>) -> Arc<dyn Store> {
    let text = match service {
        Service::S3 => format!("s3:{origin}/bucket/path"),
        Service::Rest => {
            let (scheme, host) = origin.split_once("://").unwrap();
            format!("rest:{scheme}://user:{}@{host}/path/", SECRETS[2])
        }
        Service::Swift => "swift:container:/path".to_owned(),
    };
    let storage = format!("{origin}/v1/AUTH_test");
    let settings = Settings::new(
        [
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", SECRETS[0]),
            ("AWS_SESSION_TOKEN", SECRETS[1]),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("OS_STORAGE_URL", storage.as_str()),
            ("OS_AUTH_TOKEN", SECRETS[1]),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    open_with(&Location::parse(&text).unwrap(), &settings, ca, PATIENCE).unwrap()
}

fn store(service: Service, server: &Server) -> Arc<dyn Store> {
    store_at(service, &format!("http://{}", server.address()), None)
}

fn no_secret_in(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{text}");
    }
}

/// What a failing call says, having taken bounded time.
async fn failure<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) -> Error {
    let started = Instant::now();
    let error = call.await.unwrap_err();
    assert!(started.elapsed() < BOUND, "{:?}: {error}", started.elapsed());
    no_secret_in(&format!("{error} {error:?}"));
    error
}

#[tokio::test]
async fn what_passes_is_tried_again_until_it_has_passed() {
    for service in ALL {
        for fault in [
            status(500),
            status(502),
            status(503),
            status(504),
            status(429),
            with_body(503, "<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"),
            Answer::CutShort,
            Answer::Reset,
            Answer::Silence,
        ] {
            let server =
                Server::start(vec![fault.clone(), fault.clone(), with_body(200, "content")]);
            let store = store(service, &server);
            let got = store.get("keys/ab", None).await;
            assert_eq!(got.unwrap(), "content", "{service:?} {fault:?}");
            assert_eq!(server.requests().len(), 3, "{service:?} {fault:?}");
            let server = Server::start(vec![fault.clone(), status(200)]);
            let store = self::store(service, &server);
            if !matches!(fault, Answer::CutShort) {
                store.put("keys/ab", Bytes::from_static(b"content")).await.unwrap();
                assert_eq!(server.requests().len(), 2, "{service:?} {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_lasts_is_given_up_in_bounded_time_and_named() {
    for service in ALL {
        for (fault, kind) in [
            (status(500), Kind::Failing),
            (status(503), Kind::Failing),
            (status(429), Kind::Throttled),
            (Answer::CutShort, Kind::Unreachable),
            (Answer::Reset, Kind::Unreachable),
            (Answer::Silence, Kind::Unreachable),
        ] {
            let server = Server::start(vec![fault.clone()]);
            let store = store(service, &server);
            let error = failure(store.get("keys/ab", None)).await;
            assert_eq!(error.kind(), kind, "{service:?} {fault:?} {error}");
            assert!(error.reason().contains("times in"), "{error}");
            let error = failure(store.list("keys/").try_collect::<Vec<Entry>>()).await;
            assert_eq!(error.kind(), kind, "{service:?} {fault:?} {error}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_is_no_absence() {
    for service in ALL {
        for code in [401, 403] {
            let server = Server::start(vec![status(code)]);
            let store = store(service, &server);
            for error in [
                failure(store.get("keys/ab", None)).await,
                failure(store.head("keys/ab")).await,
                failure(store.delete("keys/ab")).await,
                failure(store.list("keys/").try_collect::<Vec<Entry>>()).await,
            ] {
                assert_eq!(error.kind(), Kind::Forbidden, "{service:?} {code} {error}");
            }
            assert_eq!(server.requests().len(), 4, "none is repeated");
        }
    }
}

#[tokio::test]
async fn a_missing_object_and_a_missing_bucket_are_told_apart() {
    let words = |code: &str| with_body(404, &format!("<Error><Code>{code}</Code></Error>"));
    for (answers, kind) in [
        (vec![words("NoSuchKey")], Kind::NotFound),
        (vec![words("NoSuchBucket")], Kind::NoBucket),
        // Nothing is said: the bucket is asked for.
        (vec![status(404), status(200)], Kind::NotFound),
        (vec![status(404), status(403)], Kind::NotFound),
        (vec![status(404), status(404)], Kind::NoBucket),
    ] {
        let server = Server::start(answers.clone());
        let error = failure(store(Service::S3, &server).get("keys/ab", None)).await;
        assert_eq!(error.kind(), kind, "{answers:?} {error}");
    }
    for (container, kind) in [(200, Kind::NotFound), (403, Kind::NotFound), (404, Kind::NoBucket)] {
        let server = Server::start(vec![status(404), status(container)]);
        let error = failure(store(Service::Swift, &server).get("keys/ab", None)).await;
        assert_eq!(error.kind(), kind, "{container} {error}");
    }
    let server = Server::start(vec![status(404)]);
    let rest = store(Service::Rest, &server);
    assert_eq!(failure(rest.get("keys/ab", None)).await.kind(), Kind::NotFound);
    let listed = failure(rest.list("keys/").try_collect::<Vec<Entry>>()).await;
    assert_eq!(listed.kind(), Kind::NoBucket);
}

#[tokio::test]
async fn what_swift_has_a_status_of_its_own_for_is_understood() {
    let body = Bytes::from_static(b"content");
    for (code, kind) in [(409, Kind::Failing), (422, Kind::Unreachable), (498, Kind::Throttled)] {
        let server = Server::start(vec![status(code)]);
        let error = failure(store(Service::Swift, &server).put("keys/ab", body.clone())).await;
        assert_eq!(error.kind(), kind, "{code} {error}");
        let server = Server::start(vec![status(code), status(201)]);
        store(Service::Swift, &server).put("keys/ab", body.clone()).await.unwrap();
        let requests = server.requests();
        assert_eq!(requests.len(), 2, "it is tried once more");
        let checksum = "etag: 9a0364b9e99bb480dd25e1f0284c8555";
        assert!(requests.iter().all(|put| put.to_lowercase().contains(checksum)), "{requests:?}");
    }
    for code in [202, 412] {
        let server = Server::start(vec![status(404), status(200), status(code)]);
        let store = store(Service::Swift, &server);
        assert!(!store.put_new("config", body.clone()).await.unwrap(), "{code}");
        let requests = server.requests();
        assert!(requests[2].to_lowercase().contains("if-none-match: *"), "{requests:?}");
    }
}

#[tokio::test]
async fn a_listing_of_swift_s_ends_with_an_empty_page_and_always_goes_on() {
    let page = |name: &str| with_body(200, &format!(r#"[{{"name": "path/{name}", "bytes": 7}}]"#));
    let server = Server::start(vec![page("keys/a"), page("keys/b c"), with_body(200, "[]")]);
    let listed: Vec<Entry> =
        store(Service::Swift, &server).list("keys/").try_collect().await.unwrap();
    let keys: Vec<&str> = listed.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["keys/a", "keys/b c"]);
    let last = &server.requests()[2];
    assert!(last.contains("prefix=path/keys/&marker=path/keys/b%20c "), "{last}");
    let server = Server::start(vec![page("keys/a")]);
    let listing = store(Service::Swift, &server);
    let error = failure(listing.list("keys/").try_collect::<Vec<Entry>>()).await;
    assert!(error.reason().contains("does not go on"), "{error}");
}

#[tokio::test]
async fn nobody_there_and_no_such_host_are_unreachable() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for service in ALL {
        for origin in [format!("http://{closed}"), "http://no-such-host.invalid:9000".to_owned()] {
            let store = store_at(service, &origin, None);
            let error = failure(store.get("config", None)).await;
            assert_eq!(error.kind(), Kind::Unreachable, "{service:?} {origin} {error}");
            let large = stream::iter((0..20).map(|_| Ok(Bytes::from(vec![0; 1 << 20])))).boxed();
            let error = failure(store.put_stream("keys/ab", large)).await;
            assert_eq!(error.kind(), Kind::Unreachable, "{service:?} {origin} {error}");
        }
    }
}

#[tokio::test]
async fn a_server_whose_certificate_is_unknown_is_not_trusted_until_its_authority_is() {
    let scratch = volsync_testing::Scratch::new();
    for service in ALL {
        let (server, authority) = Server::start_tls(vec![with_body(200, "content")]);
        let origin = format!("https://localhost:{}", server.address().port());
        let error = failure(store_at(service, &origin, None).get("config", None)).await;
        assert_eq!(error.kind(), Kind::Untrusted, "{service:?} {error}");
        assert!(!error.reason().contains("times in"), "it is not tried again: {error}");
        let ca = scratch.join("ca.crt");
        std::fs::write(&ca, authority).unwrap();
        let store = store_at(service, &origin, Some(ca));
        assert_eq!(store.get("config", None).await.unwrap(), "content");
    }
}

#[tokio::test]
async fn no_secret_is_printed_or_sent_in_an_address() {
    for service in ALL {
        let server = Server::start(vec![status(403)]);
        let store = store(service, &server);
        let error = failure(store.put("config", Bytes::from_static(b"x"))).await;
        no_secret_in(&format!("{store:?} {store:#?} {} {error} {error:#?}", store.location()));
        for request in server.requests() {
            no_secret_in(request.lines().next().unwrap());
        }
    }
}
