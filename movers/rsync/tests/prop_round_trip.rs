//! Random trees and random edits: after every sync a real rsync finds nothing to do.
#![allow(clippy::unwrap_used, reason = "this is test code: what goes wrong ends the test")]

use volsync_testing::mover::MoverPair;
use volsync_testing::tree::{mutate, random_tree};
use volsync_testing::{Privilege, Scratch, compare};

/// A random tree, then rounds of random edits; whatever fails names the seed that shows it.
fn rounds(seed: u64, rounds: u64, privilege: Privilege) {
    let scratch = Scratch::with_attributes();
    let source = scratch.join("source");
    random_tree(&source, seed, 120, privilege);
    let pair = MoverPair::with(&source, &scratch.join("destination"), privilege);
    let mut changes = Vec::new();
    for round in 0..=rounds {
        let synced = pair.sync();
        let (code, said) =
            (synced.source.code, compare::rsync_differences(pair.source(), pair.destination()));
        let own = compare::differences(pair.source(), pair.destination());
        assert!(
            code == Some(0) && said.is_empty() && own.is_empty(),
            "seed {seed}, round {round}, {privilege:?}: {said}\n{own:#?}\nafter {changes:?}\n{}",
            synced.source
        );
        assert!(
            compare::grown_thick(pair.source(), pair.destination()).is_empty(),
            "seed {seed}, round {round}"
        );
        changes = mutate(&source, seed * 100 + round, 40, privilege);
    }
}

#[test]
fn random_edits_arrive() {
    for seed in 0..24 {
        let privileges = Privilege::available();
        rounds(seed, 3, privileges[seed as usize % privileges.len()]);
    }
}

#[test]
#[ignore = "takes half an hour; for the night"]
fn very_many_random_edits_arrive() {
    for seed in 1000..1400 {
        let privileges = Privilege::available();
        rounds(seed, 10, privileges[seed as usize % privileges.len()]);
    }
}
