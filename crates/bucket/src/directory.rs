//! `Directory`: a store in a local directory, such as a mounted volume.
//!
//! A key is the path of a file. Every step of that path is taken from a held directory and through
//! no symbolic link, so that no key and nothing in the directory leads out of it.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::fs::{fstat, fsync, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, pread};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::{Error, Kind, Operation};
use crate::key::problem_with_path;
use crate::store::{Entry, Listing, Store};
use unfinished::Unfinished;

pub(crate) mod unfinished;

/// How many entries a listing runs ahead of its reader.
const AHEAD: usize = 1024;

/// How much of a stream is gathered before it is written.
const WRITE_SIZE: usize = 1 << 20;

/// What `mkfs` makes, and what only root may read.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// A store in a local directory.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    location: String,
}

impl Directory {
    /// The store in this directory, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let location = path.display().to_string();
        Self { path, location }
    }

    /// Does something with the held directory where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &str,
        work: impl FnOnce(&OwnedFd, &str) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Error> {
        let (path, owned) = (self.path.clone(), key.to_owned());
        let done = spawn_blocking(move || {
            if let Some(problem) = problem_with_path(&owned) {
                return Err(Trouble::new(Kind::Invalid, problem));
            }
            work(&open_root(&path)?, &owned)
        });
        done.await
            .unwrap_or_else(|error| Err(Trouble::new(Kind::Failing, error.to_string())))
            .map_err(|trouble| self.error(operation, key, trouble))
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, &self.location, key, trouble.reason)
    }
}

#[async_trait]
impl Store for Directory {
    fn location(&self) -> &str {
        &self.location
    }

    async fn create(&self) -> Result<(), Error> {
        let path = self.path.clone();
        let done = spawn_blocking(move || create_root(&path));
        done.await
            .unwrap_or_else(|error| Err(Trouble::new(Kind::Failing, error.to_string())))
            .map_err(|trouble| self.error(Operation::Create, "", trouble))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        self.blocking(Operation::Get, key, move |root, key| {
            let (file, stat) = open_file(root, key)?;
            let length = stat.st_size.unsigned_abs();
            let range = range.unwrap_or(0..length);
            if range.start > range.end || range.end > length {
                return Err(Trouble::new(
                    Kind::OutOfRange,
                    format!(
                        "bytes {} to {} were asked for, and it has {length}",
                        range.start, range.end
                    ),
                ));
            }
            Ok(read_at(&file, range)?.into())
        })
        .await
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        self.blocking(Operation::Put, key, move |root, key| {
            let mut unfinished = Unfinished::create(make_parents(root, key)?)?;
            unfinished.file().write_all(&content)?;
            Ok(unfinished.finish(name_of(key))?)
        })
        .await
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        self.blocking(Operation::Put, key, move |root, key| {
            let mut unfinished = Unfinished::create(make_parents(root, key)?)?;
            unfinished.file().write_all(&content)?;
            Ok(unfinished.finish_new(name_of(key))?)
        })
        .await
    }

    async fn put_stream(
        &self,
        key: &str,
        mut content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let mut unfinished = self
            .blocking(Operation::Put, key, |root, key| {
                Ok(Unfinished::create(make_parents(root, key)?)?)
            })
            .await?;
        let mut gathered = Vec::new();
        loop {
            let chunk = content.next().await.transpose().map_err(|error| {
                self.error(Operation::Put, key, Trouble::new(Kind::Content, error.to_string()))
            })?;
            let ended = chunk.is_none();
            gathered.extend_from_slice(&chunk.unwrap_or_default());
            if gathered.len() >= WRITE_SIZE || ended {
                let written = std::mem::take(&mut gathered);
                unfinished = self
                    .blocking(Operation::Put, key, move |_, _| {
                        unfinished.file().write_all(&written)?;
                        Ok(unfinished)
                    })
                    .await?;
            }
            if ended {
                let finish = |_: &OwnedFd, key: &str| Ok(unfinished.finish(name_of(key))?);
                return self.blocking(Operation::Put, key, finish).await;
            }
        }
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        self.blocking(Operation::Head, key, |root, key| {
            let stat = statat(&open_parents(root, key)?, name_of(key), AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(entry(key.to_owned(), &stat)),
                _ => Err(no_such_object()),
            }
        })
        .await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        walk(self.path.clone(), prefix.to_owned())
            .map(move |found| found.map_err(|trouble| self.error(Operation::List, prefix, trouble)))
            .boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.blocking(Operation::Delete, key, |root, key| {
            let removed = open_parents(root, key)
                .and_then(|parent| unlinkat(&parent, name_of(key), AtFlags::empty()));
            match removed {
                // A directory is no object, and neither is what lies below a file.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    reason: String,
}

impl Trouble {
    fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::new(Kind::of_io(&error), words(&error))
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP => Self::new(Kind::Invalid, "a symbolic link is in the way"),
            _ => io::Error::from(error).into(),
        }
    }
}

/// An I/O error in people's words, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Exactly this range of a file. Its memory is not cleared first: packs are read by the gigabyte.
fn read_at(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = (range.end - range.start) as usize;
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        let at = range.start + content.len() as u64;
        match pread(file, spare_capacity(&mut content), at) {
            // It became shorter since it was looked at.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    content.truncate(length);
    Ok(content)
}

fn no_such_object() -> Trouble {
    Trouble::new(Kind::NotFound, "no such file")
}

/// A directory below a held one, or the held one itself. It is readable: that is what flushing it
/// and listing it need.
const HELD: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The path itself may lead through links: it is the user's.
fn open_root(path: &Path) -> Result<OwnedFd, Trouble> {
    let flags = HELD.difference(OFlags::NOFOLLOW);
    openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Trouble::new(Kind::NoBucket, "there is no such directory"),
        Errno::NOTDIR => Trouble::new(Kind::NoBucket, "it is not a directory"),
        _ => error.into(),
    })
}

fn create_root(path: &Path) -> Result<(), Trouble> {
    let mut missing: Vec<&Path> = Vec::new();
    for ancestor in path.ancestors() {
        match openat(CWD, ancestor, HELD.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(_) => break,
            Err(Errno::NOENT) => missing.push(ancestor),
            Err(error) => return Err(error.into()),
        }
    }
    for dir in missing.into_iter().rev() {
        match mkdirat(CWD, dir, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(parent) = dir.parent() {
            fsync(openat(CWD, parent, HELD.difference(OFlags::NOFOLLOW), Mode::empty())?)?;
        }
    }
    Ok(())
}

fn name_of(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

fn parents_of(key: &str) -> impl Iterator<Item = &str> {
    key.rsplit_once('/').map(|(parents, _)| parents.split('/')).into_iter().flatten()
}

fn open_parents(root: &OwnedFd, key: &str) -> rustix::io::Result<OwnedFd> {
    let mut held = openat(root, ".", HELD, Mode::empty())?;
    for name in parents_of(key) {
        held = openat(&held, name, HELD, Mode::empty())?;
    }
    Ok(held)
}

fn make_parents(root: &OwnedFd, key: &str) -> rustix::io::Result<OwnedFd> {
    let mut held = openat(root, ".", HELD, Mode::empty())?;
    for name in parents_of(key) {
        held = match openat(&held, name, HELD, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&held, name, Mode::RWXU) {
                    Ok(()) => fsync(&held)?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                openat(&held, name, HELD, Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok(held)
}

fn open_file(root: &OwnedFd, key: &str) -> Result<(File, Stat), Trouble> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(&open_parents(root, key)?, name_of(key), flags, Mode::empty())?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file.into(), stat)),
        _ => Err(no_such_object()),
    }
}

fn entry(key: String, stat: &Stat) -> Entry {
    #[allow(clippy::cast_possible_wrap, reason = "nanoseconds are fewer than 10^9")]
    let modified = Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).ok();
    Entry { key, size: stat.st_size.unsigned_abs(), modified }
}

/// Lists on a thread of its own, which stops when nobody listens any more.
fn walk(root: PathBuf, prefix: String) -> impl Stream<Item = Result<Entry, Trouble>> + Send {
    let (found, mut finds) = mpsc::channel(AHEAD);
    spawn_blocking(move || {
        // Nobody listens: the listing was dropped.
        let tell = |entry| found.blocking_send(entry).map_err(|_| Stopped::Dropped);
        let walked = open_root(&root)
            .map_err(Stopped::by)
            .and_then(|root| walk_prefix(&root, &prefix, &mut |entry| tell(Ok(entry))));
        if let Err(Stopped::Trouble(trouble)) = walked {
            drop(tell(Err(trouble)));
        }
    });
    stream::poll_fn(move |context| finds.poll_recv(context))
}

/// Why a walk ended early.
enum Stopped {
    Dropped,
    Trouble(Trouble),
}

impl Stopped {
    fn by(trouble: impl Into<Trouble>) -> Self {
        Self::Trouble(trouble.into())
    }
}

type Tell<'a> = &'a mut dyn FnMut(Entry) -> Result<(), Stopped>;

/// A prefix is the path of a directory and the beginning of a name in it.
fn walk_prefix(root: &OwnedFd, prefix: &str, tell: Tell<'_>) -> Result<(), Stopped> {
    let (parents, beginning) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    if !parents.is_empty() && problem_with_path(parents).is_some() {
        return Ok(());
    }
    match open_parents(root, prefix) {
        Ok(dir) => {
            let below = if parents.is_empty() { String::new() } else { format!("{parents}/") };
            walk_dir(dir, &below, beginning, tell)
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(Stopped::by(error)),
    }
}

fn walk_dir(dir: OwnedFd, below: &str, beginning: &str, tell: Tell<'_>) -> Result<(), Stopped> {
    let mut entries = Dir::read_from(&dir).map_err(Stopped::by)?;
    while let Some(read) = entries.read() {
        let read = read.map_err(Stopped::by)?;
        // A name that is not UTF-8 is no key of anybody.
        let Ok(name) = read.file_name().to_str() else { continue };
        let ours = !matches!(name, "." | "..") && !unfinished::is_unfinished(name);
        if !ours || !name.starts_with(beginning) || (below.is_empty() && name == LOST_AND_FOUND) {
            continue;
        }
        let stat = match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was deleted meanwhile.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(Stopped::by(error)),
        };
        let key = format!("{below}{name}");
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => tell(entry(key, &stat))?,
            FileType::Directory => match openat(&dir, name, HELD, Mode::empty()) {
                Ok(deeper) => walk_dir(deeper, &format!("{key}/"), "", tell)?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(Stopped::by(error)),
            },
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use std::os::unix::fs::symlink;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_no_bucket_and_is_not_made_by_writing() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Directory::new(scratch.path().join("a/b"));
        assert_eq!(store.get("x", None).await.unwrap_err().kind(), Kind::NoBucket);
        assert_eq!(store.put("x", bytes("x")).await.unwrap_err().kind(), Kind::NoBucket);
        let listed: Result<Vec<Entry>, Error> = store.list("").try_collect().await;
        assert_eq!(listed.unwrap_err().kind(), Kind::NoBucket);
        store.create().await.unwrap();
        store.create().await.unwrap();
        store.put("x", bytes("x")).await.unwrap();
        assert_eq!(store.head("y").await.unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn no_link_is_followed_out_of_the_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let inside = scratch.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        symlink(&outside, inside.join("data")).unwrap();
        symlink(outside.join("secret"), inside.join("config")).unwrap();
        let store = Directory::new(&inside);
        for key in ["data/secret", "config", "../outside/secret"] {
            store.get(key, None).await.unwrap_err();
        }
        store.put("data/new", bytes("x")).await.unwrap_err();
        // The link itself is replaced, not what it leads to.
        store.put("config", bytes("ours")).await.unwrap();
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
        let keys: Vec<String> =
            store.list("").map_ok(|entry| entry.key).try_collect().await.unwrap();
        assert_eq!(keys, ["config"]);
    }

    #[tokio::test]
    async fn a_stream_that_fails_leaves_nothing_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Directory::new(scratch.path());
        let broken = stream::iter([Ok(bytes("half")), Err(io::Error::other("gone"))]).boxed();
        let error = store.put_stream("x", broken).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::Content, "gone"));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_mkfs_and_a_killed_writer_left_is_not_listed() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join(LOST_AND_FOUND)).unwrap();
        std::fs::write(scratch.path().join(LOST_AND_FOUND).join("#1"), "").unwrap();
        std::fs::write(scratch.path().join(unfinished::new_name()), "").unwrap();
        let store = Directory::new(scratch.path());
        assert_eq!(store.list("").count().await, 0);
    }
}
