//! What arrives is what was sent: every hard case, as root and as an ordinary user.
#![allow(clippy::unwrap_used, reason = "this is test code: what goes wrong ends the test")]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use volsync_testing::keys::{KeyPair, KeySecrets};
use volsync_testing::mover::MoverPair;
use volsync_testing::tree::{Maker, hard_cases, kernel_like};
use volsync_testing::{Privilege, Scratch, Seed, compare};

fn every_hard_case_arrives(privilege: Privilege, scratch: &Scratch) {
    let source = scratch.join("source");
    hard_cases(&source, privilege);
    let pair = MoverPair::with(&source, &scratch.join("destination"), privilege);
    let first = pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
    assert!(first.source.report().not_kept.is_empty(), "{}", first.source);
    assert!(first.destination.report().not_kept.is_empty(), "{}", first.destination);

    let before = compare::stamps(pair.destination());
    let second = pair.sync_completely();
    let counts = second.source.report().counts;
    assert_eq!(
        (counts.files_sent, counts.others_made, counts.attributes_changed, counts.deleted),
        (0, 0, 0, 0),
        "an unchanged tree was sent again: {}",
        second.source
    );
    let after = compare::stamps(pair.destination());
    let touched: Vec<_> =
        before.iter().filter(|(path, stamp)| after.get(*path) != Some(stamp)).collect();
    assert!(touched.is_empty(), "an unchanged tree was written to: {touched:?}");
    assert_eq!(before.len(), after.len());
}

#[test]
fn every_hard_case_arrives_as_root_and_an_unchanged_tree_is_left_alone() {
    if Privilege::own() == Privilege::Root {
        every_hard_case_arrives(Privilege::Root, &Scratch::new());
    }
}

#[test]
fn every_hard_case_of_an_ordinary_user_arrives_and_an_unchanged_tree_is_left_alone() {
    every_hard_case_arrives(Privilege::User, &Scratch::with_attributes());
}

#[test]
fn a_destination_full_of_other_things_becomes_the_source() {
    for privilege in Privilege::available() {
        let scratch = Scratch::with_attributes();
        let (source, destination) = (scratch.join("source"), scratch.join("destination"));
        hard_cases(&source, *privilege);
        let other = Maker::new(&destination, *privilege);
        other.dir("names/x\n");
        other.file("names/x\n/in the way", "a directory where a file will be");
        other.file("links", "a file where a directory will be");
        other.symlink("hard", "/etc");
        other.dir("special/fifo/below");
        other.file("contents", "a file where a directory will be");
        other.symlink("sparse", ".");
        other.dir("extra/deep/er");
        other.file("extra/deep/er/file", "not in the source");
        other.file_with_mode("extra/closed", 0o000);
        let closed = other.dir("extra/closed-dir");
        other.file("extra/closed-dir/file", "in a directory that its owner may not enter");
        other.mode(&closed, 0o000);
        let pair = MoverPair::with(&source, &destination, *privilege);
        let synced = pair.sync_completely();
        compare::assert_same(pair.source(), pair.destination());
        assert!(synced.source.report().counts.deleted >= 6, "{}", synced.source);
    }
}

#[test]
fn files_change_their_type_between_syncs() {
    for privilege in Privilege::available() {
        let scratch = Scratch::with_attributes();
        let source = scratch.join("source");
        let make = Maker::new(&source, *privilege);
        let fifo = rustix::fs::FileType::Fifo;
        type Put<'a> = &'a dyn Fn(&str);
        let kinds: [Put<'_>; 6] = [
            &|name| drop(make.file(name, name)),
            &|name| {
                make.dir(name);
                make.file(format!("{name}/inside"), name);
            },
            &|name| drop(make.symlink(name, "some/where")),
            &|name| drop(make.special(name, fifo, 0, 0)),
            &|name| drop(make.sparse(name, 1 << 20, &[])),
            &|name| drop(make.hard_link(name, &make.path("anchor"))),
        ];
        let pair = MoverPair::with(&source, &scratch.join("destination"), *privilege);
        for round in 0..kinds.len() {
            for entry in fs::read_dir(&source).unwrap().flatten() {
                let gone = if entry.file_type().unwrap().is_dir() {
                    fs::remove_dir_all
                } else {
                    fs::remove_file
                };
                gone(entry.path()).unwrap();
            }
            make.file("anchor", format!("round {round}"));
            for (index, _) in kinds.iter().enumerate() {
                kinds[(index + round) % kinds.len()](&format!("thing{index}"));
            }
            pair.sync_completely();
            compare::assert_same(pair.source(), pair.destination());
        }
    }
}

#[test]
fn what_the_source_deleted_is_deleted_and_counted() {
    let scratch = Scratch::in_memory();
    let source = scratch.join("source");
    kernel_like(&source, 200);
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    pair.sync_completely();
    fs::remove_dir_all(source.join("drivers0/part3")).unwrap();
    fs::remove_file(source.join("drivers0/part4/file80.c")).unwrap();
    let synced = pair.sync_completely();
    assert_eq!(synced.source.report().counts.deleted, 22, "{}", synced.source);
    assert_eq!(synced.source.report().counts.files_sent, 0, "{}", synced.source);
    compare::assert_same(pair.source(), pair.destination());

    for entry in fs::read_dir(&source).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    pair.sync_completely();
    assert_eq!(fs::read_dir(pair.destination()).unwrap().count(), 0);
}

#[test]
fn one_percent_of_edits_moves_little_more() {
    const SIZE: usize = 64 << 20;
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    let file = source.join("database");
    fs::write(&file, Seed::new(11).bytes(SIZE)).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let first = pair.sync_completely();
    assert_eq!(first.source.report().counts.files_sent, 1);

    let mut seed = Seed::new(12);
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    for _ in 0..40 {
        open.write_all_at(&seed.bytes(SIZE / 100 / 40), seed.below((SIZE - SIZE / 4000) as u64))
            .unwrap();
    }
    drop(open);
    let second = pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
    let counts = second.source.report().counts;
    assert!(counts.wire_sent_bytes < SIZE as u64 / 20, "{counts:?}");
    assert!(counts.matched_bytes > SIZE as u64 / 100 * 90, "{counts:?}");
}

#[test]
fn bytes_inserted_at_the_front_do_not_move_the_rest() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    let content = Seed::new(13).bytes(16 << 20);
    fs::write(source.join("log"), &content).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    pair.sync_completely();
    fs::write(source.join("log"), [&b"a few bytes more"[..], &content, b"and at the end"].concat())
        .unwrap();
    let counts = pair.sync_completely().source.report().counts;
    compare::assert_same(pair.source(), pair.destination());
    assert!(counts.wire_sent_bytes < 2 << 20, "{counts:?}");
}

#[test]
fn only_attributes_that_changed_are_set() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    let make = Maker::new(&source, Privilege::own());
    make.dir("dir");
    for number in 0..50 {
        make.file(format!("dir/file{number}"), Seed::new(number).bytes(10_000));
    }
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    pair.sync_completely();
    make.mode(&make.path("dir/file7"), 0o600);
    make.mode(&make.path("dir"), 0o700);
    let stray = pair.destination().join("dir/file9");
    rustix::fs::setxattr(&stray, "user.stray", b"x", rustix::fs::XattrFlags::CREATE).unwrap();
    let counts = pair.sync_completely().source.report().counts;
    assert_eq!((counts.files_sent, counts.attributes_changed), (0, 3), "{counts:?}");
    compare::assert_same(pair.source(), pair.destination());
}

#[test]
fn attributes_that_an_ordinary_user_may_not_set_are_named_and_the_sync_succeeds() {
    if Privilege::own() != Privilege::Root {
        return;
    }
    let scratch = Scratch::new();
    let source = scratch.join("source");
    let make = Maker::new(&source, Privilege::Root);
    make.file("someone", "else's");
    std::os::unix::fs::chown(source.join("someone"), Some(4321), Some(4321)).unwrap();
    make.special("null", rustix::fs::FileType::CharacterDevice, 1, 3);
    let pair = MoverPair::with(&source, &scratch.join("destination"), Privilege::User);
    let synced = pair.sync_completely();
    assert_eq!(fs::read(pair.destination().join("someone")).unwrap(), b"else's");
    let not_kept = &synced.source.report().not_kept;
    for attribute in ["owner", "device"] {
        let named = not_kept.iter().find(|entry| entry.attribute == attribute);
        assert!(
            named.is_some_and(|entry| entry.count > 0),
            "{attribute} is not named: {}",
            synced.source
        );
    }
    let again = pair.sync_completely().source.report().counts;
    assert_eq!(
        again.files_sent, 0,
        "what cannot be kept is no reason to send content again: {again:?}"
    );

    let strict = MoverPair::with(&source, &scratch.join("strict"), Privilege::User).strict();
    strict.sync().source.assert_code(3);
}

#[test]
fn rsa_keys_of_4096_bits_are_accepted_on_both_sides() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("file"), "content").unwrap();
    let keys = KeySecrets::of(KeyPair::rsa(), KeyPair::rsa(), Privilege::own());
    let pair = MoverPair::new(&source, &scratch.join("destination")).with_keys(keys);
    pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
}

#[test]
fn an_empty_volume_is_a_volume() {
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&scratch.dir("source"), &scratch.join("destination"));
    let counts = pair.sync_completely().source.report().counts;
    assert_eq!((counts.files_sent, counts.total_bytes), (0, 0));
    compare::assert_same(pair.source(), pair.destination());
}

#[test]
fn lost_and_found_is_neither_sent_nor_deleted() {
    let scratch = Scratch::in_memory();
    let (source, destination) = (scratch.dir("source"), scratch.dir("destination"));
    for (volume, name) in [(&source, "of the source"), (&destination, "of the destination")] {
        fs::create_dir(volume.join("lost+found")).unwrap();
        fs::set_permissions(volume.join("lost+found"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(volume.join("lost+found/#1"), name).unwrap();
    }
    fs::write(source.join("file"), "content").unwrap();
    symlink("file", source.join("link")).unwrap();
    MoverPair::new(&source, &destination).sync_completely();
    assert_eq!(fs::read(destination.join("lost+found/#1")).unwrap(), b"of the destination");
    assert_eq!(fs::read(destination.join("file")).unwrap(), b"content");
}

#[test]
fn a_source_tree_arrives_and_is_counted() {
    let scratch = Scratch::in_memory();
    let source = scratch.join("source");
    kernel_like(&source, 2000);
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let synced = pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
    let counts = synced.source.report().counts;
    assert_eq!(counts.files_sent, 2000, "{counts:?}");
    let bytes: u64 = compare::content(&source)
        .values()
        .map(|content| if let compare::Content::File { size, .. } = content { *size } else { 0 })
        .sum();
    assert_eq!((counts.total_bytes, counts.sent_file_bytes), (bytes, bytes), "{counts:?}");
    assert!(counts.wire_sent_bytes < bytes, "text is compressed: {counts:?}");
}
