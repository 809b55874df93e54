//! Repositories whose key is right and whose content is made to do harm: nothing is written outside the
//! volume, nothing ends a restore with a panic, and what cannot be restored is named.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use volsync_bucket::{Memory, Store};
use volsync_contract::Outcome;
use volsync_mover::{Monitor, Root, Shutdown};
use volsync_mover_restic::format::index::build_index_file;
use volsync_mover_restic::format::pack::{PackBuilder, PackedBlob};
use volsync_mover_restic::format::{BlobKind, Encoder, Id, Snapshot};
use volsync_mover_restic::repository::Repository;
use volsync_mover_restic::restore::{RestoreOptions, restore};
use volsync_mover_restic::verify::{VerifyOptions, verify};
use volsync_testing::compare::content;
use volsync_testing::{Scratch, Seed};

struct Place {
    scratch: Scratch,
    runtime: tokio::runtime::Runtime,
    repository: Repository,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let repository = runtime.block_on(Repository::create(&store, "secret", "here")).unwrap();
        std::fs::write(scratch.dir("outside").join("kept"), "as it was").unwrap();
        Self { scratch, runtime, repository }
    }

    /// Writes blobs in a pack of their own.
    fn write(&self, blobs: &[(BlobKind, Vec<u8>)]) -> Vec<Id> {
        let files = self.repository.files();
        let mut encoder = Encoder::new(2).unwrap();
        let mut pack = PackBuilder::default();
        let mut ids = Vec::new();
        for (kind, plain) in blobs {
            let id = Id::of(plain);
            let sealed = encoder.encode(files.key(), *kind, plain).unwrap();
            pack.push(*kind, id, sealed.bytes, sealed.raw_length).unwrap();
            ids.push(id);
        }
        let pack = pack.finish(files.key()).unwrap();
        self.runtime.block_on(async {
            files.write_pack(pack.id, pack.bytes, false).await.unwrap();
            files.write_index(&build_index_file(&[(pack.id, pack.blobs)])).await.unwrap();
        });
        ids
    }

    fn tree(&self, nodes: &[Value]) -> Id {
        let tree = json!({"nodes": nodes}).to_string() + "\n";
        self.write(&[(BlobKind::Tree, tree.into_bytes())])[0]
    }

    fn file(&self, text: &str) -> Id {
        self.write(&[(BlobKind::Data, text.as_bytes().to_vec())])[0]
    }

    /// Restores a tree; what was named.
    fn restore(&self, tree: Id, delete: bool) -> Result<Vec<(String, String)>, String> {
        let volume = self.scratch.dir("volume");
        let files = self.repository.files();
        let index = self.runtime.block_on(files.load_index()).unwrap();
        let options = RestoreOptions { delete, threads: 2, reads: 2, memory: 8 << 20 };
        let monitor = Monitor::new(false);
        let restored = restore(
            files,
            &index,
            &Root::open(&volume).unwrap(),
            tree,
            &options,
            (&monitor, &Shutdown::default()),
            self.runtime.handle(),
        );
        let outside = content(&self.scratch.join("outside"));
        assert_eq!(outside.keys().collect::<Vec<_>>(), [Path::new("kept")]);
        let kept = std::fs::read_to_string(self.scratch.join("outside/kept")).unwrap();
        assert_eq!(kept, "as it was");
        let names: Vec<_> = std::fs::read_dir(self.scratch.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "{names:?}");
        restored.map_err(|error| error.to_string())?;
        let skipped = monitor.report(Outcome::Incomplete).skipped;
        Ok(skipped.first.into_iter().map(|item| (item.path, item.why)).collect())
    }
}

fn node(name: &str, kind: &str, more: Value) -> Value {
    let mut node = json!({
        "name": name, "type": kind, "mode": 0o755, "mtime": "2026-01-01T00:00:00Z",
        "atime": "2026-01-01T00:00:00Z", "ctime": "2026-01-01T00:00:00Z", "uid": 0, "gid": 0,
    });
    for (key, value) in more.as_object().unwrap() {
        node[key] = value.clone();
    }
    node
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in
        ["..", ".", "", "../outside/kept", "a/b", "/etc/passwd", "a\0b", "\\u002e.", "\\x2e\\x2e"]
    {
        for kind in ["file", "dir", "symlink"] {
            let place = Place::new();
            let evil = place.file("evil");
            let below = place.tree(&[node(
                "kept",
                "file",
                json!({"size": 4, "content": [evil.to_string()]}),
            )]);
            let more = match kind {
                "file" => json!({"size": 4, "content": [evil.to_string()]}),
                "dir" => json!({"subtree": below.to_string()}),
                _ => json!({"linktarget": "/etc"}),
            };
            let good = node("good", "file", json!({"size": 4, "content": [evil.to_string()]}));
            let mut nodes = [node(name, kind, more), good];
            nodes.sort_by_key(|node| node["name"].as_str().unwrap().to_owned());
            let tree = place.tree(&nodes);
            for delete in [false, true] {
                match place.restore(tree, delete) {
                    Ok(named) => assert!(!named.is_empty() || name.contains('\\'), "{name} {kind}"),
                    Err(error) => assert!(error.contains("damaged"), "{name} {kind}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_symbolic_link_is_no_way_out() {
    let place = Place::new();
    let outside = place.scratch.join("outside").display().to_string();
    let evil = place.file("evil");
    let kept = node("kept", "file", json!({"size": 4, "content": [evil.to_string()]}));
    let below = place.tree(std::slice::from_ref(&kept));
    let link = |name: &str, target: &str| node(name, "symlink", json!({"linktarget": target}));
    let dir = |name: &str| node(name, "dir", json!({"subtree": below.to_string()}));
    // Both of one name, in either order, and a link from an earlier restore.
    for nodes in
        [vec![link("a", &outside), dir("a")], vec![dir("a"), link("a", &outside)], vec![dir("a")]]
    {
        std::fs::remove_dir_all(place.scratch.dir("volume")).unwrap();
        let volume = place.scratch.dir("volume");
        std::os::unix::fs::symlink(&outside, volume.join("a")).unwrap();
        let tree = place.tree(&nodes);
        for delete in [false, true] {
            // Refused or restored: what is outside stays, which is looked at there.
            match place.restore(tree, delete) {
                Ok(_) => {}
                Err(error) => assert!(error.contains("damaged"), "{error}"),
            }
        }
    }
    // A file where the link is.
    let volume = place.scratch.dir("volume");
    std::fs::remove_dir_all(&volume).unwrap();
    std::fs::create_dir(&volume).unwrap();
    let target = place.scratch.join("outside/kept");
    std::os::unix::fs::symlink(target, volume.join("kept")).unwrap();
    let tree = place.tree(&[kept]);
    assert_eq!(place.restore(tree, false), Ok(Vec::new()));
    assert!(!volume.join("kept").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn absurd_sizes_times_and_owners_take_neither_memory_nor_the_restore() {
    let place = Place::new();
    let blob = place.file("four");
    let content = json!([blob.to_string()]);
    let tree = place.tree(&[
        node("a", "file", json!({"size": u64::MAX, "content": content})),
        node("b", "file", json!({"size": 0, "content": content})),
        node("c", "file", json!({"size": 4, "content": content, "mtime": "9999-12-31T23:59:59Z"})),
        node("d", "file", json!({"size": 4, "content": content, "uid": u32::MAX, "gid": u32::MAX})),
        node("e", "file", json!({"size": 4, "content": content, "mode": u32::MAX})),
        node("f", "file", json!({"size": 1_u64 << 62, "content": []})),
        node("g", "dev", json!({"device": u64::MAX})),
        node("h", "file", json!({"size": 4, "content": [Id::of(b"nowhere").to_string()]})),
        node("i", "nonsense", json!({})),
        node("z", "file", json!({"size": 4, "content": content})),
    ]);
    match place.restore(tree, false) {
        Ok(named) => {
            assert!(named.iter().any(|(path, _)| path == "h"), "{named:?}");
            let volume = place.scratch.join("volume");
            assert_eq!(std::fs::read_to_string(volume.join("z")).unwrap(), "four");
        }
        Err(error) => assert!(error.contains("damaged"), "{error}"),
    }
}

#[test]
fn directories_ten_thousand_deep_end_neither_a_restore_nor_a_verification() {
    // A restore holds each directory open that it is in.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let place = Place::new();
    let mut blobs = Vec::new();
    let mut below = json!({"nodes": []}).to_string() + "\n";
    for _ in 0..10_000 {
        let id = Id::of(below.as_bytes()).to_string();
        blobs.push((BlobKind::Tree, below.into_bytes()));
        below = json!({"nodes": [node("d", "dir", json!({"subtree": id}))]}).to_string() + "\n";
    }
    blobs.push((BlobKind::Tree, below.into_bytes()));
    let root = *place.write(&blobs).last().unwrap();
    let snapshot: Snapshot = serde_json::from_value(json!({
        "time": "2026-01-01T00:00:00Z", "tree": root.to_string(), "paths": ["/data"],
        "hostname": "here",
    }))
    .unwrap();
    place.runtime.block_on(place.repository.files().write_snapshot(&snapshot)).unwrap();
    match place.restore(root, false) {
        Ok(_) => {}
        Err(error) => assert!(!error.is_empty()),
    }
    let options = VerifyOptions { percent: 100, round: 0, threads: 2 };
    let verified =
        place.runtime.block_on(verify(&place.repository, &options, &Shutdown::default())).unwrap();
    assert_eq!((verified.damaged, verified.packs_read), (0, 1));
}

/// What tears at a parser: the ends of numbers, strings and nesting.
const PIECES: &[&str] = &[
    "\"",
    "\\",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "-1",
    "1e999",
    "0.5",
    "null",
    "true",
    "\u{0}",
    "18446744073709551615",
    "18446744073709551616",
    "4294967295",
    "2147483648",
    "/",
    "../",
    "..",
    "\"nodes\":",
    "\"subtree\":",
    "\"content\":",
    "\"offset\":",
    "\"length\":",
];

/// Some bytes changed, gone, doubled or put in.
fn mutated(seed: &mut Seed, valid: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=seed.below(4) {
        let at = seed.below(bytes.len() as u64 + 1) as usize;
        let end = (at + seed.below(40) as usize).min(bytes.len());
        match seed.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << seed.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes.truncate(at),
            _ => {
                let piece = seed.pick(PIECES).bytes();
                bytes.splice(at..end.min(at + 1), piece);
            }
        }
    }
    bytes
}

#[test]
fn whatever_trees_and_index_files_say_nothing_panics_and_nothing_is_written_elsewhere() {
    let mut seed = Seed::new(7);
    let place = Place::new();
    let (blob, other) = (place.file("four"), place.file("other"));
    let content = json!([blob.to_string(), other.to_string()]);
    let below = place.tree(&[node("x", "file", json!({"size": 9, "content": content}))]);
    let nodes = [
        node("a", "dir", json!({"subtree": below.to_string()})),
        node("b", "file", json!({"size": 9, "content": content, "links": 2, "inode": 7})),
        node("c", "file", json!({"size": 9, "content": content, "links": 2, "inode": 7})),
        node("d", "symlink", json!({"linktarget": "a/x"})),
        node("e", "fifo", json!({})),
        node(
            "f",
            "file",
            json!({"size": 4, "content": [blob.to_string()],
            "extended_attributes": [{"name": "user.a", "value": "AAEC"}]}),
        ),
    ];
    let tree = json!({"nodes": nodes}).to_string();
    let whole = place.tree(&nodes);
    assert_eq!(place.restore(whole, true), Ok(Vec::new()));
    let mut read = 0;
    for trial in 0..600 {
        let hostile = mutated(&mut seed, tree.as_bytes());
        let id = place.write(&[(BlobKind::Tree, hostile)])[0];
        let restored = place.restore(id, trial % 2 == 0);
        read += u32::from(restored.is_ok_and(|named| named.is_empty()));
    }
    assert!((5..595).contains(&read), "{read} of 600 trees were restored whole");

    let files = place.repository.files();
    let packs = [(
        Id::of(b"a pack"),
        vec![
            PackedBlob { kind: BlobKind::Data, id: blob, offset: 0, length: 40, raw_length: 4 },
            PackedBlob { kind: BlobKind::Tree, id: whole, offset: 40, length: 99, raw_length: 0 },
        ],
    )];
    let index = build_index_file(&packs);
    let mut read = 0;
    for trial in 0..400 {
        let hostile = mutated(&mut seed, &index);
        let id = place.runtime.block_on(files.write_index(&hostile)).unwrap();
        if place.runtime.block_on(files.load_index()).is_ok() {
            read += 1;
            drop(place.restore(whole, false));
        }
        if trial % 8 == 0 {
            let options = VerifyOptions { percent: 100, round: trial, threads: 2 };
            let shutdown = Shutdown::default();
            drop(place.runtime.block_on(verify(&place.repository, &options, &shutdown)));
        }
        place.runtime.block_on(files.delete_index_file(&format!("index/{id}"))).unwrap();
    }
    assert!((5..395).contains(&read), "{read} of 400 index files could be read");
    assert_eq!(place.restore(whole, true), Ok(Vec::new()));
}
