//! A peer that breaks the order of a session is refused; whatever it says, nothing panics.

use bytes::Bytes;
use proptest::prelude::*;
use volsync_mover::{Kind, Metadata, RelPath, Time};

use super::*;
use crate::native::message::{Entry, SmallFile};

fn directory() -> Metadata {
    Metadata {
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: 0,
        blocks: 0,
        rdev: 0,
        nlink: 1,
        device: 0,
        inode: 0,
        xattrs: Vec::new(),
    }
}

fn listing(path: &[u8], begins: bool, last: bool) -> Message {
    let entries = Vec::<Entry>::new();
    let directory_path = RelPath::parse(path).unwrap();
    let own = begins.then(directory);
    Message::Listing(Listing {
        directory: directory_path,
        slice: 0,
        slices: 1,
        own,
        last,
        complete: true,
        entries,
    })
}

fn hello() -> Message {
    Message::Hello { version: VERSION, name: String::new() }
}

fn begin(id: u64, size: u64) -> Message {
    Message::Begin { id, size, mtime: Time::default() }
}

fn data(id: u64, offset: u64, length: usize) -> Message {
    Message::Data { id, offset, bytes: Bytes::from(vec![0; length]) }
}

fn destination(asked: &[u64]) -> DestinationSession<u64> {
    let mut session = DestinationSession::default();
    session.take(hello()).unwrap();
    session.ask(asked.iter().map(|basis| (0, *basis)));
    session
}

fn source() -> SourceSession {
    let mut session = SourceSession::default();
    session.take(hello()).unwrap();
    session
}

#[test]
fn another_protocol_version_is_named() {
    let mut session = DestinationSession::<u64>::default();
    let error = session.take(Message::Hello { version: 9, name: String::new() }).unwrap_err();
    assert_eq!(error, SessionError::Version(9));
    assert!(SourceSession::default().take(Message::Bye).is_err());
}

#[test]
fn content_nobody_asked_for_is_refused() {
    let small = Small {
        hash: [0; 32],
        files: vec![SmallFile { id: 3, size: 0, mtime: Time::default() }],
        content: Bytes::new(),
    };
    assert!(destination(&[0]).take(Message::Small(small)).is_err());
    assert!(destination(&[0]).take(begin(1, 10)).is_err());
    assert!(destination(&[0]).take(data(0, 0, 1)).is_err());
    assert!(destination(&[0]).take(Message::Commit { id: 0, hash: [0; 32] }).is_err());
}

#[test]
fn content_stays_within_its_file_and_goes_forward() {
    let mut session = destination(&[0]);
    session.take(begin(0, 10)).unwrap();
    session.take(data(0, 4, 2)).unwrap();
    assert!(session.take(data(0, 5, 1)).is_err(), "backwards");
    assert!(session.take(data(0, 6, 5)).is_err(), "beyond the end");
    session.take(Message::Commit { id: 0, hash: [0; 32] }).unwrap();
    assert!(session.take(data(0, 6, 1)).is_err(), "after its end");
    let mut session = destination(&[0]);
    session.take(begin(0, 10)).unwrap();
    assert!(session.take(begin(0, 10)).is_err(), "twice");
}

#[test]
fn copies_stay_within_the_basis() {
    let copy = |from, length| Message::Copies {
        id: 0,
        ranges: vec![CopyRange { offset: 0, from, length }],
    };
    let mut session = destination(&[100]);
    session.take(begin(0, 1000)).unwrap();
    assert!(session.take(copy(90, 11)).is_err());
    let mut session = destination(&[0]);
    session.take(begin(0, 1000)).unwrap();
    assert!(session.take(copy(0, 1)).is_err(), "there is no basis");
}

#[test]
fn listings_come_one_directory_at_a_time_and_with_credit() {
    let mut session = destination(&[]);
    assert!(session.take(listing(b"a", false, true)).is_err(), "it never began");
    session.take(listing(b"a", true, false)).unwrap();
    assert!(session.take(listing(b"b", true, true)).is_err(), "a is still open");
    let mut session = destination(&[]);
    for _ in 0..LISTING_CREDIT {
        session.take(listing(b"a", true, true)).unwrap();
    }
    assert_eq!(
        session.take(listing(b"a", true, true)).unwrap_err(),
        SessionError::Limit("listings without credit")
    );
}

#[test]
fn nothing_comes_after_the_end() {
    let end = || Message::End { entries: 0, total_bytes: 0, complete: true };
    let mut session = destination(&[]);
    session.take(end()).unwrap();
    assert!(session.take(listing(b"a", true, true)).is_err());
    assert!(session.take(end()).is_err());
    assert!(session.take(Message::Bye).is_err(), "nothing is finished");
    session.finished();
    assert!(matches!(session.take(Message::Bye), Ok(Arrived::Bye)));
}

#[test]
fn a_destination_cannot_ask_without_bounds() {
    let want = |first_id, count: usize, basis| {
        Message::Want(Want {
            directory: RelPath::root(),
            first_id,
            files: vec![(b"f".to_vec(), basis); count],
        })
    };
    let mut session = source();
    assert!(session.take(want(1, 1, 0)).is_err(), "numbers start at 0");
    session.take(want(0, MAX_OPEN_REQUESTS, 0)).unwrap();
    assert!(session.take(want(MAX_OPEN_REQUESTS as u64, 1, 0)).is_err());
    assert!(source().take(want(0, MAX_OPEN_DELTAS + 1, 1)).is_err());
    assert!(
        source().take(Message::Credit { listings: 1, files_compared: 0, bytes_done: 0 }).is_err()
    );
}

#[test]
fn signatures_do_not_run_ahead() {
    let mut session = source();
    session
        .take(Message::Want(Want {
            directory: RelPath::root(),
            first_id: 0,
            files: vec![(b"f".to_vec(), 1 << 40)],
        }))
        .unwrap();
    let signature = |segment| {
        Message::Signature(SegmentSignature {
            id: 0,
            segment,
            last: false,
            aligned_only: false,
            bytes: Bytes::new(),
        })
    };
    assert!(session.take(signature(1)).is_err(), "out of order");
    for segment in 0..MAX_SEGMENTS_AHEAD {
        session.take(signature(segment)).unwrap();
    }
    assert!(session.take(signature(MAX_SEGMENTS_AHEAD)).is_err());
}

#[test]
fn a_destination_cannot_finish_before_it_has_everything() {
    let finished = || Message::Finished { report: String::new() };
    assert!(source().take(finished()).is_err());
    let mut session = source();
    session
        .take(Message::Want(Want {
            directory: RelPath::root(),
            first_id: 0,
            files: vec![(b"f".to_vec(), 0)],
        }))
        .unwrap();
    session.ended();
    assert!(session.take(finished()).is_err());
    session.answered(0);
    assert!(session.take(finished()).is_ok());
}

proptest! {
    #[test]
    fn no_sequence_of_frames_panics(frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(0u8..6, 0..40)), 0..40)) {
        let mut destination = destination(&[0, 5, 0]);
        let mut source = source();
        source.listed();
        for (tag, body) in frames {
            if let Ok(message) = Message::decode(tag & 0x4f, Bytes::from(body)) {
                let _: Result<Arrived<u64>, SessionError> = destination.take(message.clone());
                let _: Result<Asked, SessionError> = source.take(message);
            }
        }
    }
}
