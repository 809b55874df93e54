//! Every promise in `test-e2e/scenarios`, kept by a whole `volsync` on this machine.
#![allow(clippy::panic, reason = "this is test code: what goes wrong ends the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use volsync_testing::peers;
use volsync_testing::scenario::{Local, Scenario};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-e2e/scenarios")
}

fn keep(name: &str) {
    for mover in ["volsync-mover-rsync", "volsync-mover-restic"] {
        peers::own_binary(mover);
    }
    let mut driver = Local::new(&peers::own_binary("volsync"));
    let result =
        Scenario::read(&folder().join(name)).and_then(|scenario| scenario.run(&mut driver));
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { keep($name); })*

        #[test]
        fn every_scenario_is_run() {
            let folders = std::fs::read_dir(folder()).expect("the scenarios are there");
            $(if let Err(error) = Scenario::read(&folder().join($name)) { panic!("{error:#}"); })*
            let found = folders.flatten().map(|at| at.file_name().to_string_lossy().into_owned());
            // The operator keeps the others: crates/controller/tests/scenarios.
            let found: BTreeSet<_> = found.filter(|name| !name.starts_with("cluster-")).collect();
            assert_eq!(found, BTreeSet::from([$($name.to_owned()),*]));
        }
    };
}

scenarios! {
    a_first_sync_copies_everything: "first-sync",
    without_a_change_nothing_is_written: "no-change",
    an_edit_in_a_large_file_moves_a_little: "delta",
    what_is_deleted_at_the_source_is_deleted_at_the_destination: "delete",
    paused_means_still: "pause",
    a_manual_tag_is_echoed_once_its_sync_completes: "manual-tags",
    a_schedule_is_kept: "schedule",
    without_a_trigger_changes_arrive_unasked: "continuous",
    a_source_that_cannot_be_read_is_named_and_mended: "failing-source",
    a_destination_that_is_full_says_so_and_recovers: "full-destination",
    backups_are_restored_from_a_repository_as_of_the_one_asked_for: "restic",
    an_empty_volume_makes_no_snapshot: "restic-empty",
    volumes_that_share_a_repository_keep_to_their_own_snapshots: "restic-shared",
    a_lock_that_nobody_holds_any_more_is_in_nobodys_way: "restic-stale-lock",
    a_store_is_trusted_by_the_word_of_its_own_authority: "restic-tls",
}
