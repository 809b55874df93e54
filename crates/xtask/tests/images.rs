//! The images: small, unprivileged, nothing in them but one program, and the same whoever builds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop there")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use volsync_testing::Scratch;

/// Each image may be this large, uncompressed.
const LIMIT: u64 = 40_000_000;

/// What `cargo xtask image --save` printed of one image.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    reference: String,
    digest: String,
}

/// Builds all images under a umask, each into a file of the directory.
fn build(umask: &str, directory: &Path) -> Vec<Built> {
    let output = Command::new("sh")
        .args(["-c", "umask \"$1\"; exec \"$2\" image --save \"$3\"", "sh", umask])
        .arg(env!("CARGO_BIN_EXE_volsync-xtask"))
        .arg(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let built = lines.lines().filter(|line| line.starts_with("localhost/")).map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        Built { reference: words.next().unwrap(), digest: words.next().unwrap() }
    });
    built.collect()
}

/// A file of an archive.
fn file(archive: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg(name).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The names in a layer.
fn names(layer: &Path) -> Vec<String> {
    let output = Command::new("tar").arg("-tf").arg(layer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn two_builds_are_one_image_with_one_small_program_in_it() {
    let scratch = Scratch::new();
    let first = build("022", &scratch.dir("first"));
    let second = build("077", &scratch.dir("second"));
    assert_eq!(first, second);
    assert!(first.iter().all(|built| built.digest.starts_with("sha256:")), "{first:?}");
    assert!(first.iter().any(|built| built.reference == "localhost/volsync-mover-rsync:dev"));

    let packages = std::env::var("HOME").unwrap() + "/.cargo";
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    for Built { reference, .. } in &first {
        let name = reference.trim_start_matches("localhost/volsync-").trim_end_matches(":dev");
        let archive = scratch.join(format!("first/{name}.tar"));
        let size = archive.metadata().unwrap().len();
        assert!(size < LIMIT, "{reference} has {size} bytes");

        let manifest: Value = serde_json::from_slice(&file(&archive, "manifest.json")).unwrap();
        let config = manifest[0]["Config"].as_str().unwrap();
        let config: Value = serde_json::from_slice(&file(&archive, config)).unwrap();
        let user = config["config"]["User"].as_str().unwrap();
        // Volumes that are backed up belong to root unless their user says otherwise.
        let wanted = if name == "mover-restic" { "0:0" } else { "65532:65532" };
        assert_eq!(user, wanted, "{reference}");
        for label in ["title", "source", "version", "revision", "licenses"] {
            let label = format!("org.opencontainers.image.{label}");
            assert!(config["config"]["Labels"][&label].is_string(), "{reference}: {label}");
        }

        let layers = manifest[0]["Layers"].as_array().unwrap();
        let mut contents = Vec::new();
        for layer in layers {
            let bytes = file(&archive, layer.as_str().unwrap());
            for path in [packages.as_str(), repository.to_str().unwrap()] {
                let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
                assert!(!found, "{reference} holds the path {path} of this machine");
            }
            let layer = scratch.join("layer.tar");
            std::fs::write(&layer, bytes).unwrap();
            contents.extend(names(&layer));
        }
        let program = if name == "controller" { "manager" } else { "volsync-mover" };
        assert_eq!(contents, [program], "{reference}");
    }
}
