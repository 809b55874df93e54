//! What a fuzz input does. The tests replay the corpus through the same functions.

use bytes::{Bytes, BytesMut};
use volsync_mover_rsync::native::message::{Message, next_frame};
use volsync_mover_rsync::native::session::{Arrived, Asked, DestinationSession, SourceSession};

/// The input is a stream of frames, as a peer would send them. What decodes must encode to
/// something that decodes to the same.
pub(crate) fn messages(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some((tag, body))) = next_frame(&mut buffer) {
        let Ok(message) = Message::decode(tag, body) else { continue };
        let mut again = BytesMut::from(&message.encode()[..]);
        let Ok(Some((tag, body))) = next_frame(&mut again) else {
            panic!("an encoded message is a frame: {message:?}")
        };
        assert_eq!(Message::decode(tag, body).as_ref(), Ok(&message));
    }
}

/// The input is a sequence of operations on both state machines: a byte that says what this side
/// does, then a frame from the peer.
pub(crate) fn sessions(input: &[u8]) {
    let mut destination = DestinationSession::<u64>::default();
    let mut source = SourceSession::default();
    let mut rest = Bytes::copy_from_slice(input);
    while !rest.is_empty() {
        let operation = rest.split_to(1)[0];
        match operation & 7 {
            0 => {
                destination.ask([(u64::from(operation), 0)]);
            }
            1 => {
                destination.ask([(u64::from(operation), u64::from(operation) << 20)]);
            }
            2 => destination.compared(1),
            3 => destination.finished(),
            4 => source.listed(),
            5 => source.ended(),
            6 => source.answered(u64::from(operation >> 3)),
            _ => source.used_segment(u64::from(operation >> 3)),
        }
        let mut frame = BytesMut::from(&rest[..]);
        let before = frame.len();
        let Ok(Some((tag, body))) = next_frame(&mut frame) else { return };
        rest = rest.slice(before - frame.len()..);
        let Ok(message) = Message::decode(tag, body) else { continue };
        if let Ok(Arrived::Data { offset, bytes, .. }) = destination.take(message.clone()) {
            assert!(offset.checked_add(bytes.len() as u64).is_some());
        }
        if let Ok(Asked::Want(want)) = source.take(message) {
            assert!(!want.files.is_empty());
        }
    }
}
