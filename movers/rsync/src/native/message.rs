//! The messages of a native session and their wire encoding, version 1.
//!
//! A frame is a little-endian `u32` (length of what follows), one byte of type, and a body. The
//! highest bit of the type says that the body is zstd-compressed behind its own length (`u32`).
//! Integers inside bodies are LEB128; byte strings are prefixed with their length. The format is
//! described in `docs/formats/rsync-session.md`.

mod decode;
mod encode;

use bytes::{Buf, Bytes, BytesMut};
use volsync_mover::{Metadata, RelPath, Time};

use decode::Reader;

/// Version of the session protocol; both sides must speak the same.
pub const VERSION: u32 = 1;
/// The longest body of a frame, compressed or not, in bytes.
pub const MAX_BODY: usize = 4 << 20;
/// The most names in one `Want`.
pub const MAX_WANTS: usize = 4096;
/// The most extended attributes of one entry, and the most bytes of one.
pub const MAX_XATTRS: usize = 1024;
const MAX_XATTR_BYTES: usize = 64 << 10;
const COMPRESSED: u8 = 0x80;

/// What a peer sent cannot be a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The frame announces more than [`MAX_BODY`].
    #[error("a message of {0} bytes is longer than the protocol allows")]
    TooLong(usize),
    /// No message has this type.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
    /// The body ends too early, is too long, or holds a value that cannot be.
    #[error("malformed {message}: {what}")]
    Malformed {
        /// The message.
        message: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// One message, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first message of each side.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// What the sender's messages call the replication.
        name: String,
    },
    /// Source: some entries of one directory, ordered by name.
    Listing(Listing),
    /// Source: whole small files.
    Small(Small),
    /// Source: a file's content follows as `Data`, `Copies` and `Commit`.
    Begin {
        /// The request it answers.
        id: u64,
        /// Size of the file when it was opened, in bytes.
        size: u64,
        /// Modification time when it was opened.
        mtime: Time,
    },
    /// Source: literal bytes at an offset of the new file. What lies between pieces is a hole.
    Data {
        /// The request it belongs to.
        id: u64,
        /// Where in the new file.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Source: ranges the destination's basis file has.
    Copies {
        /// The request it belongs to.
        id: u64,
        /// In order of their place in the new file.
        ranges: Vec<CopyRange>,
    },
    /// Source: the file is complete.
    Commit {
        /// The request it belongs to.
        id: u64,
        /// Hash of its extents and their content, see `content::ContentHash`.
        hash: [u8; 32],
    },
    /// Source: a requested file cannot be had.
    Failed {
        /// The request it answers.
        id: u64,
        /// The file is no longer there, which is no error.
        vanished: bool,
        /// Why, for people.
        why: String,
    },
    /// Source: something could not be read and was not listed.
    Skipped {
        /// Which.
        path: RelPath,
        /// Why, for people.
        why: String,
    },
    /// Source: the tree has been walked to its end.
    End {
        /// Entries listed.
        entries: u64,
        /// Bytes of content in all regular files.
        total_bytes: u64,
        /// Whether every directory could be read; if not, nothing is deleted.
        complete: bool,
    },
    /// Source: a signature segment has been taken, another may follow.
    Used {
        /// The request.
        id: u64,
    },
    /// Source: the destination's `Finished` has arrived; the session is over.
    Bye,
    /// Destination: so many more listings may be sent.
    Credit {
        /// Listings.
        listings: u32,
        /// Entries compared so far.
        files_compared: u64,
        /// Bytes of content that need no more work.
        bytes_done: u64,
    },
    /// Destination: files of one directory whose content is wanted.
    Want(Want),
    /// Destination: block signatures of one segment of a basis file.
    Signature(SegmentSignature),
    /// Destination: everything is in place and flushed. Carries the report as JSON.
    Finished {
        /// `contract::Report` as JSON.
        report: String,
    },
    /// Either side: the session cannot go on.
    Problem {
        /// Whether trying again can help.
        transient: bool,
        /// Whether it can help at once: the cause has been removed.
        at_once: bool,
        /// One sentence.
        message: String,
        /// What helps, or nothing.
        hint: String,
    },
}

/// Some entries of one slice of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The directory.
    pub directory: RelPath,
    /// Which slice of its names this is; see `listing::slice_of`.
    pub slice: u32,
    /// Into how many slices its names are divided.
    pub slices: u32,
    /// The directory's own attributes, in the first listing of its first slice.
    pub own: Option<Metadata>,
    /// Whether this is the last listing of its slice.
    pub last: bool,
    /// Whether all names of this slice could be read.
    pub complete: bool,
    /// Entries, ordered by name as bytes.
    pub entries: Vec<Entry>,
}

/// One name in a directory of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One path component.
    pub name: Vec<u8>,
    /// Its attributes.
    pub metadata: Metadata,
    /// Where a symbolic link points; empty for all else.
    pub target: Vec<u8>,
}

/// Whole small files, their contents one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    /// BLAKE3 of `content`.
    pub hash: [u8; 32],
    /// The files, in the order of their contents.
    pub files: Vec<SmallFile>,
    /// Their contents.
    pub content: Bytes,
}

/// A file in a [`Small`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallFile {
    /// The request it answers.
    pub id: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Modification time when it was opened.
    pub mtime: Time,
}

/// A range that is the same in the basis file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRange {
    /// Where in the new file.
    pub offset: u64,
    /// Where in the basis file.
    pub from: u64,
    /// How many bytes.
    pub length: u64,
}

/// Files of one directory whose content is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The directory.
    pub directory: RelPath,
    /// The request of the first file; the others count up from it.
    pub first_id: u64,
    /// Names, and the length of the basis file for which signatures will follow (0: none).
    pub files: Vec<(Vec<u8>, u64)>,
}

/// Block signatures of one segment of a basis file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSignature {
    /// The request it belongs to.
    pub id: u64,
    /// Which segment, counted from 0 without gaps.
    pub segment: u64,
    /// Whether this is the last segment of the basis.
    pub last: bool,
    /// Whether blocks may only be taken from the same offset.
    pub aligned_only: bool,
    /// The signature as `fast_rsync` writes it.
    pub bytes: Bytes,
}

mod tag {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const LISTING: u8 = 0x02;
    pub(super) const SMALL: u8 = 0x03;
    pub(super) const BEGIN: u8 = 0x04;
    pub(super) const DATA: u8 = 0x05;
    pub(super) const COPIES: u8 = 0x06;
    pub(super) const COMMIT: u8 = 0x07;
    pub(super) const FAILED: u8 = 0x08;
    pub(super) const SKIPPED: u8 = 0x09;
    pub(super) const END: u8 = 0x0a;
    pub(super) const BYE: u8 = 0x0b;
    pub(super) const USED: u8 = 0x0c;
    pub(super) const CREDIT: u8 = 0x41;
    pub(super) const WANT: u8 = 0x42;
    pub(super) const SIGNATURE: u8 = 0x43;
    pub(super) const FINISHED: u8 = 0x44;
    pub(super) const PROBLEM: u8 = 0x45;
}

impl Message {
    /// What errors call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Listing(_) => "Listing",
            Self::Small(_) => "Small",
            Self::Begin { .. } => "Begin",
            Self::Data { .. } => "Data",
            Self::Copies { .. } => "Copies",
            Self::Commit { .. } => "Commit",
            Self::Failed { .. } => "Failed",
            Self::Skipped { .. } => "Skipped",
            Self::End { .. } => "End",
            Self::Used { .. } => "Used",
            Self::Bye => "Bye",
            Self::Credit { .. } => "Credit",
            Self::Want(_) => "Want",
            Self::Signature(_) => "Signature",
            Self::Finished { .. } => "Finished",
            Self::Problem { .. } => "Problem",
        }
    }

    /// Reads the body of a frame whose type byte was `tag`; `body` must be used up to its end.
    pub fn decode(tag: u8, body: Bytes) -> Result<Self, MessageError> {
        let (tag, body) = if tag & COMPRESSED == 0 {
            (tag, body)
        } else {
            (tag & !COMPRESSED, decompress(&body)?)
        };
        let mut input = Reader { message: "message", rest: body };
        let message = input.message(tag)?;
        if input.rest.is_empty() {
            Ok(message)
        } else {
            Err(input.malformed("bytes behind its end"))
        }
    }
}

/// Takes the next whole frame off `buffer`: its type and body, or `None` if more must be read.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, MessageError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length == 0 || length > MAX_BODY + 1 {
        return Err(MessageError::TooLong(length));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length).freeze();
    let tag = frame.get_u8();
    Ok(Some((tag, frame)))
}

/// The same frame compressed, if that makes it smaller by a tenth at least.
pub fn compress(frame: &[u8], level: i32) -> Option<Vec<u8>> {
    let body = frame.get(5..)?;
    let mut out = vec![0u8; 9 + zstd::zstd_safe::compress_bound(body.len())];
    let written = zstd::bulk::compress_to_buffer(body, out.get_mut(9..)?, level).ok()?;
    if written + 4 + body.len() / 10 > body.len() {
        return None;
    }
    out.truncate(9 + written);
    let (head, _) = out.split_at_mut(9);
    head.get_mut(..4)?.copy_from_slice(&(written as u32 + 5).to_le_bytes());
    *head.get_mut(4)? = frame.get(4)? | COMPRESSED;
    head.get_mut(5..)?.copy_from_slice(&(body.len() as u32).to_le_bytes());
    Some(out)
}

fn decompress(body: &Bytes) -> Result<Bytes, MessageError> {
    let bad = |what| MessageError::Malformed { message: "compressed message", what };
    let Some((head, packed)) = body.split_first_chunk::<4>() else {
        return Err(bad("it ends too early"));
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_BODY {
        return Err(MessageError::TooLong(length));
    }
    let raw =
        zstd::bulk::decompress(packed, length).map_err(|_| bad("it cannot be decompressed"))?;
    if raw.len() == length {
        Ok(Bytes::from(raw))
    } else {
        Err(bad("its length is not the announced one"))
    }
}

#[cfg(test)]
mod tests;
