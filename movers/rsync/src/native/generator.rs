//! The generator: compares what the source lists with what the destination has, makes everything
//! but file content, and asks for that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use volsync_mover::{AttributesWanted, Dir, Kind, Metadata, RelPath, apply_at, differences};

use super::content::SMALL_FILE;
use super::delete::Deletes;
use super::hard_links;
use super::link::Ended;
use super::listing::{UNFINISHED, is_ignored, slice_of};
use super::message::{Entry, Listing, Message};
use super::target::{Basis, Directory, Target, Wanted, unfinished_name};

/// Names of a local directory that are held in memory at a time.
const LOCAL_NAMES: usize = 64 << 10;
/// Files gathered into one request.
const WANTS: usize = 256;
/// A basis below this is not worth its signature.
const LEAST_BASIS: u64 = 32 << 10;

/// Compares listings, one after the other.
#[derive(Debug)]
pub(super) struct Generator<'a> {
    target: &'a Target<'a>,
    deletes: &'a mut Deletes,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    directory: Arc<Directory>,
    /// What it holds, unless that is too much.
    local: Option<Names>,
    /// Whether nothing is in it, so that nothing need be looked up.
    empty: bool,
    /// Names listed in this slice.
    listed: Names,
    complete: bool,
    wanted: Vec<Arc<Wanted>>,
    /// Unfinished files that will be completed.
    resumed: Vec<Vec<u8>>,
}

/// Many names in little memory.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Names {
    fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len() as u32);
    }

    fn get(&self, at: usize) -> &[u8] {
        let start =
            at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(start);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|at| self.get(at))
    }

    /// Whether `name` is among them, if they are in order.
    fn contains(&self, name: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return true,
            }
        }
        false
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl<'a> Generator<'a> {
    /// For one session; what is to be deleted is gathered in `deletes`.
    pub(super) fn new(target: &'a Target<'a>, deletes: &'a mut Deletes) -> Self {
        Self { target, deletes, current: None }
    }

    /// Compares one listing and gives credit for another.
    pub(super) fn listing(&mut self, listing: Listing) -> Result<(), Ended> {
        let Listing { directory, slice, slices, own, last, complete, entries } = listing;
        if let Some(own) = own {
            self.current = self.open(directory, own)?;
        }
        let compared = entries.len() as u64;
        if let Some(mut current) = self.current.take() {
            current.complete &= complete;
            for entry in entries {
                current.listed.push(&entry.name);
                self.entry(&mut current, entry)?;
                if current.wanted.len() >= WANTS {
                    self.target.ask(
                        &current.directory,
                        std::mem::take(&mut current.wanted),
                        true,
                    )?;
                }
            }
            if last {
                // Before the last files are asked for: what is left over may take their room.
                self.sweep(&mut current, slice, slices)?;
                current.listed.clear();
            }
            self.target.ask(&current.directory, std::mem::take(&mut current.wanted), true)?;
            if last && slice + 1 == slices {
                self.target.release(&current.directory)?;
            } else {
                self.current = Some(current);
            }
        }
        self.target.monitor.compared(compared);
        self.target.session().compared(1);
        self.target.outbox.send(&Message::Credit {
            listings: 1,
            files_compared: self.target.monitor.progress().files_compared,
            bytes_done: self.target.bytes_done.load(Ordering::Relaxed),
        })
    }

    /// Opens a directory that its parent's listing has made sure of. `None` if that failed, which
    /// was reported then; what is below it is passed over.
    fn open(&mut self, path: RelPath, want: Metadata) -> Result<Option<Current>, Ended> {
        let dir = match self.target.root.dir(&path) {
            Ok(dir) => dir,
            Err(error) => {
                let gone =
                    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                if !gone {
                    self.target.trouble(&path, &error, "not written")?;
                }
                return Ok(None);
            }
        };
        let (mut names, mut count) = (Names::default(), 0usize);
        let read = dir.entries(&mut |name: &[u8], _| {
            count += 1;
            if count <= LOCAL_NAMES {
                names.push(name);
            }
        });
        let mut complete = true;
        if let Err(error) = read {
            complete = false;
            self.target.trouble(&path, &error, "not read at the destination")?;
        }
        Ok(Some(Current {
            directory: Arc::new(Directory::new(path, dir, want)),
            local: (complete && count <= LOCAL_NAMES).then_some(names),
            empty: complete && count == 0,
            listed: Names::default(),
            complete,
            wanted: Vec::new(),
            resumed: Vec::new(),
        }))
    }

    fn entry(&mut self, current: &mut Current, entry: Entry) -> Result<(), Ended> {
        let directory = &current.directory;
        if is_ignored(&directory.path, &entry.name) {
            return Ok(());
        }
        if let Some(key) = hard_links::key_of(&entry.metadata)
            && !hard_links::join(self.target, key, entry.metadata.nlink, directory, &entry.name)?
        {
            self.done(entry.metadata.size);
            return Ok(());
        }
        let have = if current.empty {
            None
        } else {
            match directory.dir.metadata(&entry.name, AttributesWanted::All) {
                Ok(have) => Some(have),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    self.target.trouble(
                        &directory.path.join(&entry.name),
                        &error,
                        "not compared",
                    )?;
                    return self.settled(&entry.metadata, false);
                }
            }
        };
        match entry.metadata.kind {
            Kind::File => self.file(current, entry, have),
            Kind::Directory => self.directory(current, &entry, have),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                self.other(current, &entry, have)
            }
        }
    }

    fn done(&self, bytes: u64) {
        self.target.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.target.monitor.done_bytes(bytes);
    }

    fn settled(&self, metadata: &Metadata, in_place: bool) -> Result<(), Ended> {
        match hard_links::key_of(metadata) {
            Some(key) => hard_links::settled(self.target, key, in_place),
            None => Ok(()),
        }
    }

    fn file(
        &mut self,
        current: &mut Current,
        entry: Entry,
        have: Option<Metadata>,
    ) -> Result<(), Ended> {
        let Entry { name, metadata: want, .. } = entry;
        let directory = current.directory.clone();
        match &have {
            Some(have)
                if have.kind == Kind::File
                    && have.size == want.size
                    && have.mtime == want.mtime =>
            {
                let differs = differences(&want, have).any();
                // Attributes belong to the inode: another name of it here must not change with it.
                if !differs || have.nlink <= want.nlink {
                    self.done(want.size);
                    if differs {
                        self.attributes(&directory, &name, &want, have)?;
                    }
                    return self.settled(&want, true);
                }
            }
            Some(have) if have.kind == Kind::Directory => {
                if !self.clear(&directory, &name)? {
                    return self.settled(&want, false);
                }
            }
            Some(_) | None => {}
        }
        let basis = match self.basis(current, &name, &want, have.as_ref()) {
            Ok(basis) => basis,
            Err(error) => {
                self.target.trouble(&directory.path.join(&name), &error, "not written")?;
                return self.settled(&want, false);
            }
        };
        current.wanted.push(Arc::new(Wanted {
            directory,
            name,
            metadata: want,
            basis,
            again: false,
        }));
        Ok(())
    }

    /// Finds what of a large file is there already.
    fn basis(
        &self,
        current: &mut Current,
        name: &[u8],
        want: &Metadata,
        have: Option<&Metadata>,
    ) -> io::Result<Option<Basis>> {
        if want.size <= SMALL_FILE {
            return Ok(None);
        }
        let dir = &current.directory.dir;
        let may_be_unfinished = current
            .local
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name.starts_with(UNFINISHED)));
        let mut unfinished = None;
        if may_be_unfinished {
            let name = unfinished_name(name);
            let found = dir.open_for_write(&name);
            current.resumed.push(name);
            match found {
                Ok(file) => {
                    let length = file.metadata()?.len().min(want.size);
                    unfinished = (length > 0).then_some((file, length));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let old = match have {
            Some(have) if have.kind == Kind::File && have.size >= LEAST_BASIS => {
                // A basis that may not be read is no basis.
                dir.open_file(name).ok().map(|file| (file, have.size))
            }
            Some(_) | None => None,
        };
        Ok((unfinished.is_some() || old.is_some()).then(|| Basis::new(unfinished, old)))
    }

    fn directory(
        &mut self,
        current: &Current,
        entry: &Entry,
        have: Option<Metadata>,
    ) -> Result<(), Ended> {
        let directory = &current.directory;
        let (dir, name) = (&directory.dir, &entry.name[..]);
        let done = match have {
            Some(have) if have.kind == Kind::Directory => self.let_in(dir, name, &have),
            Some(_) => {
                directory.touch();
                dir.remove_file(name).and_then(|()| self.make_directory(directory, name))
            }
            None => self.make_directory(directory, name),
        };
        done.or_else(|error| self.target.trouble(&directory.path.join(name), &error, "not made"))
    }

    fn make_directory(&self, directory: &Directory, name: &[u8]) -> io::Result<()> {
        directory.touch();
        directory.dir.make_dir(name, 0o700)?;
        self.target.monitor.other_made();
        Ok(())
    }

    /// An unprivileged mover opens its own directories to itself; their mode is set again at the
    /// end.
    fn let_in(&self, dir: &Dir, name: &[u8], have: &Metadata) -> io::Result<()> {
        if self.target.privileges.is_root() || have.mode & 0o500 == 0o500 {
            return Ok(());
        }
        let open = Metadata { mode: have.mode | 0o700, ..have.clone() };
        apply_at(dir, name, &open, have, &self.target.privileges, &mut |_| {})?;
        Ok(())
    }

    fn other(
        &mut self,
        current: &Current,
        entry: &Entry,
        have: Option<Metadata>,
    ) -> Result<(), Ended> {
        let Entry { name, metadata: want, target: points_to } = entry;
        let directory = &current.directory;
        let path = || directory.path.join(name);
        if let Some(have) = &have {
            let same = have.kind == want.kind
                && match want.kind {
                    Kind::Symlink => {
                        directory.dir.read_link(name).is_ok_and(|now| now == *points_to)
                    }
                    Kind::CharDevice | Kind::BlockDevice => have.rdev == want.rdev,
                    Kind::Fifo | Kind::Socket | Kind::File | Kind::Directory => true,
                };
            if same && (have.nlink <= want.nlink || !differences(want, have).any()) {
                if differences(want, have).any() {
                    self.attributes(directory, name, want, have)?;
                }
                return self.settled(want, true);
            }
            if have.kind == Kind::Directory && !self.clear(directory, name)? {
                return self.settled(want, false);
            }
        }
        let temporary = self.target.temporary_name(self.target.next_temporary());
        let dir = &directory.dir;
        directory.touch();
        let made = match want.kind {
            Kind::Symlink => dir.make_symlink(&temporary, points_to),
            Kind::Fifo => dir.make_fifo(&temporary, want.mode & 0o777),
            Kind::Socket => dir.make_socket(&temporary, want.mode & 0o777),
            Kind::CharDevice | Kind::BlockDevice | Kind::File | Kind::Directory => {
                dir.make_device(&temporary, want.kind, want.mode & 0o777, want.rdev)
            }
        };
        if let Err(error) = &made
            && error.kind() == io::ErrorKind::PermissionDenied
            && matches!(want.kind, Kind::CharDevice | Kind::BlockDevice)
        {
            self.target.not_kept(&path(), volsync_mover::Attribute::Device);
            return self.settled(want, false);
        }
        let done = made.and_then(|()| {
            let fresh = dir.metadata(&temporary, AttributesWanted::All)?;
            apply_at(dir, &temporary, want, &fresh, &self.target.privileges, &mut |attribute| {
                self.target.not_kept(&path(), attribute);
            })?;
            dir.rename(&temporary, dir, name)
        });
        match done {
            Ok(()) => {
                self.target.monitor.other_made();
                self.settled(want, true)
            }
            Err(error) => {
                self.target.trouble(&path(), &error, "not made")?;
                self.settled(want, false)
            }
        }
    }

    fn attributes(
        &self,
        directory: &Directory,
        name: &[u8],
        want: &Metadata,
        have: &Metadata,
    ) -> Result<(), Ended> {
        let path = directory.path.join(name);
        let mut not_kept = |attribute| self.target.not_kept(&path, attribute);
        match apply_at(&directory.dir, name, want, have, &self.target.privileges, &mut not_kept) {
            Ok(changed) => {
                if changed {
                    self.target.monitor.attributes_changed();
                }
                Ok(())
            }
            Err(error) => self.target.trouble(&path, &error, "attributes not set"),
        }
    }

    /// Removes a directory that stands where something else must; false if that failed.
    fn clear(&mut self, directory: &Directory, name: &[u8]) -> Result<bool, Ended> {
        let path = directory.path.join(name);
        directory.touch();
        let mut clean = true;
        let mut failures = Vec::new();
        match directory
            .dir
            .remove_tree(name, &mut |below, error| failures.push((below.clone(), error)))
        {
            Ok(count) => self.target.monitor.deleted(count),
            Err(error) => {
                clean = false;
                self.target.trouble(&path, &error, "not replaced")?;
            }
        }
        for (below, error) in failures {
            clean = false;
            self.target.trouble(&below, &error, "not deleted")?;
        }
        Ok(clean)
    }

    /// Finds what the source no longer has. Unfinished files nobody needs any more go at once,
    /// everything else when the whole tree has been compared.
    fn sweep(&mut self, current: &mut Current, slice: u32, slices: u32) -> Result<(), Ended> {
        if current.empty {
            return Ok(());
        }
        let ours = format!(".volsync-tmp-{:08x}-", self.target.token).into_bytes();
        let path = &current.directory.path;
        let mut leftovers = Vec::new();
        let (listed, resumed, complete, deletes) =
            (&current.listed, &current.resumed, current.complete, &mut *self.deletes);
        let mut look = |name: &[u8]| {
            if slice_of(name, slices) != slice || name.starts_with(&ours) {
                return Ok(());
            }
            if name.starts_with(UNFINISHED) {
                if !resumed.iter().any(|resumed| resumed == name) {
                    leftovers.push(name.to_vec());
                }
            } else if complete && !is_ignored(path, name) && !listed.contains(name) {
                return deletes.add(path, name);
            }
            Ok(())
        };
        let swept = match &current.local {
            Some(names) => names.iter().try_for_each(&mut look),
            None => {
                let mut result = Ok(());
                let read = current.directory.dir.entries(&mut |name: &[u8], _| {
                    if result.is_ok() {
                        result = look(name);
                    }
                });
                read.and(result)
            }
        };
        if let Err(error) = swept {
            self.target.trouble(path, &error, "not swept")?;
        }
        for name in leftovers {
            current.directory.touch();
            if let Err(error) = current.directory.dir.remove_file(&name) {
                self.target.trouble(&path.join(&name), &error, "unfinished file not removed")?;
            }
        }
        Ok(())
    }
}
