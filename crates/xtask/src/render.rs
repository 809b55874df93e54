//! Writes `deploy/install.yaml` from the Helm chart, for clusters that are managed without Helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::output;
use crate::{args, repository};

/// What Helm leaves to its user. Nothing but the operator is meant to run there.
const NAMESPACE: &str = "\
# Rendered from charts/volsync by `cargo xtask render`; do not edit.
---
apiVersion: v1
kind: Namespace
metadata:
  name: volsync-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

/// Writes the file.
pub(crate) fn render() -> Result<()> {
    let root = repository::root();
    let file = root.join("deploy/install.yaml");
    fs::write(&file, manifests(&root)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

/// Everything of an installation with the chart's own values.
fn manifests(root: &Path) -> Result<String> {
    Ok(format!("{NAMESPACE}{}", output(&mut template(root)?)?))
}

/// `helm template` of the chart.
fn template(root: &Path) -> Result<Command> {
    let mut helm = Command::new(helm()?);
    helm.args(["template", "volsync", "--namespace", "volsync-system"]);
    helm.arg(root.join("charts/volsync"));
    Ok(helm)
}

/// The helm that was built for the cluster, whose version is pinned; else that of this machine.
fn helm() -> Result<PathBuf> {
    let built = repository::cache()?.join("cluster/bin");
    std::iter::once(built)
        .chain(args::search_path())
        .map(|directory| directory.join("helm"))
        .find(|helm| helm.is_file())
        .context("helm is missing: install it, or build it with `test-e2e/cluster/build.sh helm`")
}

#[cfg(test)]
mod tests;
