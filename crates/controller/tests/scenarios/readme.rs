//! What the README tells people to type for a cluster, typed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use volsync_testing::compare;
use volsync_testing::scenario::{Cluster, Driver, Expect, Files};

const NAMESPACES: [&str; 2] = ["app", "mirror"];

/// What people type is about the same namespaces everywhere.
pub(super) static TYPING: Mutex<()> = Mutex::new(());

/// The blocks of one language in a text, in their order.
pub(super) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    text.split(&*begin).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// What one section of the README tells people to type, block by block.
fn commands<'a>(readme: &'a str, section: &str) -> Result<Vec<&'a str>> {
    let title = format!("\n## {section}\n");
    let (_, rest) = readme.split_once(&title).with_context(|| format!("there is no{title}"))?;
    let text = rest.split("\n## ").next().unwrap_or_default();
    Ok(blocks(text, "sh"))
}

/// Removes both namespaces, and returns once nothing of them is left in the cluster.
pub(super) fn remove(cluster: &Cluster) -> Result<()> {
    let [app, mirror] = NAMESPACES;
    // The provisioner that could not take its finalizer off a snapshot, as somebody else wrote to it, looks
    // again only every few minutes.
    cluster
        .run(&["delete", "namespace", app, mirror, "--ignore-not-found", "--timeout=330s"], None)?;
    // They belong to no namespace, but say for a claim or a snapshot of which they were made.
    let made_for = [
        ("pv", "/spec/claimRef/namespace"),
        ("volumesnapshotcontent", "/spec/volumeSnapshotRef/namespace"),
    ];
    cluster.until(60, |cluster| {
        for (kind, field) in made_for {
            for object in cluster.objects(kind)? {
                let of = object.pointer(field).and_then(Value::as_str).unwrap_or_default();
                if NAMESPACES.contains(&of) {
                    let name = &object["metadata"]["name"];
                    return Ok(Some(format!("{kind} {name} of namespace {of} is left")));
                }
            }
        }
        Ok(None)
    })
}

/// Carries a block out as it stands, with the test cluster's `kubectl` in front of any other.
pub(super) fn carry_out(cluster: &Cluster, root: &Path, block: &str) -> Result<()> {
    let kubectl = cluster.command(&[]);
    let bin = Path::new(kubectl.get_program()).parent().context("kubectl lies in a directory")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [bin.to_owned()].into_iter().chain(std::env::split_paths(&path));
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", block])
        .current_dir(root)
        .env("PATH", std::env::join_paths(path)?)
        .env("KUBECONFIG", cluster.config())
        .stdin(Stdio::null())
        .output()
        .context("cannot start bash")?;
    ensure!(
        done.status.success(),
        "bash: {}\n{}{}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
        cluster.all_there_is()
    );
    Ok(())
}

/// The copy methods that the manifests ask for are those that were used.
fn both_sides_made_snapshots(app: &Cluster, mirror: &Cluster) -> Result<()> {
    let source = app.object("ReplicationSource/data")?;
    let destination = mirror.object("ReplicationDestination/data")?;
    for object in [&source, &destination] {
        ensure!(
            object["spec"]["rsync"]["copyMethod"] == "Snapshot",
            "it is not asked for: {object}"
        );
    }
    let events = app.objects("Event")?;
    let made = events.iter().any(|event| {
        event["reason"] == "VolumeSnapshotCreated" && event["involvedObject"]["name"] == "data"
    });
    ensure!(made, "the source made no snapshot\n{}", app.all_there_is());
    let image = &destination["status"]["latestImage"];
    ensure!(image["kind"] == "VolumeSnapshot", "the destination has {image} as its image");
    Ok(())
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md"))?;
    let blocks = commands(&readme, "In Kubernetes")?;
    // The first installs the operator, which is installed here.
    let [install, block] = blocks[..] else {
        anyhow::bail!("the section has {} blocks of commands, not 2", blocks.len())
    };
    ensure!(install.contains("helm install"), "the first block does not install: {install}");

    let [app, mirror] = NAMESPACES;
    let app = Cluster::named(app.to_owned())?;
    let mut mirror = Cluster::named(mirror.to_owned())?;
    remove(&app)?;
    carry_out(&app, &root, block)?;
    mirror.expect(&Expect::Files(Files {
        volume: "restored".to_owned(),
        present: [("greeting".to_owned(), "hello\n".to_owned())].into(),
        absent: Vec::new(),
    }))?;
    let differences = compare::differences(&app.volume("data")?, &mirror.volume("restored")?);
    ensure!(differences.is_empty(), "what was restored is not what there is: {differences:?}");
    both_sides_made_snapshots(&app, &mirror)?;
    remove(&app)
}

#[test]
fn what_the_readme_says_of_kubernetes_can_be_typed_as_it_stands() {
    let _alone = TYPING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = run() {
        panic!("{error:#}");
    }
}
