//! Writes the CRDs of `crates/api` into the directory it is given; `cargo xtask crdgen` calls it.
//!
//! An example and not a part of xtask, so that setting up a machine does not wait for the
//! Kubernetes types to compile.
#![allow(clippy::print_stdout, reason = "a developer tool answers on standard output")]

use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let dir: PathBuf = std::env::args_os().nth(1).context("expected a directory")?.into();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, content) in volsync_api::crd_yaml() {
        let path = dir.join(name);
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
