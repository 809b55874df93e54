//! The threads that read, hash, decrypt, verify and write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::runtime::Handle;
use volsync_mover::{Kind, file_metadata_and_xattrs};

use super::fetch::{self, Fetched, FetchedBlob, Wanted, is_missing};
use super::target::TargetFile;
use super::{RestoreOptions, Shared};
use crate::format::index::Location;
use crate::format::{BlobKind, Decoder, Error, Id};

/// Files that are there and are to be compared.
pub(super) type Batch = Vec<Arc<TargetFile>>;

/// Batches that wait.
const QUEUE: usize = 64;

/// The running threads.
#[derive(Debug)]
pub(super) struct Crew<'scope> {
    batches: Sender<Batch>,
    wanted: Sender<Vec<Wanted>>,
    stop: Sender<()>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Crew<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'env Shared<'env>,
        options: &'env RestoreOptions,
        runtime: &'env Handle,
    ) -> Result<Self, Error> {
        let (batches, to_compare) = bounded(QUEUE);
        let (wanted, to_fetch) = unbounded();
        let (out, fetched) = unbounded();
        let (stop, stopped) = bounded(0);
        let mut crew = Self { batches, wanted: wanted.clone(), stop, threads: Vec::new() };
        let spawn = |name: String, run: Box<dyn FnOnce() + Send + 'env>| {
            let run = move || {
                let _ended = Ended(shared);
                run();
            };
            std::thread::Builder::new().name(name).spawn_scoped(scope, run).map_err(Error::Thread)
        };
        let stop = stopped.clone();
        crew.threads.push(spawn(
            "restore-fetch".to_owned(),
            Box::new(move || fetch::run(shared, &to_fetch, &stop, &out, options, runtime)),
        )?);
        for number in 0..options.threads.max(1) {
            let worker = Worker {
                shared,
                decoder: Decoder::new()?,
                plain: Vec::new(),
                buffer: Vec::new(),
                wanted: wanted.clone(),
            };
            let (fetched, to_compare, stop) =
                (fetched.clone(), to_compare.clone(), stopped.clone());
            crew.threads.push(spawn(
                format!("restore-{number}"),
                Box::new(move || worker.run(&fetched, &to_compare, &stop)),
            )?);
        }
        Ok(crew)
    }

    /// Has files compared with what is there.
    pub(super) fn compare(&self, batch: Batch) {
        if let Err(rest) = self.batches.send(batch) {
            tracing::debug!(files = rest.0.len(), "nobody compares any more");
        }
    }

    /// Has blobs fetched and written.
    pub(super) fn fetch(&self, wanted: Vec<Wanted>) {
        send_wanted(&self.wanted, wanted);
    }

    /// Ends the threads.
    pub(super) fn finish(self) {
        drop(self.stop);
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// A thread that panics lets nobody wait for what it had to do.
struct Ended<'s>(&'s Shared<'s>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::Stopped);
        }
    }
}

fn send_wanted(to: &Sender<Vec<Wanted>>, wanted: Vec<Wanted>) {
    if let Err(rest) = to.send(wanted) {
        tracing::debug!(blobs = rest.0.len(), "nobody fetches any more");
    }
}

struct Worker<'s> {
    shared: &'s Shared<'s>,
    decoder: Decoder,
    plain: Vec<u8>,
    buffer: Vec<u8>,
    wanted: Sender<Vec<Wanted>>,
}

impl Worker<'_> {
    fn run(
        mut self,
        fetched: &Receiver<Fetched>,
        to_compare: &Receiver<Batch>,
        stop: &Receiver<()>,
    ) {
        loop {
            // What was fetched holds memory that others wait for.
            if let Ok(fetched) = fetched.try_recv() {
                self.write(fetched);
                continue;
            }
            crossbeam_channel::select! {
                recv(fetched) -> some => if let Ok(some) = some { self.write(some) },
                recv(to_compare) -> batch => if let Ok(batch) = batch {
                    for file in &batch {
                        self.compare(file);
                    }
                },
                recv(stop) -> _ => return,
            }
        }
    }

    /// Verifies and writes what lies in a range.
    fn write(&mut self, fetched: Fetched) {
        let Fetched { start, bytes, blobs, .. } = fetched;
        match bytes {
            Ok(bytes) => {
                // Nobody else has them, so nothing is copied.
                let mut bytes = BytesMut::from(bytes);
                for blob in blobs {
                    self.write_blob(&blob, start, &mut bytes);
                }
            }
            Err(error) => {
                let why = error.to_string();
                if !is_missing(&error) {
                    self.shared.fail(error);
                }
                for blob in &blobs {
                    self.give_up(blob, &why);
                }
            }
        }
    }

    fn write_blob(&mut self, blob: &FetchedBlob, start: u64, bytes: &mut [u8]) {
        let Location { offset, length, raw_length, .. } = blob.location;
        let sealed = u64::from(offset)
            .checked_sub(start)
            .and_then(|from| usize::try_from(from).ok())
            .and_then(|from| bytes.get_mut(from..from.checked_add(length as usize)?));
        let Some(sealed) = sealed else {
            return self.give_up(blob, "the store gave less of a pack than was asked for");
        };
        let (key, name) = (self.shared.files.key(), (BlobKind::Data, blob.id));
        match self.decoder.decode_in_place(key, name, sealed, raw_length, &mut self.plain) {
            Ok(()) => {
                for (file, offset) in &blob.places {
                    self.shared.monitor.done_bytes(self.plain.len() as u64);
                    file.write(self.shared, *offset, Some(&self.plain));
                }
            }
            Err(error) => self.give_up(blob, &error.to_string()),
        }
    }

    fn give_up(&self, blob: &FetchedBlob, why: &str) {
        for (file, offset) in &blob.places {
            if !self.shared.is_over() {
                file.fail_for_damage(self.shared, why);
            }
            file.write(self.shared, *offset, None);
        }
    }

    /// Compares a file that is there, keeps what is right, and asks for the rest.
    fn compare(&mut self, file: &Arc<TargetFile>) {
        if self.shared.is_over() {
            return file.is_kept(self.shared);
        }
        let Some(blobs) = locate(self.shared, file) else {
            return file.is_kept(self.shared);
        };
        match self.keep(file, blobs) {
            Ok(None) => file.is_kept(self.shared),
            Ok(Some(wanted)) if wanted.is_empty() => file.finish(self.shared),
            Ok(Some(wanted)) => send_wanted(&self.wanted, wanted),
            Err(error) => {
                file.fail_to_write(self.shared, error);
                file.is_kept(self.shared);
            }
        }
    }

    /// The blobs that are missing; `None` if there is nothing to do any more.
    fn keep(
        &mut self,
        file: &Arc<TargetFile>,
        blobs: Vec<Wanted>,
    ) -> io::Result<Option<Vec<Wanted>>> {
        let dir = &file.dir.dir;
        let name = &file.node.name[..];
        let opened = match dir.open_file(name) {
            Ok(opened) => opened,
            // Not for this process to read, but perhaps to replace.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Some(replace(file, blobs)));
            }
            Err(error) => return Err(error),
        };
        let have = file_metadata_and_xattrs(&opened)?;
        // What has other names besides must not be changed under them.
        let shares = have.nlink > 1 && file.node.links < 2;
        if have.kind != Kind::File || shares {
            return Ok(Some(replace(file, blobs)));
        }
        let count = blobs.len();
        let mut differing = Vec::new();
        for wanted in blobs {
            let length = u64::from(wanted.location.content_length());
            let there = wanted.offset + length <= have.size
                && self.has_blob(&opened, wanted.offset, length, wanted.id)?;
            if !there {
                differing.push(wanted);
                if count == 1 {
                    break;
                }
            }
        }
        if differing.is_empty() && have.size == file.node.size {
            if file.apply_attributes(self.shared, &opened, &have)? {
                self.shared.monitor.attributes_changed();
            }
            return Ok(None);
        }
        drop(opened);
        if count <= 1 || have.nlink > 1 {
            // As a new file it is never half old.
            let all = locate(self.shared, file).unwrap_or_default();
            return Ok(Some(replace(file, all)));
        }
        match dir.open_for_write(name) {
            Ok(writable) => {
                file.expect(differing.len());
                self.shared.monitor.done_bytes(
                    file.node.size.saturating_sub(differing.iter().map(size_of_wanted).sum()),
                );
                file.write_in_place(writable);
                Ok(Some(differing))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let all = locate(self.shared, file).unwrap_or_default();
                Ok(Some(replace(file, all)))
            }
            Err(error) => Err(error),
        }
    }

    fn has_blob(&mut self, file: &File, offset: u64, length: u64, id: Id) -> io::Result<bool> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let buffer = self.buffer.get_mut(..length).unwrap_or_default();
        match file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(Id::of(buffer) == id),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn size_of_wanted(wanted: &Wanted) -> u64 {
    u64::from(wanted.location.content_length())
}

/// Has the file written anew, in the place of what is there.
fn replace(file: &TargetFile, blobs: Vec<Wanted>) -> Vec<Wanted> {
    file.replace();
    file.expect(blobs.len());
    blobs
}

/// Where the blobs of a file lie and where they go. `None`, after the file was named, if the
/// repository does not have them all or they do not add up to the file.
pub(super) fn locate(shared: &Shared<'_>, file: &Arc<TargetFile>) -> Option<Vec<Wanted>> {
    let mut blobs = Vec::with_capacity(file.node.content.len());
    let mut offset = 0u64;
    for id in &file.node.content {
        let Some(location) = shared.index.find(BlobKind::Data, id) else {
            let missing = Error::MissingBlob { kind: BlobKind::Data.name(), id: *id };
            file.fail_for_damage(shared, &missing.to_string());
            return None;
        };
        let length = location.content_length();
        if length > BlobKind::Data.limit() {
            file.fail_for_damage(shared, &format!("data blob {id} is to have {length} bytes"));
            return None;
        }
        blobs.push(Wanted { id: *id, location, file: file.clone(), offset });
        offset += u64::from(length);
    }
    if offset != file.node.size {
        let why = format!("its blobs have {offset} bytes, and not {}", file.node.size);
        file.fail_for_damage(shared, &why);
        return None;
    }
    Some(blobs)
}
