//! Reading a file, cutting it into blobs, and saving them.

use std::fs::File;
use std::io::{self, Read as _};

use super::Shared;
use super::workers::{SharedBlobs, Worker};
use crate::format::chunker::{Cut, MAX_SIZE, MIN_SIZE};
use crate::format::{BlobKind, Error, Id};

/// How much more is read at a time while the end of a chunk is searched, in bytes.
const STEP: usize = 1 << 20;

/// Why a file was not saved.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be read. The rest can.
    Read(io::Error),
    /// Nothing can be saved.
    Save(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Save(error)
    }
}

/// Saves the content of a file that is to have `size` bytes. Returns its blobs and how many bytes
/// were read.
pub(super) fn save_file(
    shared: &Shared<'_>,
    worker: &mut Worker<'_>,
    file: &File,
    size: u64,
) -> Result<(Vec<Id>, u64), Trouble> {
    let mut buffer = std::mem::take(&mut worker.buffer);
    let saved = if size < MIN_SIZE as u64 {
        save_small(shared, worker, file, size as usize, &mut buffer)
    } else {
        save_large(shared, worker, file, 0, &mut buffer)
    };
    worker.buffer = buffer;
    saved
}

/// Makes the buffer at least so long.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// A file that is one blob, or none: what is shorter than the shortest chunk is not cut.
fn save_small(
    shared: &Shared<'_>,
    worker: &mut Worker<'_>,
    file: &File,
    size: usize,
    buffer: &mut Vec<u8>,
) -> Result<(Vec<Id>, u64), Trouble> {
    grow(buffer, MIN_SIZE);
    let mut have = 0;
    loop {
        match read(file, buffer.get_mut(have..).unwrap_or_default())? {
            0 => break,
            read => have += read,
        }
        if have == size {
            break;
        }
        if have >= MIN_SIZE {
            // It has grown meanwhile.
            return save_large(shared, worker, file, have, buffer);
        }
    }
    if have == 0 {
        return Ok((Vec::new(), 0));
    }
    shared.monitor.done_bytes(have as u64);
    let content = buffer.get(..have).unwrap_or_default();
    let id = shared.saver.save(&mut worker.encoder, BlobKind::Data, content)?;
    Ok((vec![id], have as u64))
}

/// A file that is cut. The first `have` bytes of the buffer are its beginning.
fn save_large(
    shared: &Shared<'_>,
    worker: &mut Worker<'_>,
    file: &File,
    mut have: usize,
    buffer: &mut Vec<u8>,
) -> Result<(Vec<Id>, u64), Trouble> {
    let blobs = SharedBlobs::new();
    let (mut total, mut searched, mut at_end) = (0u64, 0, false);
    let result = loop {
        match shared.chunker.cut(buffer.get(..have).unwrap_or_default(), searched, at_end) {
            Cut::At(length) => {
                let chunk = buffer.get(..length).unwrap_or_default();
                if let Err(error) = worker.save_shared(shared, &blobs, chunk) {
                    break Err(Trouble::Save(error));
                }
                total += length as u64;
                shared.monitor.done_bytes(length as u64);
                buffer.copy_within(length..have, 0);
                have -= length;
                searched = 0;
            }
            Cut::NotYet if at_end => break Ok(()),
            Cut::NotYet => {
                if shared.shutdown.is_requested() {
                    break Err(Trouble::Save(Error::Stopped));
                }
                searched = have;
                let wanted = (have + STEP).clamp(MIN_SIZE, MAX_SIZE);
                grow(buffer, wanted);
                while have < wanted && !at_end {
                    match read(file, buffer.get_mut(have..wanted).unwrap_or_default()) {
                        Ok(0) => at_end = true,
                        Ok(read) => have += read,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    };
    let ids = worker.wait_for(shared, &blobs);
    result?;
    Ok((ids?, total))
}

fn read(mut file: &File, buffer: &mut [u8]) -> Result<usize, Trouble> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::Read(error)),
            Ok(read) => return Ok(read),
        }
    }
}
