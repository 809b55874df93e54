//! What the parts of a destination share: the volume, the session, what is open, what went wrong.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use volsync_mover::{
    Attribute, Dir, Metadata, Monitor, Privileges, RelPath, Root, apply_to_dir, differences,
    io_reason,
};

use super::link::{Ended, Outbox, Waker};
use super::listing::UNFINISHED;
use super::message::{Message, Want};
use super::session::{DestinationSession, MAX_SEGMENTS_AHEAD};

/// Requests a destination keeps open; what it remembers of each is some hundred bytes.
const OPEN_REQUESTS: usize = 8192;
/// Requests with a basis it keeps open; each holds a file or two.
const OPEN_DELTAS: usize = 32;

/// Why a destination cannot go on, for its report and for the source.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Whether trying again can help.
    pub transient: bool,
    /// Whether it can help at once: the cause has been removed.
    pub at_once: bool,
    /// One sentence.
    pub message: String,
    /// What helps, or nothing.
    pub hint: String,
}

/// A file whose content was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where it goes.
    pub directory: Arc<Directory>,
    /// Its name there.
    pub name: Vec<u8>,
    /// What it is to become.
    pub metadata: Metadata,
    /// Files that hold parts of it already.
    pub basis: Option<Basis>,
    /// Whether this is the second try, without a basis.
    pub again: bool,
}

impl Wanted {
    /// Its path in the volume.
    pub(super) fn path(&self) -> RelPath {
        self.directory.path.join(&self.name)
    }
}

/// Files that hold parts of the content: what an interrupted session left, and behind its end the
/// file as it is.
#[derive(Debug)]
pub(super) struct Basis {
    /// How far the unfinished file reaches; it is completed in place.
    pub unfinished: u64,
    /// The unfinished file, if there is one.
    pub unfinished_file: Option<File>,
    /// The file as it is.
    pub old: Option<File>,
    /// Length of both together.
    pub length: u64,
    /// Segments the source has taken, and whether the file is done with.
    taken: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Basis {
    /// Of `unfinished` up to its length, then `old`.
    pub(super) fn new(unfinished: Option<(File, u64)>, old: Option<(File, u64)>) -> Self {
        let length = unfinished
            .as_ref()
            .map_or(0, |(_, length)| *length)
            .max(old.as_ref().map_or(0, |(_, length)| *length));
        let (unfinished_file, unfinished) =
            unfinished.map_or((None, 0), |(file, length)| (Some(file), length));
        let old = old.map(|(file, _)| file);
        Self {
            unfinished,
            unfinished_file,
            old,
            length,
            taken: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Reads what the basis has at `offset`; what neither file has reads as zeros.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let own = self.unfinished.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (front, back) = bytes.split_at_mut(own);
        read_or_zeros(self.unfinished_file.as_ref(), front, offset)?;
        read_or_zeros(self.old.as_ref(), back, offset + own as u64)
    }

    /// Waits until segment `number` may be signed; false if the file is done with.
    pub(super) fn wait_for_turn(&self, number: u64, is_over: impl Fn() -> bool) -> bool {
        let mut state = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.1 && number >= state.0 + MAX_SEGMENTS_AHEAD {
            let (woken, timeout) = self
                .changed
                .wait_timeout(state, std::time::Duration::from_millis(200))
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && is_over() {
                return false;
            }
        }
        !state.1
    }

    /// The source has taken a segment.
    pub(super) fn used(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        self.changed.notify_all();
    }

    /// No more signatures are needed.
    pub(super) fn close(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }
}

fn read_or_zeros(file: Option<&File>, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut got = 0;
    while got < bytes.len() {
        let rest = bytes.get_mut(got..).unwrap_or_default();
        match file.map_or(Ok(0), |file| file.read_at(rest, offset + got as u64)) {
            Ok(0) => {
                rest.fill(0);
                break;
            }
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A directory of the destination while something in it is under way. When its listing has been
/// compared and every file in it is in place, its own attributes are set.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its path in the volume.
    pub path: RelPath,
    /// Held open.
    pub dir: Dir,
    /// What it is to become.
    pub want: Metadata,
    /// Whether anything in it was made, replaced or removed.
    touched: AtomicBool,
    under_way: AtomicUsize,
}

impl Directory {
    /// Held once, by the comparison of its listing.
    pub(super) fn new(path: RelPath, dir: Dir, want: Metadata) -> Self {
        Self { path, dir, want, touched: AtomicBool::new(false), under_way: AtomicUsize::new(1) }
    }

    /// Something in it is about to change. An unprivileged mover opens a directory of its own that
    /// is locked against writing; its mode is set again with its other attributes.
    pub(super) fn touch(&self) {
        if self.touched.swap(true, Ordering::Relaxed) || rustix::process::geteuid().is_root() {
            return;
        }
        let opened = self.dir.own_metadata().and_then(|own| {
            let open = Metadata { mode: own.mode | 0o700, ..own.clone() };
            apply_to_dir(&self.dir, &open, &own, &Privileges::current(), &mut |_| {})
        });
        if let Err(error) = opened {
            // The change itself will fail, and be reported.
            tracing::debug!(path = %self.path, %error, "a directory stays locked");
        }
    }
}

#[derive(Debug, Default)]
struct Open {
    requests: usize,
    deltas: usize,
    over: bool,
}

/// Where basis files to be signed go, with the number of their request.
type ToSign = Sender<(u64, Arc<Wanted>)>;

/// What the parts of a destination share.
pub(super) struct Target<'a> {
    /// The volume.
    pub root: &'a Root,
    /// Messages for the source.
    pub outbox: Outbox,
    /// The protocol's state.
    pub session: Mutex<DestinationSession<Arc<Wanted>>>,
    /// Counts and per-item failures.
    pub monitor: &'a Monitor,
    /// What this process may do.
    pub privileges: Privileges,
    /// Distinguishes the temporary names of this session.
    pub token: u32,
    /// Basis files to be signed.
    to_sign: Mutex<Option<ToSign>>,
    waker: Waker,
    /// Hard links and who waits for whom.
    pub links: Mutex<HashMap<(u64, u64), super::hard_links::Group>>,
    /// Directories whose mode would lock out an unprivileged mover; set at the very end.
    pub late: Mutex<Vec<(RelPath, Metadata)>>,
    /// Bytes that need no more work.
    pub bytes_done: AtomicU64,
    temporaries: AtomicU64,
    open: Mutex<Open>,
    closed: Condvar,
    asking: Mutex<()>,
    full: Mutex<Option<Failure>>,
    failure: Mutex<Option<Failure>>,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("token", &self.token).finish_non_exhaustive()
    }
}

impl<'a> Target<'a> {
    /// For one session.
    pub(super) fn new(
        root: &'a Root,
        outbox: Outbox,
        waker: Waker,
        monitor: &'a Monitor,
        token: u32,
        to_sign: ToSign,
    ) -> Self {
        Self {
            root,
            outbox,
            session: Mutex::default(),
            monitor,
            privileges: Privileges::current(),
            token,
            to_sign: Mutex::new(Some(to_sign)),
            waker,
            links: Mutex::default(),
            late: Mutex::default(),
            bytes_done: AtomicU64::new(0),
            temporaries: AtomicU64::new(0),
            open: Mutex::default(),
            closed: Condvar::new(),
            asking: Mutex::default(),
            full: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// The session's state, locked.
    pub(super) fn session(&self) -> MutexGuard<'_, DestinationSession<Arc<Wanted>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for files of one directory, waiting until few enough are open.
    pub(super) fn ask(
        &self,
        directory: &Arc<Directory>,
        wanted: Vec<Arc<Wanted>>,
        wait: bool,
    ) -> Result<(), Ended> {
        if wanted.is_empty() || self.is_full().is_some() {
            return Ok(());
        }
        let deltas = wanted.iter().filter(|wanted| wanted.basis.is_some()).count();
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            while wait
                && !open.over
                && (open.requests + wanted.len() > OPEN_REQUESTS
                    || (deltas > 0 && open.deltas + deltas > OPEN_DELTAS))
            {
                open = self.closed.wait(open).unwrap_or_else(PoisonError::into_inner);
            }
            if open.over {
                return Err(Ended);
            }
            open.requests += wanted.len();
            open.deltas += deltas;
        }
        directory.under_way.fetch_add(wanted.len(), Ordering::Relaxed);
        let files = wanted
            .iter()
            .map(|w| (w.name.clone(), w.basis.as_ref().map_or(0, |basis| basis.length)))
            .collect();
        // Requests are numbered in the order in which they are sent.
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let first_id = self.session().ask(
            wanted.iter().map(|w| (w.clone(), w.basis.as_ref().map_or(0, |basis| basis.length))),
        );
        self.outbox.send(&Message::Want(Want {
            directory: directory.path.clone(),
            first_id,
            files,
        }))?;
        for (id, wanted) in (first_id..).zip(wanted) {
            if wanted.basis.is_some() {
                match &*self.to_sign.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some(to_sign) => to_sign.send((id, wanted)).map_err(|_| Ended)?,
                    None => return Err(Ended),
                }
            }
        }
        Ok(())
    }

    /// A request has come to its end, whichever.
    pub(super) fn close(&self, wanted: &Wanted) -> Result<(), Ended> {
        if let Some(basis) = &wanted.basis {
            basis.close();
        }
        // First the directory: when no request is open, every directory has its attributes.
        let released = self.release(&wanted.directory);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.requests -= 1;
            open.deltas -= usize::from(wanted.basis.is_some());
        }
        self.closed.notify_all();
        released
    }

    /// Waits until no request is open.
    pub(super) fn wait_until_closed(&self) -> Result<(), Ended> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.requests > 0 && !open.over {
            open = self.closed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        if open.over { Err(Ended) } else { Ok(()) }
    }

    /// Wakes all who wait: the session is over.
    pub(super) fn end(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.closed.notify_all();
    }

    /// Holds a directory until it is released once more.
    pub(super) fn hold(&self, directory: &Directory) {
        directory.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// A number for a temporary name that no request has.
    pub(super) fn next_temporary(&self) -> u64 {
        (1 << 63) | self.temporaries.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets go of a directory; the last to do so sets its attributes.
    pub(super) fn release(&self, directory: &Directory) -> Result<(), Ended> {
        if directory.under_way.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let locks_out = !self.privileges.is_root() && directory.want.mode & 0o500 != 0o500;
        if locks_out {
            self.late
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((directory.path.clone(), directory.want.clone()));
            return Ok(());
        }
        self.settle(&directory.path, &directory.dir, &directory.want)
    }

    /// Sets a directory's own attributes.
    pub(super) fn settle(&self, path: &RelPath, dir: &Dir, want: &Metadata) -> Result<(), Ended> {
        let done = dir.own_metadata().and_then(|have| {
            if differences(want, &have).any() {
                apply_to_dir(dir, want, &have, &self.privileges, &mut |attribute| {
                    self.not_kept(path, attribute)
                })?;
                self.monitor.attributes_changed();
            }
            Ok(())
        });
        done.or_else(|error| self.trouble(path, &error, "attributes not set"))
    }

    /// Notes an attribute that may not be set.
    pub(super) fn not_kept(&self, path: &RelPath, attribute: Attribute) {
        self.monitor.not_kept(path, attribute);
    }

    /// Notes what could not be done to one item; ends the session if nothing else could be done
    /// either.
    pub(super) fn trouble(
        &self,
        path: &RelPath,
        error: &io::Error,
        what: &str,
    ) -> Result<(), Ended> {
        use rustix::io::Errno;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let (message, hint) = match errno {
            Some(Errno::NOSPC) => (
                "the destination volume is full",
                "make room on the destination or enlarge it; what has arrived is kept and not sent again",
            ),
            Some(Errno::DQUOT) => (
                "the disk quota of the destination volume is used up",
                "raise the quota; what has arrived is kept and not sent again",
            ),
            Some(Errno::ROFS) => ("the destination volume is read-only", "mount it writable"),
            _ => {
                self.monitor.skipped(path, &format!("{what}: {}", io_reason(error)));
                return Ok(());
            }
        };
        let failure = Failure {
            transient: errno != Some(Errno::ROFS),
            at_once: false,
            message: format!("{message} (at {path})"),
            hint: hint.to_owned(),
        };
        if errno == Some(Errno::ROFS) {
            self.fail(failure);
            return Err(Ended);
        }
        // The comparison goes on without asking for anything: what the source no longer has may
        // make the room that is missing.
        self.full.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        Ok(())
    }

    /// Why nothing more is asked for, if the volume has become full.
    pub(super) fn is_full(&self) -> Option<Failure> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the session; the first failure counts.
    pub(super) fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_some() {
            return;
        }
        let Failure { transient, at_once, message, hint } = failure.clone();
        *first = Some(failure);
        drop(first);
        // The source is told at once; whoever waits here is woken.
        self.outbox
            .send(&Message::Problem { transient, at_once, message, hint })
            .unwrap_or_default();
        self.end();
        self.waker.stop();
    }

    /// No more basis files will be signed.
    pub(super) fn stop_signing(&self) {
        self.to_sign.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the session is over.
    pub(super) fn is_over(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).over
    }

    /// What ended the session, if something did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A name for something that is put in place when it is complete.
    pub(super) fn temporary_name(&self, id: u64) -> Vec<u8> {
        format!(".volsync-tmp-{:08x}-{id:x}", self.token).into_bytes()
    }
}

/// The name under which a large file grows; the same in every session, so that the next one
/// finds what an interrupted one left.
pub(super) fn unfinished_name(name: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(name).to_hex();
    let mut unfinished = UNFINISHED.to_vec();
    unfinished.extend_from_slice(b"part-");
    unfinished.extend_from_slice(hash.as_bytes().get(..32).unwrap_or_default());
    unfinished
}
