//! What the README tells people to type for a cluster, typed.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};
use volsync_testing::compare;
use volsync_testing::scenario::{Cluster, Driver, Expect, Files};

use super::typing::{NAMESPACES, TYPING, blocks, carry_out, remove};

/// What one section of the README tells people to type, block by block.
fn commands<'a>(readme: &'a str, section: &str) -> Result<Vec<&'a str>> {
    let title = format!("\n## {section}\n");
    let (_, rest) = readme.split_once(&title).with_context(|| format!("there is no{title}"))?;
    let text = rest.split("\n## ").next().unwrap_or_default();
    Ok(blocks(text, "sh"))
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
