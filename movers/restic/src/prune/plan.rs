//! `Plan`: what becomes of every pack, decided before anything is changed.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::format::pack::PackedBlob;
use crate::format::{BlobKind, Error, Id, Index};
use crate::needed::{Bits, check_pack};

/// What no snapshot needs may take so much of what is left, in percent; restic's default.
const UNUSED_PERCENT: u64 = 5;
/// A pack below this size is small, in bytes; restic's number too.
const SMALL: u64 = 1 << 20;
/// So many small packs are made one, even if nothing in them is unused.
const MANY: usize = 10;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Kept,
    /// What is needed of it goes into new packs; then it is removed.
    Repacked,
    /// Nothing of it is needed: it is removed.
    Removed,
    /// Nothing of it is needed, and it is not there.
    Missing,
}

/// What a prune does.
#[derive(Debug)]
pub(super) struct Plan {
    /// What becomes of every pack of the index, at its number.
    pub(super) fates: Vec<Fate>,
    /// Packs that no index file names: a backup or a prune was killed before it named them.
    pub(super) leftovers: Vec<Id>,
    /// The numbers of the copies that are repacked, in the order of packs and places in them.
    pub(super) repacked: Vec<usize>,
}

/// What lies in a pack. Sizes in bytes.
#[derive(Debug, Clone, Default)]
struct Content {
    /// Of the whole pack, by what the index lists.
    size: u64,
    /// Of blobs that snapshots need, and of which this is the copy that counts.
    used: u64,
    /// Of blobs that no snapshot needs.
    unused: u64,
    /// Of blobs that snapshots need and have elsewhere.
    copies: u64,
    has_data: bool,
    has_trees: bool,
}

impl Content {
    const fn waste(&self) -> u64 {
        self.unused + self.copies
    }

    const fn is_small(&self) -> bool {
        self.size < SMALL
    }

    /// Parts of a million.
    fn waste_ratio(&self) -> u64 {
        self.waste().saturating_mul(1_000_000).checked_div(self.size).unwrap_or_default()
    }
}

impl Plan {
    /// Decides. `used` has the first copies of the blobs that snapshots need, `packs` the packs that
    /// are there with their lengths.
    pub(super) fn new(index: &Index, used: &Bits, packs: &HashMap<Id, u64>) -> Result<Self, Error> {
        let mut contents = vec![Content::default(); index.packs().len()];
        for number in 0..index.len() {
            let Some((content, blob)) = content_of(&mut contents, index, number) else { continue };
            match blob.kind {
                BlobKind::Data => content.has_data = true,
                BlobKind::Tree => content.has_trees = true,
            }
        }
        for (content, length) in contents.iter_mut().zip(index.pack_lengths()) {
            content.size = length;
        }
        let states: Vec<Result<(), Error>> = (index.packs().iter().zip(&contents))
            .map(|(id, content)| check_pack(*id, content.size, packs.get(id).copied()))
            .collect();
        let chosen = choose(index, used, &mut contents, &states);
        for (content, state) in contents.iter().zip(states) {
            if content.used > 0 {
                state?;
            }
        }
        let mut fates: Vec<Fate> = (index.packs().iter().zip(&contents))
            .map(|(id, content)| match content.used {
                0 if packs.contains_key(id) => Fate::Removed,
                0 => Fate::Missing,
                _ => Fate::Kept,
            })
            .collect();
        for number in wasteful(&contents) {
            if let Some(fate) = fates.get_mut(number) {
                *fate = Fate::Repacked;
            }
        }
        let repacked = in_order(index, |number, pack| {
            chosen.contains(number) && fates.get(pack as usize) == Some(&Fate::Repacked)
        });
        let mut leftovers: Vec<Id> =
            packs.keys().filter(|id| index.packs().binary_search(id).is_err()).copied().collect();
        leftovers.sort_unstable();
        Ok(Self { fates, leftovers, repacked })
    }

    /// Whether the index stays as it is.
    pub(super) fn keeps_index(&self) -> bool {
        self.fates.iter().all(|fate| *fate == Fate::Kept)
    }

    /// The numbers of the copies in packs that stay, in the order of packs and places in them.
    pub(super) fn kept(&self, index: &Index) -> Vec<usize> {
        in_order(index, |_, pack| self.fates.get(pack as usize) == Some(&Fate::Kept))
    }

    /// The packs that are removed.
    pub(super) fn removed(&self, index: &Index) -> Vec<Id> {
        let of_index = index.packs().iter().zip(&self.fates).filter_map(|(id, fate)| match fate {
            Fate::Repacked | Fate::Removed => Some(*id),
            Fate::Kept | Fate::Missing => None,
        });
        of_index.chain(self.leftovers.iter().copied()).collect()
    }
}

/// The content of the pack that a copy lies in.
fn content_of<'c>(
    contents: &'c mut [Content],
    index: &Index,
    number: usize,
) -> Option<(&'c mut Content, PackedBlob)> {
    let (pack, blob) = index.copy(number)?;
    Some((contents.get_mut(pack as usize)?, blob))
}

/// Chooses one copy of each used blob, and counts what is used and what is not.
fn choose(
    index: &Index,
    used: &Bits,
    contents: &mut [Content],
    states: &[Result<(), Error>],
) -> Bits {
    let chosen = Bits::new(index.len());
    let mut several = Vec::new();
    for copies in index.blobs() {
        let is_used = used.contains(copies.start);
        if is_used && copies.len() > 1 {
            several.push(copies);
            continue;
        }
        for number in copies {
            let Some((content, blob)) = content_of(contents, index, number) else { continue };
            if is_used {
                content.used += u64::from(blob.length);
                chosen.insert(number);
            } else {
                content.unused += u64::from(blob.length);
            }
        }
    }
    // The copy in the pack that is worth keeping most. Of packs with the same blobs it is always the
    // same one, so that the others can go. What a killed prune has repacked is kept: it has no waste.
    let worth: Vec<(bool, u64)> = (contents.iter().zip(states))
        .map(|(content, state)| (state.is_err(), content.waste_ratio()))
        .collect();
    for copies in several {
        let best = copies.clone().min_by_key(|number| {
            let pack = index.copy(*number).map(|(pack, _)| pack);
            (pack.and_then(|pack| worth.get(pack as usize)), pack, *number)
        });
        for number in copies {
            let Some((content, blob)) = content_of(contents, index, number) else { continue };
            if Some(number) == best {
                content.used += u64::from(blob.length);
                chosen.insert(number);
            } else {
                content.copies += u64::from(blob.length);
            }
        }
    }
    chosen
}

/// The numbers of packs that are repacked: trees and small packs whenever something in them is not
/// used, others as far as too much would be left.
fn wasteful(contents: &[Content]) -> Vec<usize> {
    let of_use: Vec<(usize, &Content)> =
        contents.iter().enumerate().filter(|(_, content)| content.used > 0).collect();
    let is_mixed = |content: &Content| content.has_data && content.has_trees;
    let (mut candidates, whole): (Vec<_>, Vec<_>) =
        of_use.iter().partition(|(_, content)| content.waste() > 0 || is_mixed(content));
    for has_trees in [false, true] {
        let small: Vec<_> = (whole.iter().copied())
            .filter(|(_, content)| content.is_small() && content.has_trees == has_trees)
            .collect();
        if small.len() >= MANY {
            candidates.extend(small);
        }
    }
    candidates.sort_by_key(|(number, content)| {
        (!content.has_trees, !content.is_small(), Reverse(content.waste_ratio()), *number)
    });
    let used: u64 = of_use.iter().map(|(_, content)| content.used).sum();
    let mut waste: u64 = of_use.iter().map(|(_, content)| content.waste()).sum();
    let tolerated = used / (100 - UNUSED_PERCENT) * UNUSED_PERCENT;
    candidates.retain(|(_, content)| {
        let repacked = content.has_trees || content.is_small() || waste > tolerated;
        if repacked {
            waste -= content.waste();
        }
        repacked
    });
    candidates.into_iter().map(|(number, _)| number).collect()
}

/// The numbers of some copies, sorted by their packs and their places in them.
fn in_order(index: &Index, wanted: impl Fn(usize, u32) -> bool) -> Vec<usize> {
    let place = |number: &usize| index.copy(*number).map(|(pack, blob)| (pack, blob.offset));
    let mut numbers: Vec<usize> = (0..index.len())
        .filter(|number| index.copy(*number).is_some_and(|(pack, _)| wanted(*number, pack)))
        .collect();
    numbers.sort_unstable_by_key(place);
    numbers
}

#[cfg(test)]
mod tests;
