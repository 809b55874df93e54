//! `Live`: one replication as it stands, with its mover.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use volsync_contract::Report;
use volsync_replication::{ImageReference, Run, Status};

use crate::dereference::{End, Resolved};
use crate::state_directory::StateDirectory;
use crate::supervise::{Ending, Mover};

/// One replication as it stands.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) resolved: Resolved,
    /// As last stepped; recorded unless it is equal to what is on disk.
    pub(crate) status: Status,
    /// What was recorded last.
    pub(crate) recorded: Option<serde_json::Value>,
    pub(crate) mover: Slot,
    /// Failed attempts of the sync under way.
    pub(crate) attempts: u32,
    /// Where its mover listens.
    pub(crate) listening: Option<SocketAddr>,
    /// The image made for the sync under way.
    pub(crate) image: Option<ImageReference>,
    /// Why it cannot be carried out now, when that came up while acting.
    pub(crate) blocked: Option<String>,
    /// When to step again.
    pub(crate) look_again: Option<Timestamp>,
    /// What `sync` waits for: how its one sync ended.
    pub(crate) finished: Option<Finished>,
    /// The report of its success, until both ends have succeeded.
    pub(crate) success: Option<Report>,
    /// Until when `sync` waits for it, once its other end is done.
    pub(crate) until: Option<Timestamp>,
}

/// The mover of a replication.
#[derive(Debug)]
pub(crate) enum Slot {
    Empty,
    Running { mover: Mover, run: Run, stopping: bool },
    Ended { run: Run, ending: Ending, ended: Timestamp },
}

/// How the one sync of a replication ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    Ended(volsync_contract::ExitStatus),
    /// Through no fault of its own, such as a peer that failed.
    WithPeer,
    Paused,
}

impl Live {
    pub(crate) const fn new(resolved: Resolved, status: Status) -> Self {
        Self {
            resolved,
            status,
            recorded: None,
            mover: Slot::Empty,
            attempts: 0,
            listening: None,
            image: None,
            blocked: None,
            look_again: None,
            finished: None,
            success: None,
            until: None,
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.mover, Slot::Running { .. })
    }

    /// Asks its mover to stop.
    pub(crate) fn stop(&mut self) {
        if let Slot::Running { mover, stopping, .. } = &mut self.mover {
            *stopping = true;
            mover.stop();
        }
    }

    /// Ends its mover at once.
    pub(crate) fn kill(&self) {
        if let Slot::Running { mover, .. } = &self.mover {
            mover.kill();
        }
    }

    /// The directory of its mover.
    pub(crate) fn mover_directory(&self, state: &StateDirectory) -> PathBuf {
        state.mover(self.resolved.kind(), &self.resolved.name)
    }

    /// Where its mover keeps what it would otherwise fetch again.
    pub(crate) fn cache(&self, state: &StateDirectory) -> PathBuf {
        state.cache(self.resolved.kind(), &self.resolved.name)
    }

    /// Whether that goes after each sync.
    pub(crate) const fn removes_cache(&self) -> bool {
        matches!(&self.resolved.end, End::Repository(repository) if repository.cleanup_cache)
    }

    /// Where its point-in-time copy is while a sync runs.
    pub(crate) fn point_in_time(&self, state: &StateDirectory) -> PathBuf {
        let name = volsync_replication::names::point_in_time(&self.resolved.name.name);
        state.images(&self.resolved.name.namespace).join(name)
    }

    /// The images made for it, the one in use included.
    pub(crate) fn images(&self, state: &StateDirectory) -> Vec<PathBuf> {
        let prefix = format!("{}-", self.resolved.claim);
        let entries =
            std::fs::read_dir(state.images(&self.resolved.name.namespace)).into_iter().flatten();
        let ours = |name: &str| {
            name.strip_prefix(&prefix).is_some_and(|time| {
                time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        paths
            .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(ours))
            .collect()
    }
}
