//! What a shell (the controller, or `volsync` on one machine) tells a mover, and what a mover answers.
//!
//! ```text
//!   shell --Task: environment and paths-->            mover
//!   shell <--Event: JSON lines on standard output---- mover   (while it runs; optional)
//!   shell <--Report: JSON file, ExitStatus----------- mover   (when it ends)
//! ```
//!
//! Logs go to standard error and are never parsed.

pub mod env;
mod event;
mod exit;
pub mod paths;
mod report;
pub mod repository;
mod task;

pub use event::{Event, Phase, Progress};
pub use exit::{ExitStatus, Retry};
pub use report::{
    Counts, MAX_REPORT_BYTES, NotKept, Outcome, Report, ResticReport, RestoreOutcome, Skipped,
    SkippedItem, VerifyReport,
};
pub use task::{
    DEFAULT_HOST, Direction, Method, ResticDestination, ResticSource, RsyncDestination,
    RsyncSource, Task, TaskError, Verify,
};
