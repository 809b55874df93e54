//! Promises of `test-e2e/scenarios`, of the README and of the pages about restic, kept by the operator that is installed in the
//! test cluster.
#![allow(clippy::panic, reason = "this is test code: what goes wrong ends the test")]

mod pages;
mod readme;
mod typing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use volsync_testing::scenario::{Cluster, Scenario};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-e2e/scenarios")
}

fn keep(name: &str) {
    let result = Scenario::read(&folder().join(name)).and_then(|scenario| {
        let mut driver = Cluster::new(name)?;
        scenario.run(&mut driver)
    });
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
            let found = folders.flatten().map(|at| at.file_name().to_string_lossy().into_owned());
            let mut found: BTreeSet<_> = found.collect();
            for name in NOT_IN_A_CLUSTER {
                assert!(found.remove(name), "{name} is no scenario");
            }
            assert_eq!(found, BTreeSet::from([$($name.to_owned()),*]));
        }
    };
}

/// The mover of a cluster runs as root, which may read what nobody may.
const NOT_IN_A_CLUSTER: [&str; 1] = ["failing-source"];

scenarios! {
    a_first_sync_copies_everything: "first-sync",
    without_a_change_nothing_is_written: "no-change",
    an_edit_in_a_large_file_moves_a_little: "delta",
    what_is_deleted_at_the_source_is_deleted_at_the_destination: "delete",
    paused_means_still: "pause",
    a_manual_tag_is_echoed_once_its_sync_completes: "manual-tags",
    a_schedule_is_kept: "schedule",
    without_a_trigger_changes_arrive_unasked: "continuous",
    a_destination_that_is_full_says_so_and_recovers: "full-destination",
    backups_are_restored_from_a_repository_as_of_the_one_asked_for: "restic",
    claims_come_up_with_a_backup_that_was_made_when_its_user_said_so: "cluster-restic-populator",
    an_empty_volume_makes_no_snapshot: "restic-empty",
    volumes_that_share_a_repository_keep_to_their_own_snapshots: "restic-shared",
    a_lock_that_nobody_holds_any_more_is_in_nobodys_way: "restic-stale-lock",
    a_store_is_trusted_by_the_word_of_its_own_authority: "restic-tls",
    snapshots_replicate_round_after_round_and_populate_claims: "cluster-snapshots",
    a_source_is_cloned: "cluster-clone",
    a_copy_waits_for_its_users_word: "cluster-copy-trigger",
    one_to_many_and_many_to_many: "cluster-many",
    many_to_one_is_one_after_the_other: "cluster-many-to-one",
    long_names_are_hashed: "cluster-long-name",
    a_claim_in_use_is_read_where_it_is_used: "cluster-in-use",
    a_failing_mover_says_so_and_recovers: "cluster-recovery",
    what_is_missing_is_named_and_waited_for: "cluster-missing",
    an_invalid_manifest_is_told_everything: "cluster-invalid",
    what_is_deleted_leaves_nothing_behind: "cluster-deleted",
    a_snapshot_to_keep_is_the_users: "cluster-keep-snapshot",
    a_namespace_that_refuses_the_mover_is_named: "cluster-restricted",
    the_mover_is_what_the_manifest_asks_for: "cluster-configured",
    an_address_is_waited_for_and_published: "cluster-load-balancer",
    a_snapshot_that_cannot_be_made_is_named: "cluster-no-snapshot-class",
    a_quota_that_lets_no_mover_in_is_named: "cluster-quota",
    a_block_volume_is_refused_with_words: "cluster-block",
    claims_that_wait_are_populated_and_one_deleted_leaves_nothing: "cluster-populator",
    a_temporary_volume_leaves_its_image_only: "cluster-temporary",
    a_mover_that_runs_is_paused_and_goes_on: "cluster-paused",
    what_belongs_to_others_is_left_alone: "cluster-foreign",
    what_another_release_left_is_adopted: "cluster-adoption",
    a_snapshot_of_a_volume_is_backed_up_and_restored: "cluster-restic",
}
