//! What becomes of packs, from what the index lists, what is there and what is needed.

use super::*;
use crate::format::index::IndexBuilder;
use crate::format::pack::FRAME;

const PACK: u32 = 2 << 20;

fn id(number: u32) -> Id {
    Id::of(&number.to_le_bytes())
}

/// Kind, name, length.
type Blob = (BlobKind, u32, u32);

/// A repository.
struct Given {
    index: Index,
    packs: HashMap<Id, u64>,
    used: Bits,
}

fn given(packs: &[(&str, &[Blob])], used: &[(BlobKind, u32)]) -> Given {
    let mut builder = IndexBuilder::default();
    let mut lengths = HashMap::new();
    for (name, blobs) in packs {
        let mut offset = 0;
        let blobs: Vec<PackedBlob> = blobs
            .iter()
            .map(|(kind, number, length)| {
                offset += length;
                let (id, offset) = (id(*number), offset - length);
                PackedBlob { kind: *kind, id, offset, length: *length, raw_length: 0 }
            })
            .collect();
        let pack = Id::of(name.as_bytes());
        builder.add_blobs(pack, &blobs).unwrap();
        lengths.insert(pack, FRAME + blobs.iter().map(PackedBlob::space).sum::<u64>());
    }
    let index = builder.finish();
    let bits = Bits::new(index.len());
    for (kind, number) in used {
        bits.insert(index.number(*kind, &id(*number)).unwrap());
    }
    Given { index, packs: lengths, used: bits }
}

impl Given {
    fn plan(&self) -> Result<Plan, Error> {
        Plan::new(&self.index, &self.used, &self.packs)
    }

    fn fate(&self, plan: &Plan, pack: &str) -> Fate {
        plan.fates[self.index.packs().binary_search(&Id::of(pack.as_bytes())).unwrap()]
    }
}

#[test]
fn a_pack_goes_if_nothing_of_it_is_needed_and_trees_are_repacked_for_any_waste() {
    let (data, tree) = (BlobKind::Data, BlobKind::Tree);
    let mut given = given(
        &[
            ("whole", &[(data, 1, PACK), (data, 2, PACK)]),
            ("unused", &[(data, 3, PACK)]),
            ("bit", &[(data, 4, PACK), (data, 5, 1000)]),
            ("trees", &[(tree, 6, PACK), (tree, 7, 100)]),
            ("mixed", &[(tree, 8, PACK), (data, 9, PACK)]),
            ("gone", &[(data, 10, PACK)]),
        ],
        &[(data, 1), (data, 2), (data, 4), (tree, 6), (tree, 8), (data, 9)],
    );
    given.packs.remove(&Id::of(b"gone"));
    given.packs.insert(Id::of(b"leftover"), 1);
    let plan = given.plan().unwrap();
    for (pack, fate) in [
        ("whole", Fate::Kept),
        ("unused", Fate::Removed),
        ("bit", Fate::Kept),
        ("trees", Fate::Repacked),
        ("mixed", Fate::Repacked),
        ("gone", Fate::Missing),
    ] {
        assert_eq!(given.fate(&plan, pack), fate, "{pack}");
    }
    assert_eq!(plan.leftovers, [Id::of(b"leftover")]);
    let blobs = |numbers: Vec<usize>| {
        let mut ids: Vec<Id> =
            numbers.iter().map(|number| given.index.copy(*number).unwrap().1.id).collect();
        ids.sort();
        ids
    };
    let ids = |numbers: &[u32]| {
        let mut ids: Vec<Id> = numbers.iter().copied().map(id).collect();
        ids.sort();
        ids
    };
    assert_eq!(blobs(plan.repacked.clone()), ids(&[6, 8, 9]));
    // What is not needed is listed all the same where its pack stays.
    assert_eq!(blobs(plan.kept(&given.index)), ids(&[1, 2, 4, 5]));
    let removed: Vec<Id> = ["unused", "trees", "mixed", "leftover"]
        .map(|name| Id::of(name.as_bytes()))
        .into_iter()
        .collect();
    let plan = plan.removed(&given.index);
    assert!(plan.len() == 4 && removed.iter().all(|id| plan.contains(id)));
}

#[test]
fn the_most_wasteful_are_repacked_until_a_twentieth_is_left() {
    let names: Vec<String> = (0..20).map(|number| format!("pack {number}")).collect();
    let blobs: Vec<[Blob; 2]> = (0..20)
        .map(|number| {
            let unused = number * PACK / 100;
            [(BlobKind::Data, number, PACK), (BlobKind::Data, 100 + number, unused)]
        })
        .collect();
    let packs: Vec<(&str, &[Blob])> =
        names.iter().zip(&blobs).map(|(name, blobs)| (&**name, &blobs[..])).collect();
    let used: Vec<(BlobKind, u32)> = (0..20).map(|number| (BlobKind::Data, number)).collect();
    let given = given(&packs, &used);
    let plan = given.plan().unwrap();
    // 0 + 1 + … + 14 hundredths are 105, which is 5 % of 20 packs and a little; 5 / 95 are 105.26.
    for (number, name) in names.iter().enumerate() {
        let expected = if number > 14 { Fate::Repacked } else { Fate::Kept };
        assert_eq!(given.fate(&plan, name), expected, "{name}");
    }
}

#[test]
fn of_several_copies_the_one_in_the_pack_without_waste_is_kept() {
    let data = BlobKind::Data;
    let given = given(
        &[
            ("old", &[(data, 1, PACK), (data, 2, PACK)]),
            ("new", &[(data, 1, PACK), (data, 3, PACK)]),
            ("twin", &[(data, 1, PACK), (data, 3, PACK)]),
        ],
        &[(data, 1), (data, 3)],
    );
    let plan = given.plan().unwrap();
    assert_eq!(given.fate(&plan, "old"), Fate::Removed);
    let fates = ["new", "twin"].map(|pack| given.fate(&plan, pack));
    assert!(fates.contains(&Fate::Kept) && fates.contains(&Fate::Removed), "{fates:?}");
}

#[test]
fn many_small_packs_become_one_and_a_few_stay() {
    let names: Vec<String> = (0..10).map(|number| format!("pack {number}")).collect();
    let blobs: Vec<[Blob; 1]> = (0..10).map(|number| [(BlobKind::Data, number, 1000)]).collect();
    let packs: Vec<(&str, &[Blob])> =
        names.iter().zip(&blobs).map(|(name, blobs)| (&**name, &blobs[..])).collect();
    let used: Vec<(BlobKind, u32)> = (0..10).map(|number| (BlobKind::Data, number)).collect();
    assert_eq!(given(&packs, &used).plan().unwrap().fates, [Fate::Repacked; 10]);
    assert!(given(&packs[..9], &used[..9]).plan().unwrap().keeps_index());
}

#[test]
fn a_pack_that_is_needed_has_the_length_that_the_index_says() {
    let data = BlobKind::Data;
    let blobs: &[_] = &[(data, 1, PACK), (data, 2, PACK)];
    for (used, fails) in [(&[][..], false), (&[(data, 1)], true)] {
        for length in [None, Some(0), Some(u64::from(PACK)), Some(u64::MAX)] {
            let mut given = given(&[("pack", blobs)], used);
            let pack = Id::of(b"pack");
            given.packs.remove(&pack);
            given.packs.extend(length.map(|length| (pack, length)));
            let planned = given.plan();
            assert_eq!(planned.is_err(), fails, "{length:?}");
            if let Err(error) = planned {
                assert!(error.to_string().starts_with(&format!("pack {pack} is damaged: ")));
            }
        }
    }
}

#[test]
fn a_copy_in_a_pack_that_is_not_there_does_not_count() {
    let data = BlobKind::Data;
    for gone in ["one", "other"] {
        let mut given =
            given(&[("one", &[(data, 1, PACK)]), ("other", &[(data, 1, PACK)])], &[(data, 1)]);
        given.packs.remove(&Id::of(gone.as_bytes()));
        let plan = given.plan().unwrap();
        assert_eq!(given.fate(&plan, gone), Fate::Missing);
        assert_eq!(plan.fates.iter().filter(|fate| **fate == Fate::Kept).count(), 1);
    }
}
