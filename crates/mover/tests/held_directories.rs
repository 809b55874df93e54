//! Nothing leaves the volume, whatever stands in the way; attributes come back as they were set.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use volsync_mover::{
    AttributesWanted, Kind, Metadata, Privileges, RelPath, Root, Time, Xattr, apply_at,
    apply_to_file, data_ranges, differences, file_metadata, file_metadata_and_xattrs,
};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_symbolic_link_is_never_passed_through() {
    let outside = scratch();
    fs::create_dir(outside.path().join("secret")).unwrap();
    let volume = scratch();
    fs::create_dir(volume.path().join("real")).unwrap();
    symlink(outside.path(), volume.path().join("absolute")).unwrap();
    symlink("../..", volume.path().join("real/up")).unwrap();
    symlink("real", volume.path().join("inside")).unwrap();
    let root = Root::open(volume.path()).unwrap();
    for link in ["absolute", "absolute/secret", "real/up", "real/up/etc", "inside"] {
        assert!(root.dir(&path(link)).is_err(), "{link}");
    }
    let top = root.dir(&RelPath::root()).unwrap();
    assert!(top.open_file(b"absolute").is_err());
    assert!(top.subdir(b"inside").is_err());
    assert!(top.create_file(b"absolute", 0o600).is_err());
    assert_eq!(top.metadata(b"inside", AttributesWanted::All).unwrap().kind, Kind::Symlink);
}

#[test]
fn a_directory_that_turns_into_a_link_while_it_is_opened_is_not_followed() {
    let outside = scratch();
    let volume = scratch();
    let (a, b) = (volume.path().join("a"), volume.path().join("b"));
    fs::create_dir_all(a.join("d")).unwrap();
    symlink(outside.path(), &b).unwrap();
    fs::create_dir(outside.path().join("d")).unwrap();
    let inside = fs::metadata(a.join("d")).unwrap().ino();
    let root = Root::open(volume.path()).unwrap();
    let done = AtomicBool::new(false);
    // Set as the test ends, also by a failure, which would otherwise wait for the other thread.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _done = Done(&done);
        scope.spawn(|| {
            let third = volume.path().join("c");
            while !done.load(Ordering::Relaxed) {
                fs::rename(&a, &third).unwrap();
                fs::rename(&b, &a).unwrap();
                fs::rename(&third, &b).unwrap();
            }
        });
        for _ in 0..20_000 {
            for name in ["a/d", "b/d"] {
                if let Ok(dir) = root.dir(&path(name)) {
                    assert_eq!(dir.own_metadata().unwrap().inode, inside, "the volume was left");
                }
            }
        }
    });
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_opened_and_removed() {
    let volume = scratch();
    let root = Root::open(volume.path()).unwrap();
    let mut here = root.dir(&RelPath::root()).unwrap();
    let mut deep = RelPath::root();
    let name = [b'n'; 100];
    for _ in 0..300 {
        here.make_dir(&name, 0o700).unwrap();
        here = here.subdir(&name).unwrap();
        deep = deep.join(&name);
    }
    here.create_file(b"bottom", 0o600).unwrap();
    assert!(root.dir(&deep).unwrap().open_file(b"bottom").is_ok());
    let top = root.dir(&RelPath::root()).unwrap();
    let mut failed = 0;
    assert_eq!(top.remove_tree(&name, &mut |_, _| failed += 1).unwrap(), 301);
    assert_eq!(failed, 0);
}

#[test]
fn a_locked_tree_is_removed_and_what_links_point_to_stays() {
    let outside = scratch();
    fs::write(outside.path().join("keep"), "x").unwrap();
    let volume = scratch();
    let tree = volume.path().join("tree");
    fs::create_dir_all(tree.join("locked/below")).unwrap();
    fs::write(tree.join("locked/below/file"), "x").unwrap();
    symlink(outside.path(), tree.join("locked/link")).unwrap();
    for directory in ["locked/below", "locked"] {
        fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let top = Root::open(volume.path()).unwrap().dir(&RelPath::root()).unwrap();
    let mut failures = Vec::new();
    let removed =
        top.remove_tree(b"tree", &mut |path, error| failures.push((path.clone(), error))).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(removed, 5);
    assert!(!tree.exists() && outside.path().join("keep").exists());
}

fn wanted(like: &Metadata) -> Metadata {
    Metadata {
        mode: 0o640,
        mtime: Time { seconds: -12_345, nanoseconds: 678_901_234 },
        xattrs: vec![Xattr { name: b"user.colour".to_vec(), value: b"blue\0".to_vec() }],
        ..like.clone()
    }
}

/// A directory whose file system keeps `user.*` attributes.
fn with_xattrs() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

#[test]
fn attributes_come_back_as_they_were_set() {
    let volume = with_xattrs();
    let top = Root::open(volume.path()).unwrap().dir(&RelPath::root()).unwrap();
    let privileges = Privileges::current();
    let file = top.create_file(b"file", 0o600).unwrap();
    let fresh = file_metadata(&file).unwrap();
    let want = wanted(&fresh);
    let mut not_kept = Vec::new();
    assert!(
        apply_to_file(&file, &want, &fresh, &privileges, &mut |attribute| not_kept.push(attribute))
            .unwrap()
    );
    let have = file_metadata_and_xattrs(&file).unwrap();
    assert!(!differences(&want, &have).any(), "{have:?}");
    assert!(
        !apply_to_file(&file, &want, &have, &privileges, &mut |_| {}).unwrap(),
        "nothing was left to do"
    );

    top.make_dir(b"dir", 0o700).unwrap();
    top.make_fifo(b"fifo", 0o600).unwrap();
    for name in [&b"dir"[..], b"fifo"] {
        let fresh = top.metadata(name, AttributesWanted::All).unwrap();
        let mut want = wanted(&fresh);
        if name == b"fifo" {
            want.xattrs.clear();
        }
        apply_at(&top, name, &want, &fresh, &privileges, &mut |attribute| not_kept.push(attribute))
            .unwrap();
        assert!(!differences(&want, &top.metadata(name, AttributesWanted::All).unwrap()).any());
    }

    let bare = Metadata { xattrs: Vec::new(), ..want };
    apply_to_file(&file, &bare, &have, &privileges, &mut |attribute| not_kept.push(attribute))
        .unwrap();
    assert_eq!(file_metadata_and_xattrs(&file).unwrap().xattrs, [], "removed from an open file");
    let have = top.metadata(b"dir", AttributesWanted::All).unwrap();
    let bare = Metadata { xattrs: Vec::new(), ..have.clone() };
    apply_at(&top, b"dir", &bare, &have, &privileges, &mut |attribute| not_kept.push(attribute))
        .unwrap();
    let have = top.metadata(b"dir", AttributesWanted::All).unwrap();
    assert_eq!(have.xattrs, [], "removed by name");
    assert!(not_kept.is_empty(), "{not_kept:?}");
}

#[test]
fn a_link_keeps_its_own_time_and_leaves_its_target_alone() {
    let volume = scratch();
    fs::write(volume.path().join("target"), "x").unwrap();
    let before = fs::metadata(volume.path().join("target")).unwrap();
    let top = Root::open(volume.path()).unwrap().dir(&RelPath::root()).unwrap();
    top.make_symlink(b"link", b"target").unwrap();
    let fresh = top.metadata(b"link", AttributesWanted::All).unwrap();
    let want = Metadata { mtime: Time { seconds: 1, nanoseconds: 2 }, mode: 0, ..fresh.clone() };
    apply_at(&top, b"link", &want, &fresh, &Privileges::current(), &mut |_| {}).unwrap();
    assert_eq!(top.metadata(b"link", AttributesWanted::All).unwrap().mtime, want.mtime);
    let after = fs::metadata(volume.path().join("target")).unwrap();
    assert_eq!((before.mtime(), before.mode()), (after.mtime(), after.mode()));
}

#[test]
fn only_the_data_of_a_sparse_file_is_read() {
    let volume = with_xattrs();
    let top = Root::open(volume.path()).unwrap().dir(&RelPath::root()).unwrap();
    let file = top.create_file(b"sparse", 0o600).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 32 << 20).unwrap();
    file.sync_all().unwrap();
    let metadata = file_metadata(&file).unwrap();
    let ranges: Vec<_> = data_ranges(&file, &metadata).unwrap().collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(
        ranges[0].contains(&(32 << 20)) && ranges[0].end - ranges[0].start <= 1 << 20,
        "{ranges:?}"
    );
}
