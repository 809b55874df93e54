//! A restore that cannot be what was asked for says which of all the possible reasons it is, and leaves
//! the volume as it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

mod place;

use std::path::Path;

use place::Place;
use volsync_contract::{Report, RestoreOutcome};
use volsync_testing::Scratch;
use volsync_testing::compare::{content, walk};
use volsync_testing::servers::{S3_KEYS, Server};

/// What a restore came to: exit status, outcome, and its words.
struct Came {
    code: i32,
    outcome: Option<RestoreOutcome>,
    said: String,
}

/// A restore of what lies at `location`, opened with these, which changes nothing in the volume.
struct Case {
    location: String,
    keys: (&'static str, &'static str),
    password: &'static str,
    as_of: &'static str,
    required: bool,
}

impl Case {
    fn new(server: &Server, path: &str) -> Self {
        Self {
            location: format!("s3:http://{}/{path}", server.address()),
            keys: S3_KEYS,
            password: place::PASSWORD,
            as_of: "",
            required: true,
        }
    }

    fn secret(&self) -> Vec<(&'static str, String)> {
        vec![
            ("RESTIC_REPOSITORY", self.location.clone()),
            ("AWS_ACCESS_KEY_ID", self.keys.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.keys.1.to_owned()),
        ]
    }

    fn restored(&self) -> Came {
        let mut place = Place::with_secret(Scratch::new(), 1, self.secret());
        place.secret.retain(|(name, _)| *name != "RESTIC_PASSWORD");
        place.secret.push(("RESTIC_PASSWORD", self.password.to_owned()));
        place.required = self.required;
        place.as_of = self.as_of.to_owned();
        let precious = place.path("restored").join("precious");
        std::fs::write(&precious, "stays").unwrap();
        let came = came(&place);
        assert_eq!(content(&place.path("restored")).len(), 1);
        assert_eq!(std::fs::read(&precious).unwrap(), b"stays");
        came
    }
}

fn came(place: &Place) -> Came {
    let output = place.restore().wait_with_output().unwrap();
    let report = std::fs::read(place.path("report")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    Came {
        code: output.status.code().expect("it was not killed"),
        outcome: report.restic.and_then(|restic| restic.restore),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[track_caller]
fn expect(came: &Came, code: i32, outcome: Option<RestoreOutcome>, words: &str) {
    assert_eq!((came.code, came.outcome), (code, outcome), "{}", came.said);
    assert!(came.said.contains(words), "{words:?} is not in:\n{}", came.said);
}

/// A server with a repository `bucket/it` of one snapshot, and one without any, `bucket/empty`.
fn server() -> Server {
    let server = Server::s3();
    let place = Place::with_secret(Scratch::new(), 2, Case::new(&server, "bucket/it").secret());
    place.whole(place.back_up(false));
    let mut empty = Case::new(&server, "bucket/empty");
    empty.required = false;
    expect(&empty.restored(), 0, Some(RestoreOutcome::RepositoryMissing), "");
    server
}

fn has(server: &Server, path: &str) -> bool {
    server.directory().join(path).exists()
}

#[test]
fn what_is_not_there_is_told_from_what_does_not_open() {
    let server = server();
    let at = |path: &str| Case::new(&server, path);
    let missing = Some(RestoreOutcome::RepositoryMissing);
    let none = Some(RestoreOutcome::NothingEligible);

    // A mistyped bucket, a wrong path: only whoever asks for it is told by a failure, and only
    // whoever does not finds one made.
    for path in ["buckte/it", "bucket/ti"] {
        expect(&at(path).restored(), 2, None, "there is no repository at s3:http");
        assert!(!has(&server, path));
        let came = Case { required: false, ..at(path) }.restored();
        expect(&came, 0, missing, "");
        assert!(has(&server, path));
    }

    // A wrong password is none of these, whatever is asked for.
    for required in [true, false] {
        let came = Case { password: "wrong", required, ..at("bucket/it") }.restored();
        expect(&came, 2, None, "does not open with RESTIC_PASSWORD");
    }

    // A store that forbids.
    for required in [true, false] {
        let keys = (S3_KEYS.0, "not-the-secret");
        let came = Case { keys, required, ..at("bucket/it") }.restored();
        expect(&came, 2, None, "cannot read config in s3:http");
        assert!(!came.said.contains("there is no repository"), "{}", came.said);
        assert!(!came.said.contains("not-the-secret"), "{}", came.said);
    }

    // No snapshot at all, and none of that time.
    for (path, as_of) in [("bucket/empty", ""), ("bucket/it", "1999-12-31T23:59:59Z")] {
        let came = Case { as_of, ..at(path) }.restored();
        expect(&came, 2, None, "is eligible: none is of path /data");
        expect(&Case { as_of, required: false, ..at(path) }.restored(), 0, none, "");
    }
    let came = Case { as_of: "last tuesday", ..at("bucket/it") }.restored();
    expect(&came, 2, None, "RESTORE_AS_OF is \"last tuesday\", expected a time such as");
}

/// It takes half a minute: a name that cannot be resolved may be one that will be in a moment.
#[test]
fn a_store_that_nobody_reaches_is_no_empty_repository() {
    let secret = |location: &str| {
        let server = Case {
            location: location.to_owned(),
            keys: S3_KEYS,
            password: place::PASSWORD,
            as_of: "",
            required: false,
        };
        server.restored()
    };
    std::thread::scope(|scope| {
        for (location, words) in [
            ("s3:http://nowhere.invalid/bucket/it", "dns error"),
            ("s3:http://127.0.0.1:9/bucket/it", "onnection refused"),
        ] {
            scope.spawn(move || expect(&secret(location), 1, None, words));
        }
    });
}

#[test]
fn what_the_repository_has_lost_is_named_and_the_rest_is_restored() {
    let server = server();
    let place = Place::with_secret(Scratch::new(), 2, Case::new(&server, "bucket/it").secret());
    let data = server.directory().join("bucket/it/data");
    let packs = walk(&data).into_iter().map(|path| data.join(path));
    let largest = packs
        .filter(|path| path.is_file())
        .max_by_key(|path: &std::path::PathBuf| path.metadata().unwrap().len())
        .unwrap();
    std::fs::remove_file(&largest).unwrap();
    let came = came(&place);
    expect(&came, 3, Some(RestoreOutcome::Restored), "not restored: ");
    let pack = Path::new(largest.file_name().unwrap()).display().to_string();
    assert!(came.said.contains(&pack), "{pack} is not named in:\n{}", came.said);
    // What is there is right.
    let saved = content(&place.path("volume"));
    let restored = content(&place.path("restored"));
    assert!(restored.len() < saved.len());
    assert!(restored.iter().all(|(path, bytes)| saved.get(path) == Some(bytes)));
}

/// What was there may be all that is left of it.
#[test]
fn what_is_there_stays_where_its_successor_cannot_be_had() {
    let server = server();
    let place = Place::with_secret(Scratch::new(), 2, Case::new(&server, "bucket/it").secret());
    let (volume, restored) = (place.path("volume"), place.path("restored"));
    place.whole(place.restore());
    let files = || walk(&restored).into_iter().filter(|path| restored.join(path).is_file());
    let newer = "what its user wrote since".repeat(1000);
    for path in files() {
        std::fs::write(restored.join(path), &newer).unwrap();
    }
    let link = files().next().unwrap();
    std::fs::remove_file(restored.join(&link)).unwrap();
    std::os::unix::fs::symlink("elsewhere", restored.join(&link)).unwrap();
    // One that was left by a restore that was killed.
    std::fs::write(restored.join(".volsync-restore-1-1"), "half").unwrap();
    let data = server.directory().join("bucket/it/data");
    for pack in walk(&data) {
        if data.join(&pack).is_file() {
            std::fs::remove_file(data.join(pack)).unwrap();
        }
    }
    let packs_of_trees = place.path("cache-of-restores");
    assert!(packs_of_trees.is_dir(), "the trees are in the cache");
    let came = came(&place);
    expect(&came, 3, Some(RestoreOutcome::Restored), "not restored: ");
    assert_eq!(walk(&restored), walk(&volume));
    assert_eq!(std::fs::read_link(restored.join(&link)).unwrap(), Path::new("elsewhere"));
    for path in files() {
        assert_eq!(std::fs::read_to_string(restored.join(path)).unwrap(), newer);
    }
}
