//! Faults of disks, files, networks and people: one clear sentence, the right exit code, nothing lost.
#![allow(clippy::unwrap_used, reason = "this is test code: what goes wrong ends the test")]

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use volsync_testing::disk::SmallDisk;
use volsync_testing::failing_fs::{Behaviour, FailingFs};
use volsync_testing::keys::{KeyKind, KeyPair, KeySecrets};
use volsync_testing::mover::MoverPair;
use volsync_testing::proxy::Proxy;
use volsync_testing::tree::{Maker, kernel_like, unreadable_cases};
use volsync_testing::{Privilege, Scratch, Seed, compare, peers};

#[test]
fn an_input_output_error_at_the_source_is_named_and_the_rest_arrives() {
    let content = Seed::new(1).bytes(700_000);
    let failing = FailingFs::mount(vec![
        ("a-good", b"good".to_vec(), Behaviour::Honest),
        ("fails-late", content.clone(), Behaviour::FailsAfter(300_000)),
        ("fails-small", vec![5; 9_000], Behaviour::FailsAfter(0)),
        ("no-open", vec![5; 10], Behaviour::CannotOpen),
        ("z-good", content.clone(), Behaviour::Honest),
    ]);
    let scratch = Scratch::in_memory();
    let destination = scratch.dir("destination");
    fs::write(destination.join("fails-late"), "the version of last week").unwrap();
    let pair = MoverPair::new(&failing.path(), &destination);
    let synced = pair.sync();
    synced.source.assert_code(3);
    for path in ["fails-late", "fails-small", "no-open"] {
        let why = synced.source.why_skipped(path);
        assert!(why.starts_with("not read: input/output error"), "{why}");
    }
    assert_eq!(synced.source.report().skipped.count, 3, "{}", synced.source);
    assert_eq!(fs::read(destination.join("a-good")).unwrap(), b"good");
    assert_eq!(fs::read(destination.join("z-good")).unwrap(), content);
    assert_eq!(fs::read(destination.join("fails-late")).unwrap(), b"the version of last week");
    assert!(!destination.join("fails-small").exists());
}

#[test]
fn files_that_vanish_shrink_or_grow_under_the_walk_never_arrive_wrong() {
    let content = Seed::new(2).bytes(500_000);
    let failing = FailingFs::mount(vec![
        ("gone", vec![], Behaviour::VanishedBeforeLook),
        ("gone-later", content.clone(), Behaviour::VanishedBeforeOpen),
        ("grown", content.clone(), Behaviour::Grown(200_000)),
        ("grown-from-nothing", content.clone(), Behaviour::Grown(500_000)),
        ("shrunk", content.clone(), Behaviour::Shrunk(200_000)),
        ("shrunk-small", content[..5_000].to_vec(), Behaviour::Shrunk(1_000)),
        ("steady", content.clone(), Behaviour::Honest),
    ]);
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&failing.path(), &scratch.join("destination"));
    let synced = pair.sync();
    assert!(matches!(synced.source.code, Some(0 | 3)), "{}", synced.source);
    let read = |name: &str| fs::read(pair.destination().join(name)).ok();
    assert_eq!(read("steady"), Some(content.clone()), "{}", synced.source);
    assert_eq!((read("gone"), read("gone-later")), (None, None));
    // A prefix of what the file ever was is a consistent copy of a file that is being written.
    for (name, shortest) in [
        ("grown", 300_000),
        ("grown-from-nothing", 0),
        ("shrunk", 200_000),
        ("shrunk-small", 1_000),
    ] {
        let Some(arrived) = read(name) else { continue };
        assert!(
            arrived.len() >= shortest && content.starts_with(&arrived),
            "{name}: {} bytes",
            arrived.len()
        );
    }
}

#[test]
fn a_tree_that_changes_during_the_sync_does_not_disturb_the_rest() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    kernel_like(&source.join("steady"), 400);
    kernel_like(&source.join("unsteady"), 400);
    fs::write(source.join("steady/big"), Seed::new(3).bytes(24 << 20)).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let (destination, address) = pair.start_destination();
    let proxy = Proxy::start(address, Duration::from_millis(5));
    let mut sender = pair.start_source(proxy.address());
    let mut seed = Seed::new(4);
    let files = compare::walk(&source.join("unsteady"));
    while sender.is_running() {
        let file = source.join("unsteady").join(seed.pick(&files));
        match seed.below(4) {
            _ if file.is_dir() => {}
            0 => drop(fs::remove_file(&file)),
            1 => drop(fs::write(&file, seed.text(20_000))),
            2 => drop(
                fs::OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .and_then(|file| file.set_len(seed.below(100))),
            ),
            _ => drop(fs::rename(&file, file.with_extension("moved"))),
        }
        thread::sleep(Duration::from_micros(500));
    }
    let sender = sender.wait();
    assert!(matches!(sender.code, Some(0 | 3)), "{sender}");
    destination.wait();
    assert!(
        compare::rsync_differences(&source.join("steady"), &pair.destination().join("steady"))
            .is_empty()
    );
    pair.sync_completely();
    compare::assert_same(pair.source(), pair.destination());
}

#[test]
fn what_an_ordinary_user_cannot_read_is_named_and_nothing_is_deleted_for_it() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    unreadable_cases(&source, Privilege::User);
    let kept = Maker::new(&scratch.join("destination"), Privilege::User);
    kept.dir("closed-dir");
    kept.file("closed-dir/inside", "the version of last week");
    kept.file("closed-file", "the version of last week");
    let pair = MoverPair::with(&source, &scratch.join("destination"), Privilege::User);
    let synced = pair.sync();
    synced.source.assert_code(3);
    synced.destination.assert_code(3);
    for path in ["closed-file", "closed-dir"] {
        let why = synced.source.why_skipped(path);
        assert!(why.contains("permission denied"), "{why}");
    }
    for name in ["closed-file", "closed-dir/inside"] {
        let path = pair.destination().join(name);
        Maker::new(&scratch.join("destination"), Privilege::User)
            .mode(path.parent().unwrap(), 0o755);
        assert_eq!(fs::read(&path).unwrap(), b"the version of last week", "{name}");
    }
    assert_eq!(fs::read(pair.destination().join("open/readable")).unwrap(), b"anyone may");
}

#[test]
fn a_destination_that_fills_up_says_so_and_keeps_what_it_had() {
    let disk = SmallDisk::new((8 << 20) + (300 << 10));
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(disk.path().join("a-kept"), "the version of last week").unwrap();
    let make = Maker::new(&source, Privilege::own());
    make.file("a-kept", Seed::new(4).bytes(6 << 20));
    for number in 0..8 {
        make.file(format!("file{number}"), Seed::new(number).bytes(1 << 20));
    }
    let pair = MoverPair::new(&source, &disk.path());
    let synced = pair.sync();
    assert!(matches!(synced.source.code, Some(1..=3)), "{}", synced.source);
    let report = synced.source.report();
    let said = format!("{} {:?}", report.message, report.skipped.first).to_lowercase();
    assert!(said.contains("no space left") || said.contains("full"), "{}", synced.source);
    let (new, mut whole) = (compare::content(&source), 0);
    for (path, content) in compare::content(&disk.path()) {
        let name = path.to_string_lossy().into_owned();
        let kept = name == "a-kept"
            && fs::read(disk.path().join("a-kept")).unwrap() == b"the version of last week";
        let of_the_mover = name.starts_with(".volsync");
        assert!(
            kept || of_the_mover || new.get(&path) == Some(&content),
            "{name} is neither old nor new"
        );
        whole += u32::from(new.get(&path) == Some(&content));
    }
    assert!(whole < 9);

    for number in 2..8 {
        fs::remove_file(source.join(format!("file{number}"))).unwrap();
    }
    make.file("a-kept", "small again");
    pair.sync_completely();
    // rsync does not follow the kernel's link into the other mount namespace.
    assert_eq!(compare::content(pair.source()), compare::content(&disk.path()));
}

#[test]
fn a_connection_that_stays_cut_ends_in_one_sentence() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("big"), Seed::new(5).bytes(16 << 20)).unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let (_destination, address) = pair.start_destination();
    let proxy = Proxy::start(address, Duration::ZERO);
    proxy.cut_after(2 << 20);
    let sender = pair.start_source(proxy.address());
    let patience = Instant::now() + Duration::from_secs(30);
    while proxy.sent() == 0 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    proxy.refuse(true);
    sender.wait().assert_failed(&[1], &["127.0.0.1"]);
    assert!(!pair.destination().join("big").exists());
}

#[test]
fn nobody_listening_is_transient_and_named() {
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&scratch.dir("source"), &scratch.join("destination"));
    let nobody = peers::free_address();
    let ended = pair.start_source(nobody).wait();
    ended.assert_failed(&[1], &["127.0.0.1", &nobody.port().to_string(), "connect"]);
}

#[test]
fn an_address_that_does_not_resolve_is_named() {
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&scratch.dir("source"), &scratch.join("destination"));
    let ended = pair.start_source_to("no-such-host.invalid", 22).wait();
    ended.assert_failed(&[1], &["no-such-host.invalid"]);
}

#[test]
fn a_port_in_use_is_named() {
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&scratch.dir("source"), &scratch.join("destination"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = pair.start_destination_on(address).wait();
    ended.assert_failed(&[1, 2], &[&address.to_string(), "in use"]);
}

#[test]
fn a_source_whose_key_the_destination_does_not_know_is_refused_for_good() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("file"), "secret").unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    fs::write(pair.keys().source().join("source"), KeyPair::new(KeyKind::Ed25519).private).unwrap();
    let (mut destination, address) = pair.start_destination();
    pair.start_source(address).wait().assert_failed(&[2], &["key"]);
    assert!(
        destination.is_running(),
        "a stranger must not end the destination: {}",
        destination.kill()
    );
    assert_eq!(fs::read_dir(pair.destination()).unwrap().count(), 0);

    let right = MoverPair::new(&source, pair.destination());
    right.start_source(address).wait().assert_code(0);
    destination.wait().assert_code(0);
    compare::assert_same(&source, pair.destination());
}

#[test]
fn a_destination_with_another_host_key_is_not_believed() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("file"), "secret").unwrap();
    let pair = MoverPair::new(&source, &scratch.join("destination"));
    let expected = KeyPair::new(KeyKind::Ed25519).public;
    fs::write(pair.keys().source().join("destination.pub"), expected).unwrap();
    let (_destination, address) = pair.start_destination();
    pair.start_source(address).wait().assert_failed(&[2], &["host key"]);
    assert_eq!(fs::read_dir(pair.destination()).unwrap().count(), 0);
}

#[test]
fn missing_and_damaged_keys_are_named() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    for (side, file) in [
        ("source", "source"),
        ("source", "destination.pub"),
        ("destination", "destination"),
        ("destination", "source.pub"),
    ] {
        for damage in ["missing", "garbage", "empty"] {
            let pair = MoverPair::new(&source, &scratch.join("destination"));
            let keys =
                if side == "source" { pair.keys().source() } else { pair.keys().destination() };
            match damage {
                "missing" => fs::remove_file(keys.join(file)).unwrap(),
                "garbage" => fs::write(keys.join(file), "this is no key\n").unwrap(),
                _ => fs::write(keys.join(file), "").unwrap(),
            }
            let mover = if side == "source" {
                pair.start_source(peers::free_address())
            } else {
                pair.start_destination_on("127.0.0.1:0".parse().unwrap())
            };
            mover.wait_for(Duration::from_secs(30)).assert_failed(&[2], &[file]);
        }
    }
}

#[test]
fn keys_are_never_shown() {
    let scratch = Scratch::in_memory();
    let source = scratch.dir("source");
    fs::write(source.join("file"), "content").unwrap();
    let both = KeyPair::both();
    let pair = MoverPair::new(&source, &scratch.join("destination")).with_keys(KeySecrets::of(
        &both.0,
        &both.1,
        Privilege::own(),
    ));
    let synced = pair.sync_completely();
    for private in [&both.0.private, &both.1.private] {
        let line = private.lines().nth(2).unwrap();
        assert!(!synced.source.log.contains(line) && !synced.destination.log.contains(line));
    }
}

#[test]
fn a_volume_that_is_not_there_is_named() {
    let scratch = Scratch::in_memory();
    let pair = MoverPair::new(&scratch.join("no-such-volume"), &scratch.dir("destination"));
    pair.start_source(peers::free_address()).wait().assert_failed(&[2], &["no-such-volume"]);
    let missing = MoverPair::new(&scratch.dir("source"), &scratch.dir("gone"));
    fs::remove_dir(missing.destination()).unwrap();
    let ended = missing
        .start_destination_on("127.0.0.1:0".parse().unwrap())
        .wait_for(Duration::from_secs(30));
    ended.assert_failed(&[2], &["gone"]);
}
