//! The harness every mover runs in: a held volume, metadata, monitor, events, report, shutdown.
//!
//! ```text
//!   harness::run --Task--> the mover --> Root, Dir (volume)   Monitor (counts, failures)
//!        ^                                                        |
//!        +------------------ Report, exit code <-----------------+
//! ```
//!
//! Absent by design: a path that is not resolved below a held directory, an error that is logged
//! and forgotten, a mover that knows what a cluster is.

mod apply;
pub mod atomic_file;
mod dir;
mod environment;
mod error;
mod events;
pub mod harness;
mod metadata;
mod monitor;
mod path;
mod retry;
mod root;
mod shutdown;
mod xattrs;

pub use apply::{Attribute, Privileges, apply_at, apply_to_dir, apply_to_file};
pub use dir::Dir;
pub use environment::Environment;
pub use error::{Classified, Error, io_reason};
pub use events::Events;
pub use harness::{Context, run};
pub use metadata::{
    AttributesWanted, DataRanges, Differences, Kind, Metadata, Time, Xattr, data_ranges,
    differences, file_metadata, file_metadata_and_xattrs, file_xattrs,
};
pub use monitor::Monitor;
pub use path::{PathError, RelPath, check_name};
pub use retry::Backoff;
pub use root::Root;
pub use shutdown::Shutdown;
pub use xattrs::replicates;
