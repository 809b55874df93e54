//! The volume-options library: how a volume is copied, mounted and walked over.
//!
//! A volume is a claim: a name for storage that exists already, or that is provisioned when it is
//! first needed. A **source** reads its claim as it is (`Direct`) or through a point-in-time copy
//! (`Clone`, `Snapshot`). A **destination** writes its claim and may have a snapshot made of it after
//! each sync. A mover sees none of this: it is given a [`MountedVolume`].
//!
//! ```text
//!   what the user wrote ──> VolumeOptions ─┐
//!   what exists ──────────> ClaimFacts ────┴─ plan_source / plan_destination ──> VolumePlan
//! ```
//!
//! Pure: nothing here opens a file, asks the time or talks to anybody.

mod access;
mod cache;
mod capacity;
mod copy_method;
pub mod copy_trigger;
mod error;
pub mod ignore;
mod mount;
mod options;
mod plan;

pub use access::{AccessMode, VolumeMode, is_read_only};
pub use cache::{CacheOptions, plan_cache};
pub use capacity::Quantity;
pub use copy_method::CopyMethod;
pub use error::Error;
pub use mount::{Content, MountedVolume};
pub use options::VolumeOptions;
pub use plan::{ClaimFacts, NewVolume, Origin, VolumePlan, plan_destination, plan_source};
