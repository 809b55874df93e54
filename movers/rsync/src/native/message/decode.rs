//! Frames into messages. Everything here reads what a peer sent: each length is checked before it is
//! used, each value before it is believed.

use bytes::{Buf, Bytes};
use volsync_mover::{Kind, Metadata, RelPath, Time, Xattr, check_name};

use super::{
    CopyRange, Entry, Listing, MAX_WANTS, MAX_XATTR_BYTES, MAX_XATTRS, Message, MessageError,
    SegmentSignature, Small, SmallFile, Want, tag,
};

/// The body of a frame, as far as it has not been read.
pub(super) struct Reader {
    pub(super) message: &'static str,
    pub(super) rest: Bytes,
}

impl Reader {
    pub(super) fn malformed(&self, what: &'static str) -> MessageError {
        MessageError::Malformed { message: self.message, what }
    }

    pub(super) fn message(&mut self, tag: u8) -> Result<Message, MessageError> {
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
