//! The messages of a native session and their wire encoding, version 1.
//!
//! A frame is a little-endian `u32` (length of what follows), one byte of type, and a body. The
//! highest bit of the type says that the body is zstd-compressed behind its own length (`u32`).
//! Integers inside bodies are LEB128; byte strings are prefixed with their length. The format is
//! described in `docs/formats/rsync-session.md`.

use bytes::{Buf, Bytes, BytesMut};
use volsync_mover::{Kind, Metadata, RelPath, Time, Xattr, check_name};

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

    /// As a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Self::Hello { version, name } => {
                out.begin(tag::HELLO);
                out.number(u64::from(*version));
                out.text(name);
            }
            Self::Listing(listing) => {
                out.begin(tag::LISTING);
                out.listing(listing);
            }
            Self::Small(small) => {
                out.0.reserve(small.content.len() + 64 + small.files.len() * 24);
                out.begin(tag::SMALL);
                out.0.extend_from_slice(&small.hash);
                out.number(small.files.len() as u64);
                for file in &small.files {
                    out.number(file.id);
                    out.number(u64::from(file.size));
                    out.time(file.mtime);
                }
                out.0.extend_from_slice(&small.content);
            }
            Self::Begin { id, size, mtime } => {
                out.begin(tag::BEGIN);
                out.number(*id);
                out.number(*size);
                out.time(*mtime);
            }
            Self::Data { id, offset, bytes } => {
                out.0.reserve(bytes.len() + 32);
                out.begin(tag::DATA);
                out.number(*id);
                out.number(*offset);
                out.0.extend_from_slice(bytes);
            }
            Self::Copies { id, ranges } => {
                out.begin(tag::COPIES);
                out.number(*id);
                out.number(ranges.len() as u64);
                for range in ranges {
                    out.number(range.offset);
                    out.number(range.from);
                    out.number(range.length);
                }
            }
            Self::Commit { id, hash } => {
                out.begin(tag::COMMIT);
                out.number(*id);
                out.0.extend_from_slice(hash);
            }
            Self::Failed { id, vanished, why } => {
                out.begin(tag::FAILED);
                out.number(*id);
                out.flag(*vanished);
                out.text(why);
            }
            Self::Skipped { path, why } => {
                out.begin(tag::SKIPPED);
                out.bytes(path.as_bytes());
                out.text(why);
            }
            Self::End { entries, total_bytes, complete } => {
                out.begin(tag::END);
                out.number(*entries);
                out.number(*total_bytes);
                out.flag(*complete);
            }
            Self::Used { id } => {
                out.begin(tag::USED);
                out.number(*id);
            }
            Self::Bye => out.begin(tag::BYE),
            Self::Credit { listings, files_compared, bytes_done } => {
                out.begin(tag::CREDIT);
                out.number(u64::from(*listings));
                out.number(*files_compared);
                out.number(*bytes_done);
            }
            Self::Want(want) => {
                out.begin(tag::WANT);
                out.bytes(want.directory.as_bytes());
                out.number(want.first_id);
                out.number(want.files.len() as u64);
                for (name, basis) in &want.files {
                    out.bytes(name);
                    out.number(*basis);
                }
            }
            Self::Signature(signature) => {
                out.begin(tag::SIGNATURE);
                out.number(signature.id);
                out.number(signature.segment);
                out.flag(signature.last);
                out.flag(signature.aligned_only);
                out.0.extend_from_slice(&signature.bytes);
            }
            Self::Finished { report } => {
                out.begin(tag::FINISHED);
                out.text(report);
            }
            Self::Problem { transient, at_once, message, hint } => {
                out.begin(tag::PROBLEM);
                out.flag(*transient);
                out.flag(*at_once);
                out.text(message);
                out.text(hint);
            }
        }
        out.finish()
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

/// Appends a listing's entry; the source encodes listings piece by piece to know their size.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![0; 4])
    }

    fn begin(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_le_bytes();
        }
        self.0
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn time(&mut self, time: Time) {
        // Zigzag: times before 1970 stay short.
        self.number(((time.seconds << 1) ^ (time.seconds >> 63)) as u64);
        self.number(u64::from(time.nanoseconds));
    }

    fn metadata(&mut self, metadata: &Metadata) {
        let Metadata {
            kind,
            mode,
            uid,
            gid,
            mtime,
            size,
            blocks,
            rdev,
            nlink,
            device,
            inode,
            xattrs,
        } = metadata;
        self.0.push(kind_code(*kind));
        self.number(u64::from(*mode));
        self.number(u64::from(*uid));
        self.number(u64::from(*gid));
        self.time(*mtime);
        match kind {
            Kind::File => {
                self.number(*size);
                self.flag(blocks.saturating_mul(512) < *size);
            }
            Kind::CharDevice | Kind::BlockDevice => self.number(*rdev),
            Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket => {}
        }
        if !matches!(kind, Kind::Directory) {
            self.number(u64::from(*nlink));
            if *nlink > 1 {
                self.number(*device);
                self.number(*inode);
            }
        }
        self.number(xattrs.len() as u64);
        for xattr in xattrs {
            self.bytes(&xattr.name);
            self.bytes(&xattr.value);
        }
    }

    fn listing(&mut self, listing: &Listing) {
        self.bytes(listing.directory.as_bytes());
        self.number(u64::from(listing.slice));
        self.number(u64::from(listing.slices));
        self.flag(listing.last);
        self.flag(listing.complete);
        self.flag(listing.own.is_some());
        if let Some(own) = &listing.own {
            self.metadata(own);
        }
        self.number(listing.entries.len() as u64);
        for entry in &listing.entries {
            self.bytes(&entry.name);
            self.metadata(&entry.metadata);
            if entry.metadata.kind == Kind::Symlink {
                self.bytes(&entry.target);
            }
        }
    }
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::CharDevice => 5,
        Kind::BlockDevice => 6,
    }
}

struct Reader {
    message: &'static str,
    rest: Bytes,
}

impl Reader {
    fn malformed(&self, what: &'static str) -> MessageError {
        MessageError::Malformed { message: self.message, what }
    }

    fn message(&mut self, tag: u8) -> Result<Message, MessageError> {
        Ok(match tag {
            tag::HELLO => {
                self.message = "Hello";
                Message::Hello { version: self.u32()?, name: self.text(1024)? }
            }
            tag::LISTING => {
                self.message = "Listing";
                Message::Listing(self.listing()?)
            }
            tag::SMALL => {
                self.message = "Small";
                Message::Small(self.small()?)
            }
            tag::BEGIN => {
                self.message = "Begin";
                Message::Begin { id: self.number()?, size: self.size()?, mtime: self.time()? }
            }
            tag::DATA => {
                self.message = "Data";
                let (id, offset) = (self.number()?, self.size()?);
                let bytes = std::mem::take(&mut self.rest);
                if bytes.is_empty() || offset.checked_add(bytes.len() as u64).is_none() {
                    return Err(self.malformed("an empty or impossible range"));
                }
                Message::Data { id, offset, bytes }
            }
            tag::COPIES => {
                self.message = "Copies";
                let id = self.number()?;
                let count = self.count(3)?;
                let mut ranges = Vec::with_capacity(count);
                for _ in 0..count {
                    let range = CopyRange {
                        offset: self.size()?,
                        from: self.size()?,
                        length: self.size()?,
                    };
                    if range.length == 0 {
                        return Err(self.malformed("an empty range"));
                    }
                    ranges.push(range);
                }
                Message::Copies { id, ranges }
            }
            tag::COMMIT => {
                self.message = "Commit";
                Message::Commit { id: self.number()?, hash: self.hash()? }
            }
            tag::FAILED => {
                self.message = "Failed";
                Message::Failed {
                    id: self.number()?,
                    vanished: self.flag()?,
                    why: self.text(1024)?,
                }
            }
            tag::SKIPPED => {
                self.message = "Skipped";
                Message::Skipped { path: self.path()?, why: self.text(1024)? }
            }
            tag::END => {
                self.message = "End";
                Message::End {
                    entries: self.number()?,
                    total_bytes: self.number()?,
                    complete: self.flag()?,
                }
            }
            tag::USED => {
                self.message = "Used";
                Message::Used { id: self.number()? }
            }
            tag::BYE => Message::Bye,
            tag::CREDIT => {
                self.message = "Credit";
                Message::Credit {
                    listings: self.u32()?,
                    files_compared: self.number()?,
                    bytes_done: self.number()?,
                }
            }
            tag::WANT => {
                self.message = "Want";
                let (directory, first_id) = (self.path()?, self.number()?);
                let count = self.count(2)?;
                if count == 0 || count > MAX_WANTS || first_id.checked_add(count as u64).is_none() {
                    return Err(self.malformed("an impossible number of files"));
                }
                let mut files = Vec::with_capacity(count);
                for _ in 0..count {
                    files.push((self.name()?, self.size()?));
                }
                Message::Want(Want { directory, first_id, files })
            }
            tag::SIGNATURE => {
                self.message = "Signature";
                Message::Signature(SegmentSignature {
                    id: self.number()?,
                    segment: self.number()?,
                    last: self.flag()?,
                    aligned_only: self.flag()?,
                    bytes: std::mem::take(&mut self.rest),
                })
            }
            tag::FINISHED => {
                self.message = "Finished";
                Message::Finished { report: self.text(volsync_contract::MAX_REPORT_BYTES)? }
            }
            tag::PROBLEM => {
                self.message = "Problem";
                Message::Problem {
                    transient: self.flag()?,
                    at_once: self.flag()?,
                    message: self.text(4096)?,
                    hint: self.text(4096)?,
                }
            }
            other => return Err(MessageError::UnknownType(other)),
        })
    }

    fn listing(&mut self) -> Result<Listing, MessageError> {
        let directory = self.path()?;
        let (slice, slices) = (self.u32()?, self.u32()?);
        let (last, complete) = (self.flag()?, self.flag()?);
        if slice >= slices {
            return Err(self.malformed("a slice beyond the last"));
        }
        let own = if self.flag()? { Some(self.metadata()?) } else { None };
        if own.as_ref().is_some_and(|own| own.kind != Kind::Directory) {
            return Err(self.malformed("a directory that is none"));
        }
        let count = self.count(8)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.name()?;
            if entries.last().is_some_and(|before| before.name >= name) {
                return Err(self.malformed("names twice or out of order"));
            }
            let metadata = self.metadata()?;
            let target = if metadata.kind == Kind::Symlink {
                self.bytes(4096)?.to_vec()
            } else {
                Vec::new()
            };
            if metadata.kind == Kind::Symlink && (target.is_empty() || target.contains(&0)) {
                return Err(self.malformed("a symbolic link to nowhere"));
            }
            entries.push(Entry { name, metadata, target });
        }
        Ok(Listing { directory, slice, slices, own, last, complete, entries })
    }

    fn small(&mut self) -> Result<Small, MessageError> {
        let hash = self.hash()?;
        let count = self.count(4)?;
        let mut files = Vec::with_capacity(count);
        let mut total = 0u64;
        for _ in 0..count {
            let file = SmallFile { id: self.number()?, size: self.u32()?, mtime: self.time()? };
            total += u64::from(file.size);
            files.push(file);
        }
        if total != self.rest.len() as u64 {
            return Err(self.malformed("sizes that are not those of its content"));
        }
        Ok(Small { hash, files, content: std::mem::take(&mut self.rest) })
    }

    fn metadata(&mut self) -> Result<Metadata, MessageError> {
        let kind = match self.byte()? {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Symlink,
            3 => Kind::Fifo,
            4 => Kind::Socket,
            5 => Kind::CharDevice,
            6 => Kind::BlockDevice,
            _ => return Err(self.malformed("a kind of file that does not exist")),
        };
        let mode = self.u32()?;
        if mode > 0o7777 {
            return Err(self.malformed("a mode beyond 07777"));
        }
        let (uid, gid, mtime) = (self.u32()?, self.u32()?, self.time()?);
        let (mut size, mut blocks, mut rdev) = (0, 0, 0);
        match kind {
            Kind::File => {
                size = self.size()?;
                let sparse = self.flag()?;
                blocks = if sparse { 0 } else { size.div_ceil(512) };
            }
            Kind::CharDevice | Kind::BlockDevice => rdev = self.number()?,
            Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket => {}
        }
        let (mut nlink, mut device, mut inode) = (1, 0, 0);
        if kind != Kind::Directory {
            nlink = self.u32()?;
            if nlink > 1 {
                (device, inode) = (self.number()?, self.number()?);
            }
        }
        let count = self.count(2)?;
        if count > MAX_XATTRS {
            return Err(self.malformed("too many extended attributes"));
        }
        let mut xattrs: Vec<Xattr> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.bytes(255)?.to_vec();
            let value = self.bytes(MAX_XATTR_BYTES)?.to_vec();
            let known = [&b"user."[..], b"security.", b"trusted.", b"system.posix_acl_"];
            if name.contains(&0) || !known.iter().any(|prefix| name.starts_with(prefix)) {
                return Err(self.malformed("an extended attribute of no known kind"));
            }
            if xattrs.last().is_some_and(|before| before.name >= name) {
                return Err(self.malformed("extended attributes twice or out of order"));
            }
            xattrs.push(Xattr { name, value });
        }
        Ok(Metadata {
            kind,
            mode,
            uid,
            gid,
            mtime,
            size,
            blocks,
            rdev,
            nlink,
            device,
            inode,
            xattrs,
        })
    }

    fn byte(&mut self) -> Result<u8, MessageError> {
        if self.rest.is_empty() {
            Err(self.malformed("it ends too early"))
        } else {
            Ok(self.rest.get_u8())
        }
    }

    fn flag(&mut self) -> Result<bool, MessageError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag that is neither 0 nor 1")),
        }
    }

    fn number(&mut self) -> Result<u64, MessageError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a number beyond 64 bits"))
    }

    /// A file size or offset: no file system knows more than 63 bits.
    fn size(&mut self) -> Result<u64, MessageError> {
        let size = self.number()?;
        if size > i64::MAX as u64 { Err(self.malformed("a size beyond 63 bits")) } else { Ok(size) }
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| self.malformed("a number beyond 32 bits"))
    }

    /// A count of things that take `least` bytes each at least, so that it cannot exceed the body.
    fn count(&mut self, least: usize) -> Result<usize, MessageError> {
        let count = self.number()?;
        if count > (self.rest.len() / least) as u64 {
            return Err(self.malformed("more parts than it has room for"));
        }
        Ok(count as usize)
    }

    fn bytes(&mut self, most: usize) -> Result<Bytes, MessageError> {
        let length = self.number()?;
        if length > most as u64 || length > self.rest.len() as u64 {
            return Err(self.malformed("a byte string that is too long"));
        }
        Ok(self.rest.split_to(length as usize))
    }

    fn text(&mut self, most: usize) -> Result<String, MessageError> {
        let bytes = self.bytes(most)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.malformed("text that is not UTF-8"))
    }

    fn hash(&mut self) -> Result<[u8; 32], MessageError> {
        let Some(hash) = self.rest.first_chunk::<32>().copied() else {
            return Err(self.malformed("it ends too early"));
        };
        self.rest.advance(32);
        Ok(hash)
    }

    fn time(&mut self) -> Result<Time, MessageError> {
        let zigzag = self.number()?;
        let nanoseconds = self.u32()?;
        if nanoseconds >= 1_000_000_000 {
            return Err(self.malformed("a second of more than a second"));
        }
        Ok(Time { seconds: (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), nanoseconds })
    }

    fn name(&mut self) -> Result<Vec<u8>, MessageError> {
        let name = self.bytes(255)?;
        check_name(&name).map_err(|_| self.malformed("a name that is none"))?;
        Ok(name.to_vec())
    }

    fn path(&mut self) -> Result<RelPath, MessageError> {
        let path = self.bytes(1 << 20)?;
        RelPath::parse(&path).map_err(|_| self.malformed("a path that leaves the volume"))
    }
}

#[cfg(test)]
mod tests;
