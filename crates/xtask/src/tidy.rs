//! Enforces the dependency rules, the names and the sizes that `docs/architecture.md` promises.

mod dependencies;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::repository;
use dependencies::Package;
use source::Source;

/// One breach of a rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    place: String,
    what: String,
}

impl Problem {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

/// Checks the whole repository and lists every breach.
pub(crate) fn tidy() -> Result<()> {
    let root = repository::root();
    let packages = Package::all(&repository::metadata(&root)?);
    if packages.is_empty() {
        bail!("cargo metadata lists no package");
    }
    let mut problems = dependencies::check(&packages);
    let files = files(&root)?;
    for file in &files {
        let text =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let path = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        problems
            .extend(source::check(&Source::new(path, String::from_utf8_lossy(&text).into_owned())));
    }
    problems.sort();
    for Problem { place, what } in &problems {
        println!("{place}: {what}");
    }
    match problems.len() {
        0 => println!("tidy: {} packages and {} files keep the rules", packages.len(), files.len()),
        1 => bail!("tidy: 1 breach of the rules in docs/architecture.md"),
        count => bail!("tidy: {count} breaches of the rules in docs/architecture.md"),
    }
    Ok(())
}

/// Every text file that people write, in order.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let entries =
            std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "testdata", "corpus", "artifacts"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if [".rs", ".toml", ".md", ".yaml", "justfile", "run"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
