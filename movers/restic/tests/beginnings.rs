//! Repositories that are begun by several at once, or by who does not come to the end of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

mod place;

use std::path::Path;
use std::time::Duration;

use place::Place;
use volsync_testing::Scratch;
use volsync_testing::compare::content;
use volsync_testing::servers::{REST_USER, S3_KEYS, Server, SftpServer};

const ROUNDS: u64 = 4;

/// Three backups and a restore find no repository at the same time: all have the same one then.
fn begun_together(directory: &Path, secret: impl Fn(u64) -> Vec<(&'static str, String)>) {
    for round in 0..ROUNDS {
        let places: Vec<Place> = (0..3)
            .map(|number| Place::with_secret(Scratch::new(), 10 * round + number, secret(round)))
            .collect();
        let mut restoring = Place::with_secret(Scratch::new(), round, secret(round));
        restoring.required = false;
        let restore = restoring.restore();
        let backups: Vec<_> = places.iter().map(|place| place.back_up(false)).collect();
        restoring.whole(restore);
        let mut repositories = std::collections::BTreeSet::new();
        for (place, backup) in places.iter().zip(backups) {
            let said = place.whole(backup);
            assert!(said.snapshot.is_some() && said.verified.is_none(), "{said:?}");
            repositories.insert(said.repository.unwrap());
        }
        assert_eq!(repositories.len(), 1);
        let repository = directory.join(format!("round-{round}"));
        places[0].check_in(&repository.display().to_string());
        assert_eq!(std::fs::read_dir(repository.join("keys")).unwrap().count(), 1);
        // The last of the three is there whole.
        restoring.required = true;
        restoring.whole(restoring.restore());
        let restored = content(&restoring.path("restored"));
        assert!(places.iter().any(|place| content(&place.path("volume")) == restored));
    }
}

#[test]
fn a_directory_is_begun_once() {
    let scratch = Scratch::new();
    let path = scratch.dir("repositories");
    begun_together(&path, |round| {
        let repository = path.join(format!("round-{round}")).display().to_string();
        vec![("RESTIC_REPOSITORY", repository)]
    });
}

#[test]
fn a_bucket_is_begun_once() {
    let server = Server::s3();
    begun_together(&server.directory().join("bucket"), |round| {
        vec![
            ("RESTIC_REPOSITORY", format!("s3:http://{}/bucket/round-{round}", server.address())),
            ("AWS_ACCESS_KEY_ID", S3_KEYS.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", S3_KEYS.1.to_owned()),
        ]
    });
}

#[test]
fn a_rest_server_s_repository_is_begun_once() {
    let server = Server::rest();
    begun_together(&server.directory(), |round| {
        vec![
            ("RESTIC_REPOSITORY", format!("rest:http://{}/round-{round}/", server.address())),
            ("RESTIC_REST_USERNAME", REST_USER.0.to_owned()),
            ("RESTIC_REST_PASSWORD", REST_USER.1.to_owned()),
        ]
    });
}

#[test]
fn a_directory_behind_ssh_is_begun_once() {
    let server = SftpServer::start();
    begun_together(&server.directory(), |round| {
        let path = server.directory().join(format!("round-{round}"));
        let (user, address) = (server.user(), server.address());
        vec![
            ("RESTIC_REPOSITORY", format!("sftp://{user}@{address}/{}", path.display())),
            ("SFTP_KNOWN_HOSTS", server.known_hosts(address)),
            ("SFTP_PRIVATE_KEY", server.private_key().to_owned()),
        ]
    });
}

#[test]
fn whoever_is_killed_while_he_begins_leaves_nothing_in_the_way() {
    let mut whole = 0;
    for trial in 0..40 {
        let mut place = Place::new(trial);
        let mut child = place.back_up(false);
        let micros = place.seed.below(900_000);
        std::thread::sleep(Duration::from_micros(micros));
        whole += u32::from(child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(place.whole(place.back_up(true)).snapshot.is_some());
        place.check();
    }
    assert!(whole < 40, "nothing was killed");
}
