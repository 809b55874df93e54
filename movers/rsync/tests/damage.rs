//! Killed at any moment, cut, corrupted: never a wrong file, and what was done stays done.
#![allow(clippy::unwrap_used, reason = "this is test code: what goes wrong ends the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use compare::Content;
use volsync_testing::mover::MoverPair;
use volsync_testing::proxy::Proxy;
use volsync_testing::tree::{kernel_like, mutate};
use volsync_testing::{Privilege, Scratch, Seed, compare};

type Tree = BTreeMap<PathBuf, Content>;

/// Nothing under a final name is anything but the old or the new version of it. What a mover has
/// not finished lies under names of its own.
fn assert_old_or_new(old: &Tree, new: &Tree, pair: &MoverPair, when: &str) {
    let now = compare::content(pair.destination());
    for (path, was) in old {
        let stays =
            matches!((was, new.get(path)), (Content::File { .. }, Some(Content::File { .. })));
        assert!(!stays || now.contains_key(path), "{when}: {} is lost", path.display());
    }
    for (path, is) in &now {
        if old.get(path) == Some(is) || new.get(path) == Some(is) {
            continue;
        }
        let of_the_mover = path.iter().any(|name| name.as_encoded_bytes().starts_with(b".volsync"));
        // A directory may be there before it is filled, where a file was or nothing.
        assert!(
            of_the_mover || *is == Content::Directory,
            "{when}: {} is neither old nor new: {is:?}",
            path.display()
        );
    }
}

fn big_and_small(source: &std::path::Path, seed: u64) {
    kernel_like(source, 300);
    let mut seed = Seed::new(seed);
    for number in 0..3 {
        fs::write(source.join(format!("big{number}")), seed.bytes(3 << 20)).unwrap();
    }
    fs::write(source.join("drivers0/big"), seed.text(6 << 20)).unwrap();
}

/// Kills one side and then the other, so many times, at random moments of a sync.
fn kill(seed: u64, kills: usize) {
    let scratch = Scratch::with_attributes();
    let source = scratch.dir("source");
    big_and_small(&source, seed);
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let mut seed_of_time = Seed::new(seed);
    let started = Instant::now();
    pair.sync_completely();
    let whole = started.elapsed();
    let mut old = compare::content(&source);
    let mut done = 0;
    let mut round = 0;
    while done < kills {
        round += 1;
        mutate(&source, seed * 1000 + round, 60, Privilege::own());
        for number in 0..2 {
            let _ = fs::remove_file(source.join(format!("big-{}-{number}", round - 1)));
            let content = Seed::new(round + number).bytes(3 << 20);
            fs::write(source.join(format!("big-{round}-{number}")), content).unwrap();
        }
        let new = compare::content(&source);
        for _ in 0..5 {
            let (destination, address) = pair.start_destination();
            let sender = pair.start_source(address);
            thread::sleep(whole.mul_f64(seed_of_time.below(1000) as f64 / 900.0));
            let when = format!("seed {seed}, round {round}, after {done} kills");
            if seed_of_time.percent(50) {
                destination.kill();
                thread::sleep(Duration::from_millis(seed_of_time.below(20)));
                sender.kill();
            } else {
                sender.kill();
                thread::sleep(Duration::from_millis(seed_of_time.below(20)));
                destination.kill();
            }
            done += 2;
            assert_old_or_new(&old, &new, &pair, &when);
        }
        pair.sync_completely();
        compare::assert_same(pair.source(), pair.destination());
        old = new;
    }
}

#[test]
fn killed_at_any_moment_no_file_is_wrong_and_the_next_sync_succeeds() {
    kill(1, 150);
}

#[test]
fn killed_at_any_other_moment_no_file_is_wrong_and_the_next_sync_succeeds() {
    kill(2, 150);
}

#[test]
#[ignore = "takes many minutes; for the night"]
fn killed_a_thousand_times_no_file_is_wrong() {
    kill(3, 1000);
}

/// A big file and small ones; the sync is stopped by `stop` when half of the big file has passed.
/// The next sync must reuse both.
fn work_is_reused(
    stop: impl Fn(&Proxy, volsync_testing::mover::Running, volsync_testing::mover::Running),
) {
    const BIG: u64 = 48 << 20;
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::create_dir(source.join("a")).unwrap();
    for number in 0..50u64 {
        fs::write(source.join(format!("a/small{number}")), Seed::new(number).bytes(20_000))
            .unwrap();
    }
    fs::write(source.join("z-big"), Seed::new(99).bytes(BIG as usize)).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));

    let (destination, address) = pair.start_destination();
    let proxy = Proxy::start(address, Duration::from_millis(1));
    let sender = pair.start_source(proxy.address());
    let patience = Instant::now() + Duration::from_secs(60);
    while proxy.delivered() < BIG / 2 && Instant::now() < patience {
        thread::sleep(Duration::from_micros(200));
    }
    stop(&proxy, sender, destination);
    assert!(proxy.sent() < BIG, "the big file had passed before it could be stopped");
    assert!(!pair.destination().join("z-big").exists(), "half a file has its final name");

    let again = pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
    let counts = again.source.report().counts;
    assert!(counts.matched_bytes > BIG / 4, "half of the big file was there: {counts:?}");
    assert!(counts.wire_sent_bytes < BIG * 3 / 4, "half of the big file was there: {counts:?}");
    assert!(counts.files_sent <= 10, "small files that were done are sent again: {counts:?}");
}

#[test]
fn after_a_killed_destination_the_next_sync_goes_on_where_it_stopped() {
    work_is_reused(|_, sender, destination| {
        destination.kill();
        sender.kill();
    });
}

#[test]
fn after_a_killed_source_the_next_sync_goes_on_where_it_stopped() {
    work_is_reused(|_, sender, destination| {
        sender.kill();
        thread::sleep(Duration::from_millis(300));
        destination.kill();
    });
}

#[test]
fn a_cut_connection_is_made_again_and_the_sync_goes_on() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    big_and_small(&source, 5);
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let (destination, address) = pair.start_destination();
    let proxy = Proxy::start(address, Duration::ZERO);
    proxy.cut_after(4 << 20);
    let sender = pair.start_source(proxy.address()).wait();
    sender.assert_code(0);
    destination.wait().assert_code(0);
    assert!(proxy.connections() > 1);
    compare::assert_same(pair.source(), pair.destination());
}

#[test]
fn a_flipped_bit_on_the_way_never_becomes_a_wrong_file() {
    for offset in [3_000, 70_000, 1_000_000, 5_000_000] {
        let scratch = Scratch::in_memory();
        let source = scratch.dir("source");
        big_and_small(&source, 6);
        let pair = MoverPair::new(&source, &scratch.join("destination"));
        let (destination, address) = pair.start_destination();
        let proxy = Proxy::start(address, Duration::ZERO);
        proxy.flip_bit_at(offset);
        let sender = pair.start_source(proxy.address()).wait();
        assert_old_or_new(
            &Tree::new(),
            &compare::content(&source),
            &pair,
            &format!("bit flipped at {offset}"),
        );
        sender.assert_code(0);
        destination.wait().assert_code(0);
        assert!(proxy.connections() > 1, "the flipped bit at {offset} was not noticed");
        compare::assert_same(pair.source(), pair.destination());
    }
}

#[test]
fn asked_to_stop_both_sides_end_soon_and_keep_what_they_have() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("big"), Seed::new(1).bytes(64 << 20)).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let (destination, address) = pair.start_destination();
    let proxy = Proxy::start(address, Duration::from_millis(2));
    let sender = pair.start_source(proxy.address());
    while proxy.sent() < 8 << 20 {
        thread::sleep(Duration::from_micros(200));
    }
    let started = Instant::now();
    let (sender, destination) = (sender.stop(), destination.stop());
    assert!(started.elapsed() < Duration::from_secs(15));
    sender.assert_failed(&[1], &[]);
    destination.assert_failed(&[1], &[]);
    let again = pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
    assert!(again.source.report().counts.matched_bytes > 0);
}
