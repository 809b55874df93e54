//! `Session`: one connection to a server, and what is asked over it.
//!
//! The requests are those of draft-ietf-secsh-filexfer-02, version 3 of the protocol; its extensions
//! are OpenSSH's (its file PROTOCOL, section 4). Many are on their way at once, and whoever stops
//! waiting for an answer loses nothing but that answer.

use std::collections::HashMap;
use std::future;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use russh::client::Handle;
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::extensions::{FSYNC, LIMITS, STATVFS, Statvfs};
use russh_sftp::protocol::{FileAttributes, FileType, OpenFlags, Packet, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::connect::HostCheck;
use super::trouble::Trouble;
use super::unfinished::LeftBehind;
use crate::error::Kind;

/// Renames in place of what is there (OpenSSH's PROTOCOL, section 4.3).
const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// How much every server reads or writes at once, in bytes.
const USUAL_SIZE: u32 = 32 << 10;

/// How much is read or written at once where the server allows more, in bytes.
const LARGEST_SIZE: u32 = 64 << 10;

/// What of a packet is no content, in bytes and at most.
const OVERHEAD: u64 = 1024;

/// How many requests of one object are on their way at once.
const AT_ONCE: usize = 16;

/// How many files and directories are open at once. Handles of OpenSSH are numbers, and russh-sftp
/// spoils those that are no text, from 128.
const HANDLES: usize = 100;

/// What is set aside for content before it is there, in bytes and at most.
const SET_ASIDE: u64 = 64 << 20;

/// A disk with less room than this is full, in bytes.
const FULL: u64 = 1 << 20;

/// What new files and directories may be done with, and by whom.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// How long tidying up may take.
pub(super) const CLEAN_UP: Duration = Duration::from_secs(10);

/// Why a connection is over.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The server takes no further credentials.
    Refused,
    /// It broke, or was ended.
    Lost(String),
}

/// Tells when a connection is over, and why.
pub(super) type Ending = watch::Receiver<Option<End>>;

/// Waits until a connection is over.
pub(super) async fn over(ending: &mut Ending) -> End {
    let end = match ending.wait_for(Option::is_some).await {
        Ok(end) => end.clone(),
        Err(_) => None,
    };
    end.unwrap_or_else(|| End::Lost("nobody knows why".to_owned()))
}

impl End {
    fn trouble(&self) -> Trouble {
        match self {
            Self::Refused => Trouble::new(Kind::Forbidden, "the server takes no credentials"),
            Self::Lost(why) => Trouble::lost(why),
        }
    }
}

/// A connection that is logged in. It is cut when nobody holds it any more.
pub(super) struct Session {
    raw: RawSftpSession,
    ssh: Handle<HostCheck>,
    socket: OwnedFd,
    ending: Ending,
    retired: AtomicBool,
    extensions: Extensions,
    read_size: u32,
    write_size: u32,
    handles: Arc<Semaphore>,
    left_behind: Arc<LeftBehind>,
}

/// Which extensions the server has.
#[derive(Debug, Default, Clone, Copy)]
struct Extensions {
    posix_rename: bool,
    fsync: bool,
    statvfs: bool,
}

/// A file or directory that the server holds open.
#[derive(Debug)]
pub(super) struct Opened {
    handle: String,
    _permit: OwnedSemaphorePermit,
}

impl Opened {
    pub(super) fn handle(&self) -> &str {
        &self.handle
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // What waits to be sent would otherwise keep a connection that hangs.
        if let Err(error) = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both) {
            tracing::debug!(%error, "the connection had ended already");
        }
    }
}

impl Session {
    /// Agrees with the server on what it can.
    pub(super) async fn start(
        raw: RawSftpSession,
        ssh: Handle<HostCheck>,
        socket: OwnedFd,
        ending: Ending,
        left_behind: Arc<LeftBehind>,
    ) -> Result<Self, Trouble> {
        let mut session = Self {
            raw,
            ssh,
            socket,
            ending,
            retired: AtomicBool::new(false),
            extensions: Extensions::default(),
            read_size: USUAL_SIZE,
            write_size: USUAL_SIZE,
            handles: Arc::new(Semaphore::new(HANDLES)),
            left_behind,
        };
        let offered = session.ask(session.raw.init()).await?.extensions;
        session.extensions = Extensions {
            posix_rename: has(&offered, POSIX_RENAME, "1"),
            fsync: has(&offered, FSYNC, "1"),
            statvfs: has(&offered, STATVFS, "2"),
        };
        if has(&offered, LIMITS, "1") {
            let limits = session.ask(session.raw.limits()).await?;
            session.read_size = size(limits.max_read_len, limits.max_packet_len);
            session.write_size = size(limits.max_write_len, limits.max_packet_len);
        }
        Ok(session)
    }

    /// Whether something new may be asked over it.
    pub(super) fn is_usable(&self) -> bool {
        let retired = self.retired.load(Ordering::Relaxed);
        !retired && !self.ssh.is_closed() && self.ending.borrow().is_none()
    }

    /// Lets it end with what is being asked now.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Files that could not be removed.
    pub(super) fn left_behind(&self) -> &LeftBehind {
        &self.left_behind
    }

    /// Waits for an answer as long as the connection lives.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, SftpError>> + Send,
    ) -> Result<T, Trouble> {
        let mut ending = self.ending.clone();
        tokio::select! {
            biased;
            answer = request => answer.map_err(|error| self.explain(error)),
            end = over(&mut ending) => Err(end.trouble()),
        }
    }

    /// The library says of a connection that broke only that it did.
    fn explain(&self, error: SftpError) -> Trouble {
        let trouble = Trouble::of_answer(error);
        match self.ending.borrow().as_ref() {
            Some(end) if trouble.kind == Kind::Unreachable => end.trouble(),
            _ => trouble,
        }
    }

    /// What is at a path, without following a link.
    pub(super) async fn lstat(&self, path: &str) -> Result<FileAttributes, Trouble> {
        Ok(self.ask(self.raw.lstat(path)).await?.attrs)
    }

    /// What a path leads to.
    pub(super) async fn stat(&self, path: &str) -> Result<FileAttributes, Trouble> {
        Ok(self.ask(self.raw.stat(path)).await?.attrs)
    }

    /// What an open file is now.
    pub(super) async fn fstat(&self, opened: &Opened) -> Result<FileAttributes, Trouble> {
        Ok(self.ask(self.raw.fstat(opened.handle())).await?.attrs)
    }

    /// Opens a file to be read.
    pub(super) async fn open(&self, path: &str) -> Result<Opened, Trouble> {
        let attributes = FileAttributes::empty();
        self.opened(self.raw.open(path, OpenFlags::READ, attributes)).await
    }

    /// Makes a file that is not there yet, to be written.
    pub(super) async fn create(&self, path: &str) -> Result<Opened, Trouble> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let attributes = with_mode(FILE_MODE);
        self.opened(self.raw.open(path, flags, attributes)).await
    }

    async fn opened(
        &self,
        request: impl Future<Output = Result<russh_sftp::protocol::Handle, SftpError>> + Send,
    ) -> Result<Opened, Trouble> {
        let permit = self.handles.clone().acquire_owned().await;
        let permit = permit.map_err(|error| Trouble::new(Kind::Failing, error.to_string()))?;
        let handle = self.ask(request).await?.handle;
        if handle.contains(char::REPLACEMENT_CHARACTER) {
            return Err(Trouble::new(
                Kind::Unsupported,
                "the server's handles are not text, which this release needs",
            ));
        }
        Ok(Opened { handle, _permit: permit })
    }

    /// Closes what was opened, and says whether all that was written could be.
    pub(super) async fn close(&self, opened: Opened) -> Result<(), Trouble> {
        self.ask(self.raw.close(opened.handle())).await.map(drop)
    }

    /// Closes what was only read, and waits for nothing.
    pub(super) fn close_later(self: &Arc<Self>, opened: Opened) {
        let session = self.clone();
        tokio::spawn(async move {
            match timeout(CLEAN_UP, session.close(opened)).await {
                Ok(Ok(())) => {}
                Ok(Err(trouble)) => tracing::debug!(reason = %trouble.reason, "cannot close"),
                // What may be open goes with the session.
                Err(_) => session.retire(),
            }
        });
    }

    /// Exactly this range of an open file.
    pub(super) async fn read(&self, opened: &Opened, range: &Range<u64>) -> Result<Bytes, Trouble> {
        let size = self.read_size;
        let expected = range.end.saturating_sub(range.start).min(SET_ASIDE);
        stream::iter(range.clone().step_by(size as usize))
            .map(|at| self.read_part(opened, at, (range.end - at).min(u64::from(size)) as u32))
            .buffered(AT_ONCE)
            .try_fold(
                BytesMut::with_capacity(expected as usize),
                |mut content: BytesMut, part: Vec<u8>| {
                    content.extend_from_slice(&part);
                    future::ready(Ok(content))
                },
            )
            .await
            .map(BytesMut::freeze)
    }

    /// So many bytes from there on. A server may answer with fewer than were asked for.
    async fn read_part(&self, opened: &Opened, at: u64, length: u32) -> Result<Vec<u8>, Trouble> {
        let mut part: Vec<u8> = Vec::new();
        while part.len() < length as usize {
            let missing = length - part.len() as u32;
            let request = self.raw.read(opened.handle(), at + part.len() as u64, missing);
            let data = self.ask(request).await?.data;
            if data.is_empty() || data.len() > missing as usize {
                return Err(Trouble::nonsense());
            }
            if part.is_empty() {
                part = data;
            } else {
                part.extend_from_slice(&data);
            }
        }
        Ok(part)
    }

    /// Writes into an open file from there on.
    pub(super) async fn write(
        &self,
        opened: &Opened,
        at: u64,
        content: &Bytes,
    ) -> Result<(), Trouble> {
        let size = self.write_size as usize;
        stream::iter((0..content.len()).step_by(size))
            .map(|start| {
                let part = content[start..(start + size).min(content.len())].to_vec();
                self.ask(self.raw.write(opened.handle(), at + start as u64, part))
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| future::ready(Ok(())))
            .await
    }

    /// Waits until an open file is on the disk, where the server can say so.
    pub(super) async fn flush(&self, opened: &Opened) -> Result<(), Trouble> {
        if !self.extensions.fsync {
            return Ok(());
        }
        self.ask(self.raw.fsync(opened.handle())).await.map(drop)
    }

    /// Gives a file another name, in place of a file that has it.
    pub(super) async fn replace(&self, from: &str, to: &str) -> Result<(), Trouble> {
        if self.extensions.posix_rename {
            let request = self.raw.extended(POSIX_RENAME, strings(&[from, to]));
            return match self.ask(request).await? {
                Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
                Packet::Status(status) => Err(Trouble::of_status(&status)),
                _ => Err(Trouble::nonsense()),
            };
        }
        match self.ask(self.raw.rename(from, to)).await {
            // The name may be taken: the protocol's own rename refuses then.
            Err(refused) if refused.kind == Kind::Failing => {
                if self.remove(to).await.is_err() {
                    return Err(refused);
                }
                self.ask(self.raw.rename(from, to)).await.map(drop)
            }
            renamed => renamed.map(drop),
        }
    }

    /// Gives a file another name, unless something has it: `false` then. That is the protocol's own
    /// rename (draft-ietf-secsh-filexfer-02, section 6.5).
    pub(super) async fn rename_new(&self, from: &str, to: &str) -> Result<bool, Trouble> {
        match self.ask(self.raw.rename(from, to)).await {
            Ok(_) => Ok(true),
            // Servers have no word for a name that is taken.
            Err(refused) if refused.kind == Kind::Failing => match self.lstat(to).await {
                Ok(_) => Ok(false),
                Err(_) => Err(refused),
            },
            Err(other) => Err(other),
        }
    }

    /// Removes a file.
    pub(super) async fn remove(&self, path: &str) -> Result<(), Trouble> {
        self.ask(self.raw.remove(path)).await.map(drop)
    }

    /// Makes a directory in one that is there. If it is there already, that is fine.
    pub(super) async fn make_directory(&self, path: &str) -> Result<(), Trouble> {
        let attributes = with_mode(DIRECTORY_MODE);
        let Err(trouble) = self.ask(self.raw.mkdir(path, attributes)).await else {
            return Ok(());
        };
        // Servers have no words for a name that is taken.
        match self.stat(path).await {
            Ok(there) if there.file_type() == FileType::Dir => Ok(()),
            Ok(_) => Err(Trouble::new(Kind::Invalid, "a file is where a directory has to be")),
            Err(_) => Err(trouble),
        }
    }

    /// What a directory holds, `.` and `..` included.
    pub(super) async fn read_directory(
        self: &Arc<Self>,
        path: &str,
    ) -> Result<Vec<(String, FileAttributes)>, Trouble> {
        let directory = self.opened(self.raw.opendir(path)).await?;
        let mut found = Vec::new();
        let read = loop {
            match self.read_names(&directory).await {
                Ok(names) if names.is_empty() => break Ok(found),
                Ok(names) => found.extend(names),
                Err(trouble) => break Err(trouble),
            }
        };
        self.close_later(directory);
        read
    }

    /// Some more of what a directory holds; nothing at its end.
    async fn read_names(
        &self,
        directory: &Opened,
    ) -> Result<Vec<(String, FileAttributes)>, Trouble> {
        let request = async {
            match self.raw.readdir(directory.handle()).await {
                Ok(names) => Ok(names.files),
                Err(SftpError::Status(end)) if end.status_code == StatusCode::Eof => Ok(Vec::new()),
                Err(other) => Err(other),
            }
        };
        let files = self.ask(request).await?;
        Ok(files.into_iter().map(|file| (file.filename, file.attrs)).collect())
    }

    /// Says of a failure that it was for want of room, where it was: the protocol has no word for
    /// that.
    pub(super) async fn explained(&self, trouble: Trouble, path: &str) -> Trouble {
        if trouble.kind != Kind::Failing || !self.extensions.statvfs {
            return trouble;
        }
        match self.ask(self.raw.statvfs(path)).await {
            Ok(disk) if is_full(&disk) => Trouble::new(Kind::Full, "there is no room left"),
            Ok(_) | Err(_) => trouble,
        }
    }
}

fn has(offered: &HashMap<String, String>, extension: &str, version: &str) -> bool {
    offered.get(extension).is_some_and(|there| there == version)
}

/// How much is read or written at once, by a server's own limits; 0 is none.
fn size(content: u64, packet: u64) -> u32 {
    let limits = [content, packet.saturating_sub(OVERHEAD)];
    let smallest = limits.into_iter().filter(|limit| *limit > 0).min();
    smallest.map_or(USUAL_SIZE, |limit| limit.min(u64::from(LARGEST_SIZE)) as u32)
}

fn is_full(disk: &Statvfs) -> bool {
    let room = disk.blocks_avail.saturating_mul(disk.fragment_size);
    // A file system without a fixed number of inodes says 0.
    room < FULL || (disk.inodes > 0 && disk.inodes_avail == 0)
}

fn with_mode(mode: u32) -> FileAttributes {
    FileAttributes { permissions: Some(mode), ..FileAttributes::empty() }
}

/// Strings as the protocol writes them: each after its length.
fn strings(all: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for text in all {
        data.extend_from_slice(&(text.len() as u32).to_be_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_limits_are_kept() {
        assert_eq!(size(0, 0), USUAL_SIZE);
        assert_eq!(size(261_120, 262_144), LARGEST_SIZE);
        assert_eq!(size(0, 34_000), 34_000 - 1024);
        assert_eq!(size(1000, 0), 1000);
    }

    #[test]
    fn strings_are_written_after_their_lengths() {
        assert_eq!(strings(&["a", "", "bc"]), b"\0\0\0\x01a\0\0\0\0\0\0\0\x02bc");
    }
}
