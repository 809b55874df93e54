//! A source that lies: whatever it sends, no wrong content gets a file's name, and what was there
//! before stays.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use volsync_mover::{Kind, Metadata, Monitor, RelPath, Root, Shutdown, Time};

use super::super::content::ContentHash;
use super::super::link::Peer;
use super::super::message::{Entry, Listing, Message, Small, SmallFile, VERSION, Want};
use super::super::target::unfinished_name;
use super::{Link, link, run};
use crate::error::Error;

const TRUE: &[u8] = b"what the source has";
const LIE: &[u8] = b"what a bad link has";

/// Lets `source` play the other side of a session into `volume`.
fn session(
    volume: &Path,
    source: impl FnOnce(&mut Peer) + Send,
) -> (Result<(), Error>, volsync_contract::Report) {
    let root = Root::open(volume).unwrap();
    let monitor = Monitor::new(false);
    let (outbox, inbox, waker, wire, mut peer) = link::in_memory();
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            peer.send(&Message::Hello { version: VERSION, name: "liar".to_owned() });
            source(&mut peer);
        });
        let link = Link { outbox, inbox, waker, wire };
        run("test", &root, link, &monitor, &Shutdown::default())
    });
    (result, monitor.report(volsync_contract::Outcome::Complete))
}

fn metadata(kind: Kind, mode: u32, size: u64) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    Metadata {
        kind,
        mode,
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        mtime: Time { seconds: 1, nanoseconds: 0 },
        size,
        blocks: 1,
        rdev: 0,
        nlink: 1,
        device: 0,
        inode: 0,
        xattrs: Vec::new(),
    }
}

/// Tells of one file in the root.
fn list(peer: &mut Peer, name: &[u8], size: usize, complete: bool) {
    peer.send(&Message::Listing(Listing {
        directory: RelPath::root(),
        slice: 0,
        slices: 1,
        own: Some(metadata(Kind::Directory, 0o755, 0)),
        last: true,
        complete: true,
        entries: vec![Entry {
            name: name.to_vec(),
            metadata: metadata(Kind::File, 0o644, size as u64),
            target: Vec::new(),
        }],
    }));
    peer.send(&Message::End { entries: 1, total_bytes: size as u64, complete });
}

fn wanted(peer: &mut Peer) -> Want {
    loop {
        match peer.receive().expect("the destination asks for the file") {
            Message::Want(want) => return want,
            Message::Finished { report } => panic!("not asked for: {report}"),
            _ => {}
        }
    }
}

/// Reads to the end and says goodbye.
fn goodbye(peer: &mut Peer) {
    while let Some(message) = peer.receive() {
        if matches!(message, Message::Finished { .. }) {
            peer.send(&Message::Bye);
        }
    }
}

fn small(id: u64, content: &[u8], hash_of: &[u8]) -> Message {
    Message::Small(Small {
        hash: *blake3::hash(hash_of).as_bytes(),
        files: vec![SmallFile { id, size: content.len() as u32, mtime: Time::default() }],
        content: Bytes::copy_from_slice(content),
    })
}

/// Sends a file in one piece, with the hash of `hash_of`.
fn large(peer: &mut Peer, id: u64, content: &[u8], hash_of: &[u8]) {
    let size = content.len() as u64;
    peer.send(&Message::Begin { id, size, mtime: Time::default() });
    peer.send(&Message::Data { id, offset: 0, bytes: Bytes::copy_from_slice(content) });
    let mut hash = ContentHash::new();
    hash.add(0, hash_of);
    peer.send(&Message::Commit { id, hash: hash.finish(size) });
}

#[test]
fn a_small_file_that_is_not_what_its_hash_says_gets_no_name() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("old"), "stays").unwrap();
    let (result, _) = session(volume.path(), |peer| {
        list(peer, b"file", TRUE.len(), true);
        let id = wanted(peer).first_id;
        peer.send(&small(id, LIE, TRUE));
        goodbye(peer);
    });
    let message = result.unwrap_err().to_string();
    assert!(message.contains("BLAKE3"), "{message}");
    assert!(!volume.path().join("file").exists());
    assert!(volume.path().join("old").exists(), "nothing is deleted by a session that failed");
}

#[test]
fn a_large_file_that_is_not_what_its_hash_says_is_asked_for_once_more() {
    let volume = tempfile::tempdir().unwrap();
    let (result, report) = session(volume.path(), |peer| {
        list(peer, b"file", TRUE.len(), true);
        let id = wanted(peer).first_id;
        large(peer, id, LIE, TRUE);
        let id = wanted(peer).first_id;
        large(peer, id, TRUE, TRUE);
        goodbye(peer);
    });
    result.unwrap();
    assert_eq!(report.skipped.count, 0);
    assert_eq!(fs::read(volume.path().join("file")).unwrap(), TRUE);
}

#[test]
fn a_large_file_that_is_wrong_twice_is_named_and_the_old_one_stays() {
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("file"), "old").unwrap();
    let (result, report) = session(volume.path(), |peer| {
        list(peer, b"file", TRUE.len(), true);
        for _ in 0..2 {
            let id = wanted(peer).first_id;
            large(peer, id, LIE, TRUE);
        }
        goodbye(peer);
    });
    result.unwrap();
    assert_eq!(report.skipped.count, 1);
    assert_eq!(report.skipped.first[0].path, "file");
    assert_eq!(fs::read(volume.path().join("file")).unwrap(), b"old");
    assert_eq!(fs::read_dir(volume.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn nothing_is_deleted_when_the_source_could_not_read_everything() {
    for complete in [false, true] {
        let volume = tempfile::tempdir().unwrap();
        fs::write(volume.path().join("extra"), "x").unwrap();
        let (result, _) = session(volume.path(), |peer| {
            list(peer, b"file", TRUE.len(), complete);
            let id = wanted(peer).first_id;
            peer.send(&small(id, TRUE, TRUE));
            goodbye(peer);
        });
        result.unwrap();
        assert_eq!(fs::read(volume.path().join("file")).unwrap(), TRUE);
        assert_eq!(volume.path().join("extra").exists(), !complete);
    }
}

#[test]
fn a_hole_is_empty_also_where_an_interrupted_session_had_left_something() {
    const SIZE: usize = 1 << 20;
    let volume = tempfile::tempdir().unwrap();
    let unfinished = String::from_utf8(unfinished_name(b"file")).unwrap();
    fs::write(volume.path().join(&unfinished), vec![b'x'; SIZE]).unwrap();
    let data = vec![b'd'; 4096];
    let (result, report) = session(volume.path(), |peer| {
        list(peer, b"file", SIZE, true);
        let want = wanted(peer);
        assert_eq!(want.files, [(b"file".to_vec(), SIZE as u64)], "it is to be taken up again");
        let (id, offset, size) = (want.first_id, 512 << 10, SIZE as u64);
        peer.send(&Message::Begin { id, size, mtime: Time::default() });
        peer.send(&Message::Data { id, offset, bytes: Bytes::from(data.clone()) });
        let mut hash = ContentHash::new();
        hash.add(offset, &data);
        peer.send(&Message::Commit { id, hash: hash.finish(size) });
        goodbye(peer);
    });
    result.unwrap();
    assert_eq!(report.skipped.count, 0);
    let mut expected = vec![0; SIZE];
    expected[512 << 10..][..data.len()].copy_from_slice(&data);
    let content = fs::read(volume.path().join("file")).unwrap();
    assert!(content == expected, "what the source does not have shows through");
    assert!(!volume.path().join(unfinished).exists());
}
