//! `Cache`: files of a repository that would otherwise be fetched again with every sync, in a directory.
//!
//! What is kept never changes under its name: index files, snapshots, and packs of trees. A name is the
//! hash of the content, so whatever became of a kept file, it is taken only if it is the right one. A
//! cache that cannot be read or written is none: nothing depends on it, and that is said once.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use crate::format::Id;

/// So much of the file system that the cache is on is left free, in percent: it may be a volume of its
/// own, and must not fill up one that is not.
const LEAVE_PERCENT: u64 = 10;
/// What a full cache is brought down to, in percent of its limit, so that not every file that comes
/// begins a search for one that may go.
const DOWN_TO_PERCENT: u64 = 80;
/// Our directory: restic's own cache of the same repository, if it was here before, is another.
const OURS: &str = "volsync";
/// The ending of a file that is being written.
const UNFINISHED: &str = "unfinished";

/// Kept files of one repository.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    /// Bytes that it may have.
    limit: u64,
    /// Bytes that it has.
    size: AtomicU64,
    /// Whether trouble has been told.
    told: AtomicBool,
    /// Held by whoever makes room.
    making_room: Mutex<()>,
    unfinished: AtomicU64,
    /// Files whose content was looked at once.
    seen: Mutex<HashSet<Id>>,
}

/// What may be kept, by the directory of the repository that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// An index file.
    Index,
    /// A snapshot.
    Snapshot,
    /// A pack of trees.
    Trees,
}

impl Kept {
    const ALL: [Self; 3] = [Self::Index, Self::Snapshot, Self::Trees];

    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Trees => "data",
        }
    }
}

impl Cache {
    /// The cache of the repository of this ID, below `directory`. `None`, and a word why, if there can
    /// be none.
    pub fn open(directory: &Path, repository: &str) -> Option<Self> {
        match Self::try_open(directory, repository) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!("working without a cache: {}: {error}", directory.display());
                None
            }
        }
    }

    fn try_open(directory: &Path, repository: &str) -> io::Result<Self> {
        // It comes from the repository, and becomes a name here.
        let repository = Id::from_hex(repository.as_bytes())
            .ok_or_else(|| io::Error::other("the repository's ID is none"))?;
        let ours = directory.join(OURS);
        let own = ours.join(repository.to_string());
        for kept in Kept::ALL {
            fs::create_dir_all(own.join(kept.directory()))?;
        }
        // restic was here before, or another repository, if the Secret was changed.
        for place in [directory, &ours] {
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                let is_cache = Id::from_hex(entry.file_name().as_encoded_bytes()).is_some();
                if is_cache && entry.path() != own {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
        let disk = rustix::fs::statvfs(&own)?;
        let cache = Self {
            directory: own,
            limit: 0,
            size: AtomicU64::new(0),
            told: AtomicBool::new(false),
            making_room: Mutex::new(()),
            unfinished: AtomicU64::new(0),
            seen: Mutex::default(),
        };
        let size = cache.files()?.iter().map(|file| file.size).sum();
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let room = bytes(disk.f_bavail).saturating_sub(bytes(disk.f_blocks) / 100 * LEAVE_PERCENT);
        Ok(Self { limit: room.saturating_add(size), size: AtomicU64::new(size), ..cache })
    }

    /// A kept file, whole.
    pub fn get(&self, kept: Kept, id: Id) -> Option<Bytes> {
        let path = self.path(kept, id);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.tell("read", &path, &error);
                return None;
            }
        };
        if Id::of(&content) != id {
            self.remove(&path, content.len() as u64);
            return None;
        }
        // What was used last goes last. Where that cannot be noted it only goes sooner.
        if let Err(error) = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()))
        {
            tracing::debug!("{}: {error}", path.display());
        }
        Some(content.into())
    }

    /// A part of a kept file, in bytes. All of it is looked at once.
    pub fn get_range(&self, kept: Kept, id: Id, range: Range<u64>) -> Option<Bytes> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let was_seen = seen().contains(&id);
        if !was_seen {
            self.get(kept, id)?;
            seen().insert(id);
        }
        let path = self.path(kept, id);
        let mut content = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut content, range.start));
        match read {
            Ok(()) => Some(content.into()),
            // It had to make room; or the range is none of this file, whoever says so.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                None
            }
            Err(error) => {
                self.tell("read", &path, &error);
                None
            }
        }
    }

    /// Whether a file of this size would be kept.
    pub fn takes(&self, size: u64) -> bool {
        size <= self.limit / 2 && !self.told.load(Relaxed)
    }

    /// Keeps a file, if there is room.
    pub fn put(&self, kept: Kept, id: Id, content: &[u8]) {
        let size = content.len() as u64;
        if !self.takes(size) || !self.has_room_for(size) {
            return;
        }
        let path = self.path(kept, id);
        if let Err(error) = self.write(&path, content) {
            self.tell("write", &path, &error);
            return;
        }
        self.size.fetch_add(size, Relaxed);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn path(&self, kept: Kept, id: Id) -> PathBuf {
        self.directory.join(kept.directory()).join(id.to_string())
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let number = self.unfinished.fetch_add(1, Relaxed);
        let unfinished = self.directory.join(format!("{number}.{UNFINISHED}"));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            // It would take the room that there is too little of.
            self.remove(&unfinished, 0);
        }
        written
    }

    fn has_room_for(&self, size: u64) -> bool {
        if self.size.load(Relaxed) + size <= self.limit {
            return true;
        }
        let _alone = self.making_room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                self.tell("list", &self.directory, &error);
                return false;
            }
        };
        self.size.store(files.iter().map(|file| file.size).sum(), Relaxed);
        files.sort_unstable_by_key(|file| file.used);
        for file in files {
            if self.size.load(Relaxed) + size <= self.limit / 100 * DOWN_TO_PERCENT {
                break;
            }
            self.remove(&file.path, file.size);
        }
        self.size.load(Relaxed) + size <= self.limit
    }

    fn remove(&self, path: &Path, size: u64) {
        match fs::remove_file(path) {
            Ok(()) => {
                let less = |all: u64| Some(all.saturating_sub(size));
                // The closure always answers.
                if self.size.fetch_update(Relaxed, Relaxed, less).is_err() {
                    tracing::debug!("{} was not counted", path.display());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.tell("remove", path, &error),
        }
    }

    fn files(&self) -> io::Result<Vec<KeptFile>> {
        let mut files = Vec::new();
        let places = Kept::ALL.map(|kept| self.directory.join(kept.directory()));
        for place in places.iter().chain([&self.directory]) {
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => metadata,
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let used = metadata.modified()?;
                files.push(KeptFile { path: entry.path(), size: metadata.len(), used });
            }
        }
        Ok(files)
    }

    fn tell(&self, what: &str, path: &Path, error: &io::Error) {
        if !self.told.swap(true, Relaxed) {
            tracing::warn!("the cache is of no use: cannot {what} {}: {error}", path.display());
        }
    }
}

struct KeptFile {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const REPOSITORY: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn with_limit(directory: &Path, limit: u64) -> Cache {
        Cache { limit, ..Cache::open(directory, REPOSITORY).unwrap() }
    }

    #[test]
    fn what_was_kept_comes_back_and_only_as_what_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = with_limit(scratch.path(), 1 << 20);
        let id = Id::of(b"an index");
        assert_eq!(cache.get(Kept::Index, id), None);
        cache.put(Kept::Index, id, b"an index");
        assert_eq!(cache.get(Kept::Index, id).unwrap(), "an index");
        assert_eq!(cache.get(Kept::Snapshot, id), None);
        fs::write(cache.path(Kept::Index, id), b"an indeX").unwrap();
        assert_eq!(cache.get(Kept::Index, id), None);
        assert!(!cache.path(Kept::Index, id).exists());
    }

    #[test]
    fn what_was_used_longest_ago_goes_when_there_is_no_room() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = with_limit(scratch.path(), 10_000);
        let content = |number: u8| vec![number; 1000];
        for number in 0..10 {
            cache.put(Kept::Trees, Id::of(&content(number)), &content(number));
            let file = File::open(cache.path(Kept::Trees, Id::of(&content(number)))).unwrap();
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            file.set_modified(used).unwrap();
        }
        let has = |number| cache.get(Kept::Trees, Id::of(&content(number))).is_some();
        assert!(has(0));
        cache.put(Kept::Trees, Id::of(&content(10)), &content(10));
        let kept: Vec<u8> = (0..11).filter(|number| has(*number)).collect();
        assert_eq!(kept, [0, 4, 5, 6, 7, 8, 9, 10]);
        // One file alone never takes most of it.
        cache.put(Kept::Trees, Id::of(&[1; 6000]), &[1; 6000]);
        assert!(cache.get(Kept::Trees, Id::of(&[1; 6000])).is_none());
    }

    #[test]
    fn another_repository_and_another_program_are_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let other = scratch.path().join(OURS).join(REPOSITORY.replace("01", "02"));
        let of_restic = scratch.path().join(REPOSITORY);
        for directory in [&other, &of_restic, &scratch.path().join("lost+found")] {
            fs::create_dir_all(directory).unwrap();
        }
        Cache::open(scratch.path(), REPOSITORY).unwrap();
        assert!(!other.exists() && !of_restic.exists());
        assert!(scratch.path().join("lost+found").exists());
    }

    #[test]
    fn what_a_repository_calls_itself_leads_nowhere() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("cache");
        fs::create_dir(&directory).unwrap();
        for name in ["../outside", "/etc", "", "abcd"] {
            assert!(Cache::open(&directory, name).is_none(), "{name}");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Cache::open(&file, REPOSITORY).is_none());
        let cache = with_limit(scratch.path(), 1 << 20);
        let place = cache.directory.join("index");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o500)).unwrap();
        fs::remove_dir(&place).unwrap();
        cache.put(Kept::Index, Id::of(b"x"), b"x");
        assert_eq!(cache.get(Kept::Index, Id::of(b"x")), None);
        assert!(cache.told.load(Relaxed));
    }
}
