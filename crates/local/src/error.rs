//! `Error`: what can stop a command before or beside the syncs themselves.

use std::fmt;
use std::io;
use std::path::PathBuf;

use volsync_contract::Retry;

/// What stopped a command. A sync that fails is not an error but a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Manifests that cannot be carried out.
    #[error("{0}")]
    Manifests(Problems),
    /// Nothing was given to replicate.
    #[error("no ReplicationSource or ReplicationDestination in {0}")]
    NothingToReplicate(String),
    /// `--only` names nothing that exists.
    #[error("--only {wanted}: the manifests have no such replication")]
    OnlyNothing { wanted: String, have: String },
    /// Another runner works with the same state directory.
    #[error("{directory}: another volsync (process {pid}) uses this state directory")]
    Locked { directory: PathBuf, pid: String },
    /// The mover's binary is not where it should be.
    #[error("{path}: the mover is not there")]
    NoMover { path: PathBuf },
    /// A directory below the state directory cannot be made.
    #[error("cannot make {path}: {}", crate::words::io_reason(source))]
    MakeDirectory { path: PathBuf, source: io::Error },
    /// A state file cannot be written.
    #[error("cannot write {path}: {}", crate::words::io_reason(source))]
    WriteFile { path: PathBuf, source: io::Error },
    /// A state file cannot be read.
    #[error("cannot read {path}: {}", crate::words::io_reason(source))]
    ReadFile { path: PathBuf, source: io::Error },
    /// A state file does not say what it should.
    #[error("cannot make sense of {path}: {why}")]
    ParseFile { path: PathBuf, why: String },
    /// A file of ours cannot be removed.
    #[error("cannot remove {path}: {}", crate::words::io_reason(source))]
    RemoveFile { path: PathBuf, source: io::Error },
    /// A point-in-time copy was not made.
    #[error("cannot copy {path}: {why}")]
    PointInTime { path: PathBuf, why: String },
    /// A mover process was not started.
    #[error("cannot start {path}: {}", crate::words::io_reason(source))]
    StartMover { path: PathBuf, source: io::Error },
    /// The operating system refused signals, threads or the like.
    #[error("cannot {action}: {}", crate::words::io_reason(source))]
    System { action: &'static str, source: io::Error },
    /// No key could be generated.
    #[error(transparent)]
    GenerateKey(#[from] volsync_keys::GenerateKeyError),
}

impl Error {
    /// Whether trying again can help.
    pub(crate) const fn retry(&self) -> Retry {
        match self {
            Self::Manifests(_)
            | Self::NothingToReplicate(_)
            | Self::OnlyNothing { .. }
            | Self::NoMover { .. }
            | Self::ParseFile { .. } => Retry::Permanent,
            Self::Locked { .. }
            | Self::MakeDirectory { .. }
            | Self::WriteFile { .. }
            | Self::ReadFile { .. }
            | Self::RemoveFile { .. }
            | Self::PointInTime { .. }
            | Self::StartMover { .. }
            | Self::System { .. }
            | Self::GenerateKey(_) => Retry::Transient,
        }
    }

    /// What helps, when that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::OnlyNothing { have, .. } => Some(format!("they have {have}")),
            Self::Locked { .. } => Some("stop it, or give this one its own --state-dir".to_owned()),
            Self::NoMover { .. } => Some(
                "install it beside volsync, or name its directory in VOLSYNC_MOVER_DIR".to_owned(),
            ),
            Self::ParseFile { path, .. } => {
                Some(format!("remove {} to start that replication afresh", path.display()))
            }
            Self::Manifests(_)
            | Self::NothingToReplicate(_)
            | Self::MakeDirectory { .. }
            | Self::WriteFile { .. }
            | Self::ReadFile { .. }
            | Self::RemoveFile { .. }
            | Self::PointInTime { .. }
            | Self::StartMover { .. }
            | Self::System { .. }
            | Self::GenerateKey(_) => None,
        }
    }
}

/// Where in the manifests something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// The file, as the user named it.
    pub(crate) file: PathBuf,
    /// The document in that file, from 1; `None` for the file as a whole.
    pub(crate) document: Option<usize>,
}

/// Everything wrong with a set of manifests, in the order of the files.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(Origin, String, String)>);

impl Problems {
    /// Adds one: where, the field (or nothing), and what is wrong.
    pub(crate) fn add(
        &mut self,
        origin: &Origin,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.0.push((origin.clone(), path.into(), message.into()));
    }

    /// Whether a field already has a problem.
    pub(crate) fn has(&self, origin: &Origin, path: &str) -> bool {
        self.0.iter().any(|(at, field, _)| at == origin && field == path)
    }

    /// `value`, or the problems if there are any.
    pub(crate) fn or<T>(mut self, value: T) -> Result<T, Error> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort();
        self.0.dedup();
        Err(Error::Manifests(self))
    }

    /// As JSON: `file`, `document`, `path`, `message`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(origin, path, message)| {
                serde_json::json!({
                    "file": origin.file.display().to_string(),
                    "document": origin.document,
                    "path": path,
                    "message": message,
                })
            })
            .collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut first = true;
        while let Some((origin, ..)) = rest.first() {
            let count = rest.iter().take_while(|(other, ..)| other.file == origin.file).count();
            let (here, later) = rest.split_at(count);
            rest = later;
            if !first {
                writeln!(f)?;
            }
            first = false;
            let noun = if count == 1 { "problem" } else { "problems" };
            write!(f, "{}: {count} {noun}", origin.file.display())?;
            for (at, path, message) in here {
                write!(f, "\n  ")?;
                if let Some(document) = at.document {
                    write!(f, "document {document}")?;
                    write!(f, "{}", if path.is_empty() { ": " } else { ", " })?;
                }
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
                write!(f, "{message}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_grouped_by_file_and_name_document_and_path() {
        let at = |file: &str, document| Origin { file: file.into(), document };
        let mut problems = Problems::default();
        problems.add(&at("b.yaml", None), "", "is empty");
        problems.add(&at("a.yaml", Some(2)), "spec.rsync.copyMethd", "no such field");
        problems.add(&at("a.yaml", Some(1)), "", "has no kind");
        let Error::Manifests(problems) = problems.or(()).unwrap_err() else {
            panic!("wrong error")
        };
        assert_eq!(
            problems.to_string(),
            "a.yaml: 2 problems\n  document 1: has no kind\n  document 2, spec.rsync.copyMethd: no such field\n\
             b.yaml: 1 problem\n  is empty"
        );
    }
}
