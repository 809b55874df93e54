//! What the pages about restic tell people to write and to type for a cluster, written and typed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use volsync_testing::scenario::{Cluster, Driver};
use volsync_testing::servers::{S3_KEYS, Server};
use volsync_testing::{Scratch, compare};

use super::typing::{TYPING, blocks, carry_out, remove};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> Result<String> {
    let path = root().join("docs/usage").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// An empty namespace `app`, in which the movers may run.
fn app() -> Result<Cluster> {
    let app = Cluster::named("app".to_owned())?;
    remove(&app)?;
    app.make(&json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "app", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}},
    }))?;
    Ok(app)
}

/// A manifest of a page; some fields of one alone belong into a replication of the kind that the page
/// is about.
fn whole(manifest: &str, kind: &str) -> String {
    let Some(fields) = manifest.strip_prefix("spec:\n  restic:\n") else {
        return manifest.to_owned();
    };
    let (source, destination) = match kind {
        "ReplicationSource" => ("  sourcePVC: photos\n", ""),
        _ => ("", "    destinationPVC: photos\n"),
    };
    format!(
        "apiVersion: volsync.backube/v1alpha1\nkind: {kind}\nmetadata:\n  name: some\nspec:\n{source}  \
         restic:\n{destination}    copyMethod: Direct\n    repository: photos-repository\n{fields}"
    )
}

/// The API server takes each manifest, and knows each of its fields.
fn every_manifest_is_taken() -> Result<()> {
    let app = app()?;
    for (name, kind) in [
        ("backup.md", "ReplicationSource"),
        ("repositories.md", "ReplicationSource"),
        ("restore.md", "ReplicationDestination"),
    ] {
        let text = page(name)?;
        let manifests = blocks(&text, "yaml");
        ensure!(!manifests.is_empty(), "{name} has no manifests");
        for manifest in manifests {
            let manifest = whole(manifest, kind);
            let apply = ["apply", "--dry-run=server", "--validate=strict", "--filename", "-"];
            app.run(&apply, Some(&manifest)).with_context(|| format!("{name}:\n{manifest}"))?;
        }
    }
    remove(&app)
}

fn back_up_and_restore() -> Result<()> {
    let mut app = app()?;
    let server = Server::rclone_s3(app.address()?);
    let (key, secret) = S3_KEYS;
    let location = format!("s3:http://{}/backups/photos", server.address());
    let here = |text: &str| {
        text.replace("s3:https://s3.example.org/backups/photos", &location)
            .replace("the-key", key)
            .replace("the-secret", secret)
    };
    let apply = |app: &Cluster, manifest: &str| {
        app.run(&["apply", "--filename", "-"], Some(&here(manifest)))
    };
    for (volume, files) in
        [("photos", json!({"summer/a": "hello\n", "b": "there\n"})), ("restored", json!({}))]
    {
        app.tree(&serde_json::from_value(json!({"volume": volume, "files": files}))?)?;
    }

    let backup = page("backup.md")?;
    let [describes, backs_up, ..] = blocks(&backup, "yaml")[..] else {
        anyhow::bail!("backup.md does not begin with a Secret and a ReplicationSource")
    };
    apply(&app, describes)?;
    apply(&app, backs_up)?;
    let [waits, _on_one_machine, locks, looks] = blocks(&backup, "sh")[..] else {
        anyhow::bail!("backup.md has other blocks of commands than four")
    };
    carry_out(&app, &root(), waits)?;

    let restore = page("restore.md")?;
    let restores = *blocks(&restore, "yaml").first().context("restore.md has no manifest")?;
    apply(&app, restores)?;
    let [waits, _on_one_machine, by_restic] = blocks(&restore, "sh")[..] else {
        anyhow::bail!("restore.md has other blocks of commands than three")
    };
    carry_out(&app, &root(), waits)?;
    let (volume, restored) = (app.volume("photos")?, app.volume("restored")?);
    let mut differences = compare::differences(&volume, &restored);
    // No backup holds what the root itself is.
    differences.retain(|difference| !difference.starts_with(": "));
    ensure!(differences.is_empty(), "what was restored differs: {differences:?}");

    // The rest is typed where a user has restic and the keys.
    let id = app.object("ReplicationDestination/restored")?;
    let id = id["status"]["restic"]["restoredSnapshot"].as_str().context("nothing is restored")?;
    let scratch = Scratch::new();
    let target = scratch.dir("restored");
    let keys = format!(
        "export RESTIC_REPOSITORY='{location}' RESTIC_PASSWORD='choose one and keep it elsewhere too'\n\
         export AWS_ACCESS_KEY_ID='{key}' AWS_SECRET_ACCESS_KEY='{secret}'\n\
         export RESTIC_CACHE_DIR='{}'\n",
        scratch.dir("cache").display()
    );
    for block in [locks, looks, by_restic] {
        let block = here(block)
            .replace("/srv/restored", &target.display().to_string())
            .replace("6bb5edff", id);
        carry_out(&app, &root(), &format!("{keys}{block}"))?;
    }
    ensure!(fs::read_to_string(target.join("summer/a"))? == "hello\n");
    remove(&app)
}

#[test]
fn the_pages_about_restic_can_be_written_and_typed_as_they_stand() {
    let _alone = TYPING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = every_manifest_is_taken().and_then(|()| back_up_and_restore()) {
        panic!("{error:#}");
    }
}
