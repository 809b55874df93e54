//! The rsync mover: replicates a volume over SSH, sending only what differs.
//!
//! A source connects to a destination, both compare their trees as they go, and content travels
//! whole or as a delta. Both ends are this mover; the session between them is described in
//! [`native`]. Limits: one source at a time, file systems are not crossed, `security.selinux` labels
//! stay with their node.

pub mod destination;
pub mod error;
pub mod native;
pub mod source;
pub mod ssh;

pub use error::Error;

use volsync_contract::{Method, Report, Task};
use volsync_mover::Context;

/// Carries out a task.
pub async fn run(task: Task, context: Context) -> Result<Report, Error> {
    match &task.method {
        Method::RsyncSource(source) => source::run(&task, source, &context).await,
        Method::RsyncDestination(destination) => {
            destination::run(&task, destination, &context).await
        }
        Method::ResticSource(_) | Method::ResticDestination(_) => {
            Err(volsync_mover::Error::from(task.misdirected("rsync")).into())
        }
    }
}
