//! Where the repository, its build directory and the user's cache are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::args;
use crate::command::{cargo, output, run};

/// The root of the repository this was built in.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// `cargo metadata` of the workspace, without its dependencies' own.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let json = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_str(&json).context("cannot read what cargo metadata printed")
}

/// Builds `volsync` and the mover of one method, optimised, and returns the directory they are in.
pub(crate) fn build_release(method: &str) -> Result<PathBuf> {
    let root = root();
    let mover = format!("volsync-mover-{method}");
    run(cargo(&root).args(["build", "--release", "-p", "volsync-local", "-p", &mover]))?;
    let metadata = metadata(&root)?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("release"))
}

/// Where things are kept between runs: `$XDG_CACHE_HOME/volsync` or `~/.cache/volsync`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = args::variable("XDG_CACHE_HOME")
        .or_else(|| args::variable("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let dir = base.join("volsync");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}
