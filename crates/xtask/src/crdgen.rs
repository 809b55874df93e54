//! Writes the CRDs of `deploy/crds` and of the Helm chart from the Rust types of `crates/api`.

use anyhow::Result;

use crate::command::{cargo, run};
use crate::repository;

/// Runs the example that knows the types.
pub(crate) fn crdgen() -> Result<()> {
    let root = repository::root();
    for directory in ["deploy/crds", "charts/volsync/files/crds"] {
        run(cargo(&root)
            .args(["run", "--quiet", "--package", "volsync-xtask", "--example", "write_crds", "--"])
            .arg(root.join(directory)))?;
    }
    Ok(())
}
