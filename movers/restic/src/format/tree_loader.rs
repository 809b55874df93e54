//! `TreeLoader`: reads trees, many of one stretch of a pack at a time.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::blob::{BlobKind, Decoder};
use super::error::Error;
use super::files::RepositoryFiles;
use super::id::Id;
use super::index::Index;
use super::tree::TreeReader;

/// How much of a pack is read at once, in bytes. Trees lie in packs in about the order in which
/// they are asked for, and a request for each would take a round trip for each directory.
const STRETCH: u32 = 4 << 20;
/// How much of it lies in front of what was asked for.
const BEFORE: u32 = 64 << 10;
/// How many stretches are held.
const HELD: usize = 4;

/// Reads trees. One a thread; it waits for the store, so not a thread of the runtime.
#[derive(Debug)]
pub struct TreeLoader<'r> {
    files: &'r RepositoryFiles,
    index: &'r Index,
    runtime: Handle,
    decoder: Decoder,
    stretches: VecDeque<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    pack: u32,
    start: u32,
    bytes: Bytes,
}

impl Stretch {
    fn slice(&self, pack: u32, offset: u32, length: u32) -> Option<&[u8]> {
        if self.pack != pack {
            return None;
        }
        let from = offset.checked_sub(self.start)? as usize;
        self.bytes.get(from..from.checked_add(length as usize)?)
    }
}

impl<'r> TreeLoader<'r> {
    /// Reads from this repository.
    pub fn new(
        files: &'r RepositoryFiles,
        index: &'r Index,
        runtime: Handle,
    ) -> Result<Self, Error> {
        let decoder = Decoder::new()?;
        Ok(Self { files, index, runtime, decoder, stretches: VecDeque::new() })
    }

    /// Reads a tree.
    pub fn load(&mut self, id: Id) -> Result<TreeReader, Error> {
        let found = self
            .index
            .find(BlobKind::Tree, &id)
            .ok_or(Error::MissingBlob { kind: BlobKind::Tree.name(), id })?;
        let (pack, offset, length) = (found.pack_number, found.offset, found.length);
        let held =
            self.stretches.iter().position(|held| held.slice(pack, offset, length).is_some());
        if let Some(at) = held.and_then(|at| self.stretches.remove(at)) {
            self.stretches.push_back(at);
        } else {
            let end = offset.saturating_add(length);
            let start = offset.saturating_sub(BEFORE);
            let last = self.index.pack_end(pack).min(offset.saturating_add(STRETCH)).max(end);
            let pack_end = u64::from(self.index.pack_end(pack));
            let read = |from: u32, to: u32| {
                let range = u64::from(from)..u64::from(to);
                self.runtime.block_on(self.files.read_trees(found.pack, range, pack_end))
            };
            let (start, bytes) = match read(start, last) {
                Ok(bytes) => (start, bytes),
                // A pack that was cut may still hold this very tree.
                Err(_) => (offset, read(offset, end)?),
            };
            if self.stretches.len() == HELD {
                self.stretches.pop_front();
            }
            self.stretches.push_back(Stretch { pack, start, bytes });
        }
        let sealed = self
            .stretches
            .back()
            .and_then(|held| held.slice(pack, offset, length))
            .ok_or_else(|| Error::damaged(format!("pack {}", found.pack), "it is too short"))?;
        let mut json = Vec::new();
        let key = self.files.key();
        self.decoder.decode(key, (BlobKind::Tree, id), sealed, found.raw_length, &mut json)?;
        Ok(TreeReader::new(json))
    }
}
