//! The source's walk: every directory once, parents first, as listings of bounded size.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use volsync_mover::{AttributesWanted, Dir, Kind, Metadata, Monitor, RelPath, Root};

use super::link::{Ended, Outbox};
use super::message::{Entry, Listing, MAX_XATTRS, Message};
use super::session::LISTING_CREDIT;

/// Names of one directory that are held in memory at a time; a larger directory is read in
/// slices, each name belonging to the slice that its hash says.
const SLICE_NAMES: usize = 64 << 10;
/// A listing is sent when it has grown to about this many bytes.
const LISTING_BYTES: usize = 48 << 10;
/// Prefix of names the destination gives to unfinished files; they are never replicated.
pub(super) const UNFINISHED: &[u8] = b".volsync-";

/// Which of `slices` a name belongs to. Both sides must agree: FNV-1a, 32 bits, modulo `slices`.
pub(super) fn slice_of(name: &[u8], slices: u32) -> u32 {
    if slices <= 1 {
        return 0;
    }
    let hash = name
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash % slices
}

/// Whether a name never replicates: unfinished files anywhere, `lost+found` at the root.
pub(super) fn is_ignored(directory: &RelPath, name: &[u8]) -> bool {
    name.starts_with(UNFINISHED) || (directory.as_bytes().is_empty() && name == b"lost+found")
}

/// How many listings may still be sent before the destination has compared some.
#[derive(Debug)]
pub(super) struct Credit {
    state: Mutex<(u32, bool)>,
    changed: Condvar,
}

impl Credit {
    /// As much as both sides begin with.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new((LISTING_CREDIT, false)), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, (u32, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The destination has compared some.
    pub(super) fn add(&self, listings: u32) {
        self.state().0 += listings;
        self.changed.notify_all();
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.state().1 = true;
        self.changed.notify_all();
    }

    fn take(&self) -> Result<(), Ended> {
        let mut state = self.state();
        loop {
            if state.1 {
                return Err(Ended);
            }
            if state.0 > 0 {
                state.0 -= 1;
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the walk found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Entries listed.
    pub entries: u64,
    /// Bytes in all regular files.
    pub total_bytes: u64,
    /// Whether everything could be read.
    pub complete: bool,
}

/// Walks a volume.
pub(super) struct Walk<'a> {
    root: &'a Root,
    outbox: &'a Outbox,
    credit: &'a Credit,
    monitor: &'a Monitor,
    /// Called before each listing is sent.
    on_listing: &'a (dyn Fn() + Sync),
    walked: Walked,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("walked", &self.walked).finish_non_exhaustive()
    }
}

impl<'a> Walk<'a> {
    /// Of `root`, into `outbox`, as far as `credit` reaches.
    pub(super) fn new(
        root: &'a Root,
        outbox: &'a Outbox,
        credit: &'a Credit,
        monitor: &'a Monitor,
        on_listing: &'a (dyn Fn() + Sync),
    ) -> Self {
        let walked = Walked { complete: true, ..Walked::default() };
        Self { root, outbox, credit, monitor, on_listing, walked }
    }

    /// The whole volume, then `End`.
    pub(super) fn run(mut self) -> Result<Walked, Ended> {
        // Subdirectories still to be walked, by directory: its path and their names.
        let mut ahead: Vec<(RelPath, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
        let below = self.directory(&RelPath::root())?;
        ahead.push((RelPath::root(), below.into_iter()));
        while let Some((parent, names)) = ahead.last_mut() {
            let Some(name) = names.next() else {
                ahead.pop();
                continue;
            };
            let path = parent.join(&name);
            let below = self.directory(&path)?;
            if !below.is_empty() {
                ahead.push((path, below.into_iter()));
            }
        }
        Ok(self.walked)
    }

    /// Lists one directory and returns the names of its subdirectories.
    fn directory(&mut self, path: &RelPath) -> Result<Vec<Vec<u8>>, Ended> {
        let opened = self.root.dir(path).and_then(|dir| Ok((dir.own_metadata()?, dir)));
        let (own, dir) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                self.skipped(path, &error)?;
                return self.unreadable(path);
            }
        };
        let other_file_system = own.device != self.root.device();
        let mut listing = Listing {
            directory: path.clone(),
            slice: 0,
            slices: 1,
            own: Some(own),
            last: false,
            complete: true,
            entries: Vec::new(),
        };
        if other_file_system {
            listing.last = true;
            listing.complete = false;
            self.send(listing)?;
            return Ok(Vec::new());
        }
        let mut subdirectories = Vec::new();
        let mut names = Vec::new();
        let mut count = 0usize;
        let read = dir.entries(&mut |name: &[u8], _| {
            count += 1;
            if count <= SLICE_NAMES && !is_ignored(path, name) {
                names.push(name.to_vec());
            }
        });
        if let Err(error) = read {
            self.skipped(path, &error)?;
            listing.complete = false;
        }
        listing.slices = u32::try_from(count.div_ceil(SLICE_NAMES)).unwrap_or(u32::MAX).max(1);
        for slice in 0..listing.slices {
            if listing.slices > 1 {
                names.clear();
                let slices = listing.slices;
                let read = dir.entries(&mut |name: &[u8], _| {
                    if slice_of(name, slices) == slice && !is_ignored(path, name) {
                        names.push(name.to_vec());
                    }
                });
                if let Err(error) = read {
                    self.skipped(path, &error)?;
                    listing.complete = false;
                }
            }
            names.sort_unstable();
            names.dedup();
            listing.slice = slice;
            listing = self.slice(&dir, listing, &mut names, &mut subdirectories)?;
        }
        subdirectories.sort_unstable();
        Ok(subdirectories)
    }

    /// Lists nothing of a directory that cannot be opened, so that it exists at the destination
    /// and what it holds there stays.
    fn unreadable(&mut self, path: &RelPath) -> Result<Vec<Vec<u8>>, Ended> {
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Ok(Vec::new());
        };
        let own = self.root.dir(&parent).and_then(|dir| dir.metadata(name, AttributesWanted::All));
        match own {
            Ok(own) if own.kind == Kind::Directory => self.send(Listing {
                directory: path.clone(),
                slice: 0,
                slices: 1,
                own: Some(own),
                last: true,
                complete: false,
                entries: Vec::new(),
            })?,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.skipped(path, &error)?,
        }
        Ok(Vec::new())
    }

    /// Sends the entries of `names`, the last listing of the slice included.
    fn slice(
        &mut self,
        dir: &Dir,
        mut listing: Listing,
        names: &mut Vec<Vec<u8>>,
        subdirectories: &mut Vec<Vec<u8>>,
    ) -> Result<Listing, Ended> {
        let mut bytes = 0;
        for name in names.drain(..) {
            let entry = match self.entry(dir, name) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err((name, error)) => {
                    self.skipped(&listing.directory.join(&name), &error)?;
                    listing.complete = false;
                    continue;
                }
            };
            self.walked.entries += 1;
            match entry.metadata.kind {
                Kind::Directory => subdirectories.push(entry.name.clone()),
                Kind::File => self.walked.total_bytes += entry.metadata.size,
                Kind::Symlink
                | Kind::Fifo
                | Kind::Socket
                | Kind::CharDevice
                | Kind::BlockDevice => {}
            }
            bytes += size_of_entry(&entry);
            listing.entries.push(entry);
            if bytes >= LISTING_BYTES {
                bytes = 0;
                let next = self.following(&listing);
                self.send(std::mem::replace(&mut listing, next))?;
            }
        }
        let mut next = self.following(&listing);
        next.complete = true;
        listing.last = true;
        self.send(listing)?;
        Ok(next)
    }

    fn following(&self, listing: &Listing) -> Listing {
        Listing { own: None, entries: Vec::new(), directory: listing.directory.clone(), ..*listing }
    }

    fn entry(&self, dir: &Dir, name: Vec<u8>) -> Result<Option<Entry>, (Vec<u8>, std::io::Error)> {
        let read = dir.metadata(&name, AttributesWanted::All).and_then(|metadata| {
            let target =
                if metadata.kind == Kind::Symlink { dir.read_link(&name)? } else { Vec::new() };
            Ok((metadata, target))
        });
        match read {
            Ok((mut metadata, target)) => {
                self.bound_xattrs(dir, &name, &mut metadata);
                Ok(Some(Entry { name, metadata, target }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err((name, error)),
        }
    }

    /// Keeps an entry within what the protocol can carry.
    fn bound_xattrs(&self, _dir: &Dir, name: &[u8], metadata: &mut Metadata) {
        if metadata.xattrs.len() > MAX_XATTRS {
            metadata.xattrs.truncate(MAX_XATTRS);
            self.monitor.not_kept(
                &RelPath::root().join(name),
                volsync_mover::Attribute::Xattr(b"(more than 1024)".to_vec()),
            );
        }
    }

    fn send(&self, listing: Listing) -> Result<(), Ended> {
        self.credit.take()?;
        (self.on_listing)();
        self.monitor.found(
            listing.entries.len() as u64,
            listing.entries.iter().map(|entry| entry.metadata.size).sum(),
        );
        self.outbox.send(&Message::Listing(listing))
    }

    fn skipped(&mut self, path: &RelPath, error: &std::io::Error) -> Result<(), Ended> {
        self.walked.complete = false;
        let why = format!("not read: {}", volsync_mover::io_reason(error));
        self.monitor.skipped(path, &why);
        self.outbox.send(&Message::Skipped { path: path.clone(), why })
    }
}

fn size_of_entry(entry: &Entry) -> usize {
    let xattrs: usize =
        entry.metadata.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + 8).sum();
    entry.name.len() + entry.target.len() + xattrs + 32
}
