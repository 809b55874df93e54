//! `Sftp`: a directory on a server that is reached by SSH.
//!
//! A key is the path of a file below that directory. A file is written under a name of its own and
//! renamed when it is whole. The server decides what links in that path lead to, as it does for
//! every user of it; links, devices and the like are no objects.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::{try_join, try_join_all};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use russh_sftp::protocol::{FileAttributes, FileType};
use tokio::sync::Mutex;

use crate::directory::LOST_AND_FOUND;
use crate::directory::unfinished::is_unfinished;
use crate::error::{Error, Kind, Operation};
use crate::key::problem_with_path;
use crate::retry::Retries;
use crate::settings::Settings;
use crate::store::{Entry, Listing, Store};
use crate::whole_range::cut;
use connect::Connect;
use session::Session;
use trouble::Trouble;
use unfinished::{LeftBehind, Unfinished};

mod connect;
mod known_hosts;
mod session;
mod trouble;
mod unfinished;

/// How much of a stream is gathered before it is written, in bytes.
const WRITE_SIZE: usize = 4 << 20;

/// How many directories are listed at once.
const DIRECTORIES_AT_ONCE: usize = 8;

/// How long a directory's listing is expected to be, in bytes: of 100 000 files it is 25 MB.
const USUAL_LISTING: u64 = 25 << 20;

/// A directory on a server.
pub(crate) struct Sftp {
    /// Its path there, without a slash at its end; relative to the user's home unless it starts
    /// with one.
    root: String,
    connect: Connect,
    /// The connection that new calls use.
    session: Mutex<Option<Arc<Session>>>,
    retries: Retries,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sftp").field("location", &self.retries.location()).finish_non_exhaustive()
    }
}

/// What one call asks over a session. A call that is given up may have left something open there,
/// and after silence nothing is to be expected of it: the next call makes another.
struct Attempt {
    session: Arc<Session>,
    ended: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.session.retire();
        }
    }
}

/// A directory that is still to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    /// What the keys in it start with: nothing, or the directory with a slash.
    below: String,
    /// What the names in it have to start with.
    beginning: String,
}

/// What a directory holds.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    directories: Vec<Pending>,
}

impl Sftp {
    /// A directory that is connected to when it is first used.
    pub(crate) fn new(
        user: Option<String>,
        host: String,
        port: Option<u16>,
        path: String,
        settings: &Settings,
        retries: Retries,
    ) -> Result<Self, Error> {
        let connect = Connect::new(user, host, port, settings).map_err(|reason| {
            Error::new(Kind::Invalid, Operation::Open, retries.location(), "", reason)
        })?;
        let root = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self { root, connect, session: Mutex::new(None), retries })
    }

    fn error(&self, operation: Operation, key: &str, trouble: Trouble) -> Error {
        Error::new(trouble.kind, operation, self.retries.location(), key, trouble.reason)
    }

    /// The connection, or a new one.
    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.is_usable()) {
            return Ok(session.clone());
        }
        *held = None;
        let session = Arc::new(self.connect.connect().await?);
        LeftBehind::remove_over(&session);
        *held = Some(session.clone());
        Ok(session)
    }

    /// Does something over the connection.
    async fn with<T, F>(&self, work: impl FnOnce(Arc<Session>) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let session = self.session().await?;
        let mut attempt = Attempt { session: session.clone(), ended: false };
        let done = work(session).await;
        attempt.ended = !matches!(&done, Err(trouble) if trouble.kind == Kind::Unreachable);
        done
    }

    /// Where something is on the server.
    fn at(&self, below: &str) -> String {
        match self.root.as_str() {
            "/" => format!("/{below}"),
            root => format!("{root}/{below}"),
        }
    }

    fn path_of(&self, key: &str) -> Result<String, Trouble> {
        match problem_with_path(key) {
            Some(problem) => Err(Trouble::new(Kind::Invalid, problem)),
            None => Ok(self.at(key)),
        }
    }

    /// Says whether it is the whole directory that is not there: a server has the same word for
    /// both.
    async fn absent(&self, session: &Session, trouble: Trouble) -> Trouble {
        if trouble.kind != Kind::NotFound {
            return trouble;
        }
        match session.stat(&self.root).await {
            Ok(root) if root.file_type() == FileType::Dir => trouble,
            Ok(_) => Trouble::new(Kind::NoBucket, "it is not a directory"),
            Err(missing) if missing.kind == Kind::NotFound => {
                Trouble::new(Kind::NoBucket, "there is no such directory")
            }
            Err(other) => other,
        }
    }

    async fn try_create(&self, session: Arc<Session>) -> Result<(), Trouble> {
        let mut missing = Vec::new();
        let mut next = Some(self.root.as_str());
        while let Some(path) = next {
            match session.stat(path).await {
                Ok(there) if there.file_type() == FileType::Dir => break,
                Ok(_) => {
                    return Err(Trouble::new(Kind::Invalid, format!("{path} is not a directory")));
                }
                Err(absent) if absent.kind == Kind::NotFound => missing.push(path),
                Err(other) => return Err(other),
            }
            next = parent_of(path);
        }
        for path in missing.into_iter().rev() {
            session.make_directory(path).await?;
        }
        Ok(())
    }

    async fn try_head(&self, session: Arc<Session>, key: &str) -> Result<Entry, Trouble> {
        match session.lstat(&self.path_of(key)?).await {
            Ok(there) if there.file_type() == FileType::File => entry(key.to_owned(), &there),
            Ok(_) => Err(Trouble::new(Kind::NotFound, "no such file")),
            Err(trouble) => Err(self.absent(&session, trouble).await),
        }
    }

    async fn try_get(
        &self,
        session: Arc<Session>,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, Trouble> {
        // Opening what is no file could wait for ever.
        let length = self.try_head(session.clone(), key).await?.size;
        let range = range.unwrap_or(0..length);
        if range.start >= range.end || range.end > length {
            return Ok(cut(Bytes::new(), &range, length, 0)?);
        }
        let opened = match session.open(&self.path_of(key)?).await {
            Ok(opened) => opened,
            Err(trouble) => return Err(self.absent(&session, trouble).await),
        };
        let read = try_join(session.fstat(&opened), session.read(&opened, &range)).await;
        session.close_later(opened);
        let (now, content) = read?;
        if now.size != Some(length) {
            return Err(Trouble::new(Kind::Failing, "it was replaced while it was read"));
        }
        Ok(cut(content, &range, length, range.start)?)
    }

    async fn try_put(
        &self,
        session: Arc<Session>,
        key: &str,
        mut content: BoxStream<'_, io::Result<Bytes>>,
        is_new: bool,
    ) -> Result<bool, Trouble> {
        let path = self.path_of(key)?;
        let mut file = match self.unfinished(&session, key, &path).await {
            Ok(file) => file,
            Err(trouble) => return Err(session.explained(trouble, &self.root).await),
        };
        let written = async {
            let mut gathered = BytesMut::new();
            while let Some(chunk) = content.next().await {
                let chunk =
                    chunk.map_err(|error| Trouble::new(Kind::Content, error.to_string()))?;
                if gathered.is_empty() && chunk.len() >= WRITE_SIZE {
                    file.write(&chunk).await?;
                    continue;
                }
                gathered.extend_from_slice(&chunk);
                if gathered.len() >= WRITE_SIZE {
                    file.write(&gathered.split().freeze()).await?;
                }
            }
            file.write(&gathered.freeze()).await?;
            file.finish(&path, is_new).await
        }
        .await;
        if !matches!(written, Ok(true)) {
            file.abandon().await;
        }
        match written {
            Ok(is_written) => Ok(is_written),
            Err(trouble) => Err(session.explained(trouble, &self.root).await),
        }
    }

    /// A new file beside a path. The directories above it are made if they are not there, the
    /// store's own excepted.
    async fn unfinished(
        &self,
        session: &Arc<Session>,
        key: &str,
        path: &str,
    ) -> Result<Unfinished, Trouble> {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        match Unfinished::create(session, directory).await {
            Err(missing) if missing.kind == Kind::NotFound => {}
            created => return created,
        }
        for (end, _) in key.match_indices('/') {
            if let Err(trouble) = session.make_directory(&self.at(&key[..end])).await {
                return Err(self.absent(session, trouble).await);
            }
        }
        match Unfinished::create(session, directory).await {
            Ok(file) => Ok(file),
            Err(trouble) => Err(self.absent(session, trouble).await),
        }
    }

    async fn try_delete(&self, session: Arc<Session>, key: &str) -> Result<(), Trouble> {
        let path = self.path_of(key)?;
        let Err(trouble) = session.remove(&path).await else { return Ok(()) };
        if trouble.kind == Kind::NotFound {
            return match self.absent(&session, trouble).await {
                gone if gone.kind == Kind::NotFound => Ok(()),
                other => Err(other),
            };
        }
        // A directory is no object. Servers say of one that it cannot be removed, and not why.
        match session.lstat(&path).await {
            Ok(there) if there.file_type() == FileType::Dir => Ok(()),
            Ok(_) | Err(_) => Err(trouble),
        }
    }

    async fn try_list(&self, session: Arc<Session>, directory: &Pending) -> Result<Found, Trouble> {
        let Pending { below, beginning } = directory;
        let path = match below.strip_suffix('/') {
            Some(below) => self.at(below),
            None => self.root.clone(),
        };
        let names = match session.read_directory(&path).await {
            Ok(names) => names,
            Err(trouble) => {
                return match self.absent(&session, trouble).await {
                    gone if gone.kind == Kind::NotFound => Ok(Found::default()),
                    other => Err(other),
                };
            }
        };
        let mut found = Found::default();
        for (name, listed) in names {
            let left_out = below.is_empty() && name == LOST_AND_FOUND || is_unfinished(&name);
            if left_out || !is_name(&name) || !name.starts_with(beginning.as_str()) {
                continue;
            }
            let attributes = if is_whole(&name, &listed) {
                listed
            } else {
                match session.lstat(&format!("{path}/{name}")).await {
                    Ok(there) => there,
                    // It was deleted meanwhile, or is called otherwise.
                    Err(gone) if gone.kind == Kind::NotFound => continue,
                    Err(other) => return Err(other),
                }
            };
            let key = format!("{below}{name}");
            match attributes.file_type() {
                FileType::File => found.entries.push(entry(key, &attributes)?),
                FileType::Dir => found
                    .directories
                    .push(Pending { below: format!("{key}/"), beginning: String::new() }),
                FileType::Symlink | FileType::Other => {}
            }
        }
        Ok(found)
    }

    /// Lists a directory, again if need be.
    async fn list_directory(&self, prefix: &str, directory: Pending) -> Result<Found, Error> {
        let attempt = || async {
            let listed = self.with(|session| self.try_list(session, &directory)).await;
            listed.map_err(|trouble| self.error(Operation::List, prefix, trouble))
        };
        self.retries.run(Operation::List, prefix, USUAL_LISTING, attempt).await
    }
}

#[async_trait]
impl Store for Sftp {
    fn location(&self) -> &str {
        self.retries.location()
    }

    async fn create(&self) -> Result<(), Error> {
        let created = self.with(|session| self.try_create(session)).await;
        created.map_err(|trouble| self.error(Operation::Create, "", trouble))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        let got = self.with(|session| self.try_get(session, key, range)).await;
        got.map_err(|trouble| self.error(Operation::Get, key, trouble))
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        self.put_stream(key, stream::iter([Ok(content)]).boxed()).await
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let content = stream::iter([Ok(content)]).boxed();
        let put = self.with(|session| self.try_put(session, key, content, true)).await;
        put.map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    /// A stream whose connection breaks is not taken up again.
    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let put = self.with(|session| self.try_put(session, key, content, false)).await;
        put.map(drop).map_err(|trouble| self.error(Operation::Put, key, trouble))
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        let entry = self.with(|session| self.try_head(session, key)).await;
        entry.map_err(|trouble| self.error(Operation::Head, key, trouble))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        stream::try_unfold(first(prefix), move |mut pending: Vec<Pending>| async move {
            if pending.is_empty() {
                return Ok(None);
            }
            let now = pending.split_off(pending.len().saturating_sub(DIRECTORIES_AT_ONCE));
            let listings = now.into_iter().map(|directory| self.list_directory(prefix, directory));
            let mut entries = Vec::new();
            for found in try_join_all(listings).await? {
                entries.extend(found.entries);
                pending.extend(found.directories);
            }
            Ok::<_, Error>(Some((stream::iter(entries.into_iter().map(Ok)), pending)))
        })
        .try_flatten()
        .boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.with(|session| self.try_delete(session, key)).await;
        deleted.map_err(|trouble| self.error(Operation::Delete, key, trouble))
    }
}

/// Where a listing begins. A prefix is the path of a directory and the beginning of a name in it.
fn first(prefix: &str) -> Vec<Pending> {
    let (below, beginning) = prefix.split_at(prefix.rfind('/').map_or(0, |slash| slash + 1));
    let names_nothing =
        below.strip_suffix('/').is_some_and(|path| problem_with_path(path).is_some());
    if names_nothing {
        return Vec::new();
    }
    vec![Pending { below: below.to_owned(), beginning: beginning.to_owned() }]
}

/// What a path lies in; nothing above the root and above the user's home.
fn parent_of(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// Whether what a server lists can be the name of something in that directory.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// Whether a listing says enough of something. A name that is not UTF-8 is changed on its way here,
/// and then there is nothing of that name.
fn is_whole(name: &str, listed: &FileAttributes) -> bool {
    let known = listed.permissions.is_some() && listed.size.is_some();
    known && !name.contains(char::REPLACEMENT_CHARACTER)
}

fn entry(key: String, attributes: &FileAttributes) -> Result<Entry, Trouble> {
    let size = attributes
        .size
        .ok_or_else(|| Trouble::new(Kind::Failing, "the server does not say how long it is"))?;
    let modified = attributes.mtime.and_then(|time| Timestamp::from_second(time.into()).ok());
    Ok(Entry { key, size, modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_begins_in_the_directory_of_its_prefix() {
        for (prefix, below, beginning) in [
            ("", "", ""),
            ("key", "", "key"),
            ("keys/", "keys/", ""),
            ("data/0a/ab", "data/0a/", "ab"),
        ] {
            let expected = Pending { below: below.to_owned(), beginning: beginning.to_owned() };
            assert_eq!(first(prefix), [expected], "{prefix}");
        }
        for prefix in ["/", "/x", "../", "a/../b", "a//b"] {
            assert!(first(prefix).is_empty(), "{prefix}");
        }
    }

    #[test]
    fn directories_are_made_below_the_root_or_the_home() {
        assert_eq!(parent_of("/srv/repo"), Some("/srv"));
        assert_eq!(parent_of("/srv"), Some("/"));
        assert_eq!(parent_of("/"), None);
        assert_eq!(parent_of("backups/repo"), Some("backups"));
        assert_eq!(parent_of("backups"), None);
    }

    #[test]
    fn no_name_leads_elsewhere() {
        for name in ["", ".", "..", "a/b", "/etc", "../x", "a\0b"] {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["a", "...", "a b", ".hidden", "line\nbreak"] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
