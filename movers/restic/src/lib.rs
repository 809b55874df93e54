//! The restic mover: backups in restic's repository format, and restores of them.
//!
//! The repository is restic's own: it may be used by restic and by this mover at the same time, as
//! each honours the other's locks.

pub mod archive;
pub mod cache;
pub mod config;
pub mod destination;
pub mod error;
pub mod format;
pub mod key_file;
pub mod lock;
mod needed;
pub mod polynomial;
pub mod prune;
pub mod repository;
pub mod restore;
pub mod retain;
pub mod select;
pub mod source;
mod uploads;
pub mod verify;

pub use error::Error;

use volsync_contract::{Method, Report, Task};
use volsync_mover::Context;

/// Carries out a task.
pub async fn run(task: Task, context: Context) -> Result<Report, Error> {
    match &task.method {
        Method::ResticSource(source) => source::run(&task, source, &context).await,
        Method::ResticDestination(destination) => {
            destination::run(&task, destination, &context).await
        }
        Method::RsyncSource(_) | Method::RsyncDestination(_) => {
            Err(task.misdirected("restic").into())
        }
    }
}
