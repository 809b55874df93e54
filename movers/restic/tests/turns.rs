//! Real restic and the mover take turns in one repository, in every store that both of them reach here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

mod place;

use std::net::Ipv4Addr;

use place::Place;
use volsync_testing::Scratch;
use volsync_testing::compare::content;
use volsync_testing::servers::{REST_USER, S3_KEYS, Server, SftpServer};
use volsync_testing::swift_server::SwiftServer;

/// Each of them reads what the other wrote, backs up after the other, and prunes what both have.
/// `options` are what restic is told besides the Secret.
fn take_turns(secret: Vec<(&'static str, String)>, options: &[&str]) {
    let mut place = Place::with_secret(Scratch::new(), 7, secret);
    let (volume, restored) = (place.path("volume"), place.path("restored"));
    let by_restic = place.scratch.dir("by-restic");
    let restic = |place: &Place, arguments: &[&str]| place.restic(&[options, arguments].concat());

    assert!(place.whole(place.back_up(false)).snapshot.is_some());
    restic(&place, &["restore", "latest", "--target", by_restic.to_str().unwrap()]);
    assert_eq!(content(&by_restic), content(&volume));

    place.change();
    restic(&place, &["backup", "--host", "volsync", "--skip-if-unchanged", "."]);
    place.recorded = volume.to_str().unwrap().to_owned();
    place.whole(place.restore());
    assert_eq!(content(&restored), content(&volume));

    place.change();
    let pruned = place.whole(place.back_up(true));
    assert!(pruned.pruned && pruned.verified.is_some_and(|verified| verified.damaged == 0));
    restic(&place, &["check", "--read-data"]);
    restic(&place, &["forget", "--keep-last", "1", "--group-by", "", "--prune"]);
    let left: serde_json::Value =
        serde_json::from_str(&restic(&place, &["snapshots", "--json"])).unwrap();
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");

    place.recorded = "/data".to_owned();
    place.whole(place.restore());
    assert_eq!(content(&restored), content(&volume));
    place.change();
    place.whole(place.back_up(true));
    restic(&place, &["check", "--read-data"]);
}

#[test]
fn in_a_directory() {
    let scratch = Scratch::new();
    take_turns(vec![("RESTIC_REPOSITORY", scratch.join("it").display().to_string())], &[]);
}

#[test]
fn in_a_bucket() {
    let server = Server::rclone_s3(Ipv4Addr::LOCALHOST.into());
    let secret = vec![
        ("RESTIC_REPOSITORY", format!("s3:http://{}/bucket/deep/it", server.address())),
        ("AWS_ACCESS_KEY_ID", S3_KEYS.0.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", S3_KEYS.1.to_owned()),
    ];
    take_turns(secret, &[]);
}

#[test]
fn behind_a_rest_server() {
    let server = Server::rest();
    let secret = vec![
        ("RESTIC_REPOSITORY", format!("rest:http://{}/deep/it/", server.address())),
        ("RESTIC_REST_USERNAME", REST_USER.0.to_owned()),
        ("RESTIC_REST_PASSWORD", REST_USER.1.to_owned()),
    ];
    take_turns(secret, &[]);
}

#[test]
fn in_a_swift_container() {
    let server = SwiftServer::start();
    let secret = vec![
        ("RESTIC_REPOSITORY", "swift:container:/deep/it".to_owned()),
        ("ST_AUTH", server.auth_url()),
        ("ST_USER", server.user().to_owned()),
        ("ST_KEY", server.key().to_owned()),
    ];
    take_turns(secret, &[]);
}

/// restic runs `ssh`, which is told by files what the mover is told by the Secret.
#[test]
fn behind_ssh() {
    let server = SftpServer::start();
    let (user, address) = (server.user(), server.address());
    let files = Scratch::new();
    let (key, known) = (files.join("key"), files.join("known-hosts"));
    std::fs::write(&key, server.private_key()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&known, server.known_hosts(address)).unwrap();
    let path = server.directory().join("it");
    let secret = vec![
        ("RESTIC_REPOSITORY", format!("sftp://{user}@{address}/{}", path.display())),
        ("SFTP_KNOWN_HOSTS", server.known_hosts(address)),
        ("SFTP_PRIVATE_KEY", server.private_key().to_owned()),
    ];
    let command = format!(
        "sftp.command=ssh -p {} -i {} -o UserKnownHostsFile={} -o BatchMode=yes {user}@{} -s sftp",
        address.port(),
        key.display(),
        known.display(),
        address.ip()
    );
    take_turns(secret, &["-o", &command]);
}
