//! Messages into frames.

use volsync_mover::{Kind, Metadata, Time};

use super::{Listing, Message, tag};

impl Message {
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
}

struct Writer(Vec<u8>);

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
