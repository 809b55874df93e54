//! Stores that fail: what passes is got over, what lasts is told, and the repository stays whole.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

mod place;

use place::Place;
use volsync_testing::Scratch;
use volsync_testing::compare::{content, walk};
use volsync_testing::disk::SmallDisk;
use volsync_testing::http_proxy::HttpProxy;
use volsync_testing::servers::{REST_USER, S3_KEYS, Server};

/// So many of a thousand requests fail.
const FAILING: u64 = 80;
const ROUNDS: u64 = 6;

/// A repository on a server behind a proxy.
fn behind_a_proxy(
    server: &Server,
    seed: u64,
    location: impl Fn(&str) -> String,
) -> (Place, HttpProxy) {
    let proxy = HttpProxy::start(server.address(), seed);
    let secret = vec![
        ("RESTIC_REPOSITORY", location(&proxy.address().to_string())),
        ("AWS_ACCESS_KEY_ID", S3_KEYS.0.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", S3_KEYS.1.to_owned()),
        ("RESTIC_REST_USERNAME", REST_USER.0.to_owned()),
        ("RESTIC_REST_PASSWORD", REST_USER.1.to_owned()),
    ];
    (Place::with_secret(Scratch::new(), seed, secret), proxy)
}

/// Backups, prunes, verifications and restores while requests fail now and then.
fn faults_that_pass(
    server: &Server,
    (seed, directory): (u64, &str),
    location: impl Fn(&str) -> String,
) {
    let (mut place, proxy) = behind_a_proxy(server, seed, location);
    // Real restic reads the server's own files: of s3s-fs it cannot read back what it wrote itself.
    let directory = server.directory().join(directory).display().to_string();
    for round in 0..ROUNDS {
        proxy.fail(FAILING);
        let said = place.whole(place.back_up(round % 2 == 1));
        assert!(said.snapshot.is_some() && said.postponed.is_empty(), "{said:?}");
        assert_eq!(said.unverified, "");
        assert!(said.verified.is_none_or(|verified| verified.damaged == 0));
        place.whole(place.restore());
        assert_eq!(content(&place.path("restored")), content(&place.path("volume")));
        proxy.fail(0);
        place.check_in(&directory);
        place.change();
    }
    assert!(proxy.failed() > 10, "{} requests failed", proxy.failed());
    let locks = walk(&server.directory())
        .into_iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("locks")));
    assert_eq!(locks.count(), 0);
}

#[test]
fn a_bucket_that_fails_now_and_then_is_no_matter() {
    let server = Server::s3();
    faults_that_pass(&server, (1, "bucket/repository"), |address| {
        format!("s3:http://{address}/bucket/repository")
    });
}

#[test]
fn a_rest_server_that_fails_now_and_then_is_no_matter() {
    let server = Server::rest();
    faults_that_pass(&server, (2, "repository"), |address| {
        format!("rest:http://{address}/repository/")
    });
}

#[test]
fn a_store_that_refuses_midway_is_told_and_the_next_run_goes_on() {
    let server = Server::s3();
    let location = |address: &str| format!("s3:http://{address}/bucket/repository");
    let (mut place, proxy) = behind_a_proxy(&server, 3, location);
    let directory = server.directory().join("bucket/repository").display().to_string();
    place.whole(place.back_up(false));
    for round in 0..12 {
        place.change();
        proxy.refuse_after(round);
        let said = place.failure(place.back_up(false));
        assert!(said.contains("403") || said.contains("Forbidden"), "{said}");
        assert!(said.contains("are the credentials right"), "{said}");
        proxy.refuse_after(round % 6);
        let said = place.failure(place.restore());
        assert!(said.contains("are the credentials right"), "{said}");
        proxy.refuse_after(u64::MAX);
        place.check_in(&directory);
        place.whole(place.back_up(true));
        place.whole(place.restore());
        assert_eq!(content(&place.path("restored")), content(&place.path("volume")));
    }
}

#[test]
fn a_repository_whose_disk_is_full_stays_whole_and_goes_on_when_there_is_room() {
    let disk = SmallDisk::new(24 << 20);
    let repository = disk.path().join("repository").display().to_string();
    let secret = vec![("RESTIC_REPOSITORY", repository.clone())];
    let mut place = Place::with_secret(Scratch::new(), 4, secret);
    place.whole(place.back_up(false));
    let large = place.path("volume").join("large");
    let noise = place.seed.bytes(40 << 20);
    std::fs::write(&large, noise).unwrap();
    let said = place.failure(place.back_up(true));
    assert!(said.contains("free some room"), "{said}");
    place.check_in(&repository);
    std::fs::remove_file(&large).unwrap();
    place.change();
    disk.resize(48 << 20);
    let said = place.whole(place.back_up(true));
    assert!(said.pruned, "{said:?}");
    place.check_in(&repository);
    place.whole(place.restore());
    assert_eq!(content(&place.path("restored")), content(&place.path("volume")));
}

#[test]
fn a_cache_that_is_full_or_cannot_be_written_is_no_matter() {
    let disk = SmallDisk::new(64 << 10);
    let mut place = Place::new(5);
    std::fs::write(place.path("file"), "").unwrap();
    for cache in [disk.path().join("cache"), place.path("file/cache"), "/proc/1".into()] {
        place.cache = cache;
        for prune in [false, true] {
            place.change();
            place.whole(place.back_up(prune));
        }
        place.check();
    }
}
