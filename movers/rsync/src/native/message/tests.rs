//! Every message comes back as it went; nothing a peer can send makes the decoder panic or grow.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use volsync_mover::{Kind, Xattr, check_name};

use super::*;

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0u32..1_000_000_000)
        .prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..40)
        .prop_filter("a valid name", |name| check_name(name).is_ok())
}

fn path() -> impl Strategy<Value = RelPath> {
    proptest::collection::vec(name(), 0..5)
        .prop_map(|names| names.iter().fold(RelPath::root(), |path, name| path.join(name)))
}

prop_compose! {
    fn metadata(directory: bool)(
        kind in 0usize..6, mode in 0u32..=0o7777, uid: u32, gid: u32, mtime in time(), size in 0u64..=i64::MAX as u64,
        rdev: u64, linked in proptest::option::of((2u32.., any::<u64>(), any::<u64>())),
        xattrs in proptest::collection::btree_map("user\\.[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..50), 0..4),
    ) -> Metadata {
        let kinds = [Kind::File, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice, Kind::BlockDevice];
        let kind = if directory { Kind::Directory } else { kinds[kind] };
        let (nlink, device, inode) = if directory { (1, 0, 0) } else { linked.unwrap_or((1, 0, 0)) };
        let device_kind = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let size = if kind == Kind::File { size } else { 0 };
        Metadata {
            kind, mode, uid, gid, mtime, size, blocks: size.div_ceil(512), rdev: if device_kind { rdev } else { 0 },
            nlink, device, inode,
            xattrs: xattrs.into_iter().map(|(name, value)| Xattr { name: name.into_bytes(), value }).collect(),
        }
    }
}

fn listing() -> impl Strategy<Value = Message> {
    let entries = proptest::collection::btree_map(name(), (metadata(false), name()), 0..8);
    (path(), any::<(bool, bool)>(), proptest::option::of(metadata(true)), entries).prop_map(
        |(directory, (last, complete), own, entries)| {
            let entries = entries
                .into_iter()
                .map(|(name, (metadata, target))| {
                    let target = if metadata.kind == Kind::Symlink { target } else { Vec::new() };
                    Entry { name, metadata, target }
                })
                .collect();
            Message::Listing(Listing {
                directory,
                slice: 0,
                slices: 1,
                own,
                last,
                complete,
                entries,
            })
        },
    )
}

fn messages() -> impl Strategy<Value = Message> {
    let small =
        proptest::collection::vec((any::<u64>(), 0u32..40, time()), 0..6).prop_map(|files| {
            let total: u32 = files.iter().map(|file| file.1).sum();
            let files =
                files.into_iter().map(|(id, size, mtime)| SmallFile { id, size, mtime }).collect();
            Message::Small(Small {
                hash: [7; 32],
                files,
                content: Bytes::from(vec![1; total as usize]),
            })
        });
    let bytes = proptest::collection::vec(any::<u8>(), 1..200).prop_map(Bytes::from);
    let want = (path(), 0u64..1 << 60, proptest::collection::vec((name(), 0u64..1 << 40), 1..6));
    prop_oneof![
        listing(),
        small,
        (any::<u64>(), 0u64..1 << 60, bytes.clone())
            .prop_map(|(id, offset, bytes)| Message::Data { id, offset, bytes }),
        (any::<u64>(), 0u64..1 << 60, time()).prop_map(|(id, size, mtime)| Message::Begin {
            id,
            size,
            mtime
        }),
        (
            any::<u64>(),
            proptest::collection::vec((0u64..1 << 60, 0u64..1 << 60, 1u64..1 << 40), 0..5)
        )
            .prop_map(|(id, ranges)| Message::Copies {
                id,
                ranges: ranges
                    .into_iter()
                    .map(|(offset, from, length)| CopyRange { offset, from, length })
                    .collect()
            }),
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(id, hash)| Message::Commit { id, hash }),
        (any::<u64>(), any::<bool>(), ".{0,40}").prop_map(|(id, vanished, why)| Message::Failed {
            id,
            vanished,
            why
        }),
        (path(), ".{0,40}").prop_map(|(path, why)| Message::Skipped { path, why }),
        any::<(u64, u64, bool)>().prop_map(|(entries, total_bytes, complete)| Message::End {
            entries,
            total_bytes,
            complete
        }),
        any::<(u32, u64, u64)>().prop_map(|(listings, files_compared, bytes_done)| {
            Message::Credit { listings, files_compared, bytes_done }
        }),
        want.prop_map(|(directory, first_id, files)| Message::Want(Want {
            directory,
            first_id,
            files
        })),
        (any::<(u64, u64, bool, bool)>(), bytes).prop_map(
            |((id, segment, last, aligned_only), bytes)| {
                Message::Signature(SegmentSignature { id, segment, last, aligned_only, bytes })
            }
        ),
        any::<u64>().prop_map(|id| Message::Used { id }),
        any::<bool>().prop_map(|transient| Message::Problem {
            transient,
            at_once: !transient,
            message: "m".into(),
            hint: "h".into()
        }),
        ".{0,40}".prop_map(|report| Message::Finished { report }),
        Just(Message::Hello { version: VERSION, name: "default/photos".into() }),
        Just(Message::Bye),
    ]
}

fn read_back(frame: &[u8]) -> Result<Message, MessageError> {
    let mut buffer = BytesMut::from(frame);
    let (tag, body) = next_frame(&mut buffer)?.expect("a whole frame");
    assert!(buffer.is_empty());
    Message::decode(tag, body)
}

proptest! {
    #[test]
    fn every_message_comes_back(message in messages()) {
        let frame = message.encode();
        prop_assert_eq!(&read_back(&frame).unwrap(), &message);
        if let Some(packed) = compress(&frame, 1) {
            prop_assert!(packed.len() < frame.len());
            prop_assert_eq!(read_back(&packed).unwrap(), message);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_panics(message in messages(), at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
        let mut frame = message.encode();
        let index = at.index(frame.len());
        frame[index] ^= 1 << bit;
        frame.truncate(cut.index(frame.len()) + 1);
        let mut buffer = BytesMut::from(&frame[..]);
        if let Ok(Some((tag, body))) = next_frame(&mut buffer) {
            let _: Result<Message, MessageError> = Message::decode(tag, body);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(tag: u8, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _: Result<Message, MessageError> = Message::decode(tag, Bytes::from(body));
    }
}

/// A body that begins like a listing of the root, then continues as told.
fn listing_body(rest: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(&[0, 0, 1, 1, 1, 0]);
    body.put_slice(rest);
    body.freeze()
}

#[test]
fn names_that_leave_the_volume_are_refused() {
    for name in [&b".."[..], b".", b"/etc", b"a/b", b"a\0", b""] {
        let mut rest = vec![1, name.len() as u8];
        rest.extend_from_slice(name);
        rest.extend_from_slice(&[2, 0, 0, 0, 0, 0, 1, 0, 1, b'x']);
        assert!(Message::decode(0x02, listing_body(&rest)).is_err(), "{name:?}");
    }
    for path in [&b"/abs"[..], b"../x", b"a/../b", b"a//b"] {
        let mut body = vec![path.len() as u8];
        body.extend_from_slice(path);
        body.extend_from_slice(&[0, 1, 1, b'n', 0]);
        assert!(Message::decode(0x42, Bytes::from(body)).is_err(), "{path:?}");
    }
}

#[test]
fn the_same_name_twice_is_refused() {
    let fifo = |name: u8| vec![1, name, 3, 0, 0, 0, 0, 0, 1, 0];
    let with = |names: &[u8]| {
        let mut rest = vec![names.len() as u8];
        names.iter().for_each(|name| rest.extend_from_slice(&fifo(*name)));
        Message::decode(0x02, listing_body(&rest))
    };
    assert!(with(b"ab").is_ok());
    assert!(with(b"aa").is_err());
    assert!(with(b"ba").is_err());
}

#[test]
fn absurd_lengths_and_counts_are_refused_before_anything_is_allocated() {
    let mut frame = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    frame.put_slice(&[0x02, 0]);
    assert!(matches!(next_frame(&mut frame), Err(MessageError::TooLong(_))));
    // 2^63 entries, ranges, files: none of them fits into the rest of the body.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(Message::decode(0x02, listing_body(&huge)).is_err());
    let mut copies = vec![1];
    copies.extend_from_slice(&huge);
    assert!(Message::decode(0x06, Bytes::from(copies)).is_err());
    // A compressed body that says it is 4 GiB.
    assert!(Message::decode(0x85, Bytes::from(vec![0xff; 20])).is_err());
    // A compression bomb: it says less than it holds.
    let bomb = zstd::bulk::compress(&vec![0u8; 8 << 20], 1).unwrap();
    let mut body = BytesMut::from(&(1u32 << 20).to_le_bytes()[..]);
    body.put_slice(&bomb);
    assert!(Message::decode(0x85, body.freeze()).is_err());
}

#[test]
fn sizes_that_do_not_add_up_are_refused() {
    let mut body = vec![0; 32];
    body.extend_from_slice(&[1, 5, 3, 0, 0]);
    body.extend_from_slice(b"four");
    assert!(Message::decode(0x03, Bytes::from(body)).is_err());
}
