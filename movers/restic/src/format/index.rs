//! The index: where every blob lies. Index files are read into a table of 48 bytes a blob.

use std::ops::Range;

use serde::Deserialize;

use super::blob::{BlobKind, sealed_length};
use super::error::Error;
use super::id::Id;
use super::pack::{FRAME, PackedBlob};

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: Id,
    /// Number of the pack, in this index only.
    pub pack_number: u32,
    /// Where the blob begins in it, in bytes.
    pub offset: u32,
    /// Its length there, in bytes.
    pub length: u32,
    /// Its length before compression, in bytes; 0 if it is not compressed.
    pub raw_length: u32,
}

impl Location {
    /// The length of the blob's content, in bytes.
    pub const fn content_length(&self) -> u32 {
        if self.raw_length == 0 {
            self.length.saturating_sub(sealed_length(0) as u32)
        } else {
            self.raw_length
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: Id,
    pack: u32,
    offset: u32,
    length: u32,
    raw_length: u32,
}

/// All blobs of one kind: sorted by name and pack, and for the first 16 bits of a name where they
/// begin.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    starts: Vec<u32>,
}

fn bucket(id: &Id) -> usize {
    let [high, low, ..] = *id.as_bytes();
    usize::from(u16::from_be_bytes([high, low]))
}

impl Table {
    fn sort(&mut self) {
        let place = |entry: &Entry| (entry.id, entry.pack, entry.offset);
        self.entries.sort_unstable_by_key(place);
        // Two index files may list the same pack.
        self.entries.dedup_by_key(|entry| place(entry));
        self.starts = vec![0; (1 << 16) + 1];
        for entry in &self.entries {
            if let Some(count) = self.starts.get_mut(bucket(&entry.id) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
    }

    /// Where the first copy of a blob stands in the table.
    fn position(&self, id: &Id) -> Option<usize> {
        let at = bucket(id);
        let (from, to) = (*self.starts.get(at)? as usize, *self.starts.get(at + 1)? as usize);
        let position = from + self.entries.get(from..to)?.partition_point(|entry| entry.id < *id);
        (self.entries.get(position)?.id == *id).then_some(position)
    }

    /// The copies of each blob.
    fn copies(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|one, next| one.id == next.id)
    }

    fn find(&self, id: &Id) -> Option<&Entry> {
        self.entries.get(self.position(id)?)
    }
}

/// Where every blob of a repository lies.
///
/// A blob may lie in several packs. Each copy has a number; those of one blob follow each other,
/// and the first is the one that is found.
#[derive(Debug, Default)]
pub struct Index {
    /// Sorted.
    packs: Vec<Id>,
    /// Where the last blob of each pack ends.
    pack_ends: Vec<u32>,
    data: Table,
    trees: Table,
}

impl Index {
    /// Where a blob lies; `None` if it is in no pack.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let table = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        let entry = table.find(id)?;
        Some(Location {
            pack: *self.packs.get(entry.pack as usize)?,
            pack_number: entry.pack,
            offset: entry.offset,
            length: entry.length,
            raw_length: entry.raw_length,
        })
    }

    /// Whether a blob is in some pack.
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        match kind {
            BlobKind::Data => self.data.find(id).is_some(),
            BlobKind::Tree => self.trees.find(id).is_some(),
        }
    }

    /// Where the last blob of a pack ends, in bytes from its start; by its number in a
    /// [`Location`].
    pub fn pack_end(&self, pack_number: u32) -> u32 {
        self.pack_ends.get(pack_number as usize).copied().unwrap_or_default()
    }

    /// The number of a blob's first copy; `None` if it is in no pack.
    pub fn number(&self, kind: BlobKind, id: &Id) -> Option<usize> {
        match kind {
            BlobKind::Data => self.data.position(id),
            BlobKind::Tree => self.trees.position(id).map(|at| self.data.entries.len() + at),
        }
    }

    /// The copy of this number, and the number of its pack.
    pub fn copy(&self, number: usize) -> Option<(u32, PackedBlob)> {
        let (kind, entry) = match number.checked_sub(self.data.entries.len()) {
            None => (BlobKind::Data, self.data.entries.get(number)?),
            Some(at) => (BlobKind::Tree, self.trees.entries.get(at)?),
        };
        let Entry { id, pack, offset, length, raw_length } = *entry;
        Some((pack, PackedBlob { kind, id, offset, length, raw_length }))
    }

    /// Every blob, as the numbers of its copies.
    pub fn blobs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut end = 0;
        self.data.copies().chain(self.trees.copies()).map(move |copies| {
            let start = end;
            end += copies.len();
            start..end
        })
    }

    /// The length of each pack by what is listed of it, in bytes, at its number.
    pub fn pack_lengths(&self) -> Vec<u64> {
        let mut lengths = vec![FRAME; self.packs.len()];
        for (pack, blob) in (0..self.len()).filter_map(|number| self.copy(number)) {
            if let Some(length) = lengths.get_mut(pack as usize) {
                *length += blob.space();
            }
        }
        lengths
    }

    /// The packs, each at its number.
    pub fn packs(&self) -> &[Id] {
        &self.packs
    }

    /// How many copies of blobs it knows.
    pub fn len(&self) -> usize {
        self.data.entries.len() + self.trees.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Gathers index files.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    index: Index,
}

#[derive(Deserialize)]
struct IndexFile {
    packs: Vec<PackEntry>,
}

#[derive(Deserialize)]
struct PackEntry {
    id: Id,
    blobs: Vec<BlobEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Data,
    Tree,
}

#[derive(Deserialize)]
struct BlobEntry {
    id: Id,
    r#type: Type,
    offset: u32,
    length: u32,
    #[serde(default)]
    uncompressed_length: u32,
}

impl IndexBuilder {
    /// Adds what an index file (decrypted) lists.
    pub fn add_file(&mut self, what: &str, json: &[u8]) -> Result<(), Error> {
        let file: IndexFile = serde_json::from_slice(json)
            .map_err(|error| Error::damaged(what, error.to_string()))?;
        for pack in file.packs {
            let number = self.add_pack(pack.id)?;
            for blob in pack.blobs {
                let kind = match blob.r#type {
                    Type::Data => BlobKind::Data,
                    Type::Tree => BlobKind::Tree,
                };
                if blob.offset.checked_add(blob.length).is_none() {
                    return Err(Error::damaged(what, "a blob ends beyond 4 GiB"));
                }
                // Compression may add a little, and never much.
                let possible = sealed_length(0) as u32..=kind.limit().saturating_add(1 << 20);
                if !possible.contains(&blob.length) {
                    let why = format!("blob {} is to have {} bytes", blob.id, blob.length);
                    return Err(Error::damaged(what, why));
                }
                self.add(
                    kind,
                    Entry {
                        id: blob.id,
                        pack: number,
                        offset: blob.offset,
                        length: blob.length,
                        raw_length: blob.uncompressed_length,
                    },
                );
            }
        }
        Ok(())
    }

    /// Adds the blobs of one pack.
    pub fn add_blobs(&mut self, pack: Id, blobs: &[PackedBlob]) -> Result<(), Error> {
        let number = self.add_pack(pack)?;
        for blob in blobs {
            self.add(
                blob.kind,
                Entry {
                    id: blob.id,
                    pack: number,
                    offset: blob.offset,
                    length: blob.length,
                    raw_length: blob.raw_length,
                },
            );
        }
        Ok(())
    }

    fn add_pack(&mut self, id: Id) -> Result<u32, Error> {
        let number = u32::try_from(self.index.packs.len())
            .map_err(|_| Error::damaged("the index", "it lists more than 2^32 packs"))?;
        self.index.packs.push(id);
        self.index.pack_ends.push(0);
        Ok(number)
    }

    fn add(&mut self, kind: BlobKind, entry: Entry) {
        if let Some(end) = self.index.pack_ends.get_mut(entry.pack as usize) {
            *end = (*end).max(entry.offset.saturating_add(entry.length));
        }
        match kind {
            BlobKind::Data => self.index.data.entries.push(entry),
            BlobKind::Tree => self.index.trees.entries.push(entry),
        }
    }

    /// The whole index.
    pub fn finish(mut self) -> Index {
        self.number_packs();
        self.index.data.sort();
        self.index.trees.sort();
        self.index
    }

    /// Gives every pack one number, also one that was added several times.
    fn number_packs(&mut self) {
        let Index { packs, pack_ends, data, trees } = &mut self.index;
        let mut sorted: Vec<(Id, u32, usize)> = (packs.iter().zip(&*pack_ends).enumerate())
            .map(|(number, (id, end))| (*id, *end, number))
            .collect();
        sorted.sort_unstable();
        packs.clear();
        pack_ends.clear();
        let mut numbers = vec![0; sorted.len()];
        for (id, end, number) in sorted {
            if packs.last() == Some(&id) {
                // The greatest end comes last.
                pack_ends.pop();
            } else {
                packs.push(id);
            }
            pack_ends.push(end);
            if let Some(new) = numbers.get_mut(number) {
                *new = packs.len() as u32 - 1;
            }
        }
        for entry in data.entries.iter_mut().chain(&mut trees.entries) {
            entry.pack = numbers.get(entry.pack as usize).copied().unwrap_or_default();
        }
    }
}

/// So many blobs are listed in an index file, about; restic's number too.
pub const INDEX_FILE_BLOBS: usize = 50_000;

/// The content of an index file about these packs.
pub fn build_index_file(packs: &[(Id, Vec<PackedBlob>)]) -> Vec<u8> {
    let mut json = Vec::with_capacity(packs.iter().map(|(_, blobs)| 100 + blobs.len() * 160).sum());
    json.extend_from_slice(br#"{"packs":["#);
    for (number, (id, blobs)) in packs.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        json.extend_from_slice(br#"{"id":""#);
        id.write_hex(&mut json);
        json.extend_from_slice(br#"","blobs":["#);
        for (number, blob) in blobs.iter().enumerate() {
            if number > 0 {
                json.push(b',');
            }
            json.extend_from_slice(br#"{"id":""#);
            blob.id.write_hex(&mut json);
            json.extend_from_slice(br#"","type":""#);
            json.extend_from_slice(blob.kind.name().as_bytes());
            json.extend_from_slice(br#"","offset":"#);
            super::json::write_number(&mut json, u64::from(blob.offset));
            json.extend_from_slice(br#","length":"#);
            super::json::write_number(&mut json, u64::from(blob.length));
            if blob.raw_length != 0 {
                json.extend_from_slice(br#","uncompressed_length":"#);
                super::json::write_number(&mut json, u64::from(blob.raw_length));
            }
            json.push(b'}');
        }
        json.extend_from_slice(b"]}");
    }
    json.extend_from_slice(b"]}");
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_file_comes_back_as_it_was_written() {
        let blobs: Vec<PackedBlob> = (0..1000u32)
            .map(|n| PackedBlob {
                kind: if n % 3 == 0 { BlobKind::Tree } else { BlobKind::Data },
                id: Id::of(&n.to_le_bytes()),
                offset: n * 100,
                length: 100,
                raw_length: n % 2 * 200,
            })
            .collect();
        let json = build_index_file(&[(Id::of(b"p"), blobs.clone()), (Id::of(b"q"), Vec::new())]);
        let mut builder = IndexBuilder::default();
        builder.add_file("i", &json).unwrap();
        builder.add_file("again", &json).unwrap();
        let index = builder.finish();
        assert_eq!(index.len(), 1000);
        for blob in &blobs {
            let found = index.find(blob.kind, &blob.id).unwrap();
            assert_eq!(found.pack, Id::of(b"p"));
            assert_eq!((found.offset, found.length), (blob.offset, blob.length));
            assert_eq!(found.raw_length, blob.raw_length);
        }
        assert!(!index.contains(BlobKind::Data, &blobs[0].id));
        assert!(index.find(BlobKind::Data, &Id::of(b"none")).is_none());
    }

    #[test]
    fn every_copy_of_a_blob_has_a_number_and_the_same_pack_listed_twice_is_one() {
        let blob = |content: &[u8], kind, offset| PackedBlob {
            kind,
            id: Id::of(content),
            offset,
            length: 100,
            raw_length: 0,
        };
        let (data, tree) = (BlobKind::Data, BlobKind::Tree);
        let mut builder = IndexBuilder::default();
        for _ in 0..2 {
            let blobs = [blob(b"a", data, 0), blob(b"b", data, 100), blob(b"t", tree, 200)];
            builder.add_blobs(Id::of(b"p"), &blobs).unwrap();
            builder.add_blobs(Id::of(b"q"), &[blob(b"b", data, 0)]).unwrap();
        }
        let index = builder.finish();
        assert_eq!((index.packs().len(), index.len()), (2, 4));
        let mut seen = 0;
        for copies in index.blobs() {
            assert_eq!(copies.start, seen);
            seen = copies.end;
            let (_, first) = index.copy(copies.start).unwrap();
            assert_eq!(index.number(first.kind, &first.id), Some(copies.start));
            assert_eq!(copies.len(), if first.id == Id::of(b"b") { 2 } else { 1 });
            let packs: Vec<u32> = copies.map(|copy| index.copy(copy).unwrap().0).collect();
            assert!(packs.is_sorted());
        }
        assert_eq!(seen, 4);
        assert_eq!((index.copy(4), index.number(tree, &Id::of(b"a"))), (None, None));
        let p = index.find(tree, &Id::of(b"t")).unwrap();
        assert_eq!((p.pack, index.pack_end(p.pack_number)), (Id::of(b"p"), 300));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert!(!Index::default().contains(BlobKind::Data, &Id::of(b"a")));
        assert!(!IndexBuilder::default().finish().contains(BlobKind::Data, &Id::of(b"a")));
    }

    #[test]
    fn a_blob_of_a_length_that_none_has_is_refused() {
        for (length, fine) in [(0, false), (31, false), (32, true), (u32::MAX, false)] {
            let blob = PackedBlob {
                kind: BlobKind::Data,
                id: Id::of(b"a"),
                offset: 0,
                length,
                raw_length: 0,
            };
            let json = build_index_file(&[(Id::of(b"p"), vec![blob])]);
            assert_eq!(IndexBuilder::default().add_file("i", &json).is_ok(), fine, "{length}");
        }
    }

    #[test]
    fn an_entry_costs_at_most_50_bytes() {
        assert!(size_of::<Entry>() <= 50);
    }
}
