//! What the documentation tells people to type: found in it, and typed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use volsync_testing::scenario::Cluster;

/// What it is about.
pub(super) const NAMESPACES: [&str; 2] = ["app", "mirror"];

/// What people type is about the same namespaces everywhere.
pub(super) static TYPING: Mutex<()> = Mutex::new(());

/// The blocks of one language in a text, in their order.
pub(super) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    text.split(&*begin).skip(1).filter_map(|rest| rest.split("```").next()).collect()
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
