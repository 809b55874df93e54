//! When to sync and what a sync is: validation, schedule, state machine.
//!
//! ```text
//!   manifest --validate--> Replication ─┐
//!   status   --Status::from_*---------─ ├─ step ─> Step { status, want, look_again, happenings }
//!   world    --the shell looks--> Observation
//!
//!                 due, nothing left over
//!   ┌─────────┐ ───────────────────────────> ┌───────────────┐ <─┐ a mover failed: another
//!   │ Initial │                              │ Synchronizing │ ──┘ attempt after a back-off
//!   └─────────┘ <─────────────────────────── └───────────────┘
//!        first scheduled sync incomplete       │           ^
//!                                    succeeded │           │ due, nothing left over
//!                         or scheduled sync    v           │
//!                               incomplete  ┌─────────────────┐
//!                                           │ CleaningUp/idle │
//!                                           └─────────────────┘
//! ```
//!
//! The state is read from two fields of the status and stored nowhere else ([`State::of`]).
//!
//! This crate is pure. It opens nothing, starts nothing, reads no environment and asks no clock:
//! [`step`] answers from its four arguments alone. The one thing taken from outside is the time
//! zone database, and only while a schedule with a `TZ=` prefix is parsed.
//!
//! # What the shells promise
//!
//! 1. Observe, `step`, **record the status, then** carry out what is wanted. When recording fails,
//!    nothing is carried out.
//! 2. Step again when the status changed, when something wanted has been carried out, when a mover
//!    ends, when the manifest changes, and at [`Step::look_again`].
//! 3. Keep [`Run`] with a mover when starting it, and hand it back with every observation of it.
//!
//! # A sync that is not a success
//!
//! A **failed** mover leaves the replication synchronizing. It gets another attempt after 10 s,
//! 20 s, 40 s and so on up to 10 min; after a failure that will not pass by itself, after 1 min,
//! 2 min and so on. A changed manifest is tried immediately. Meanwhile the condition says `Error`
//! with the reason and the time of the next attempt, and `latestMoverStatus` is `Failed`.
//!
//! An **incomplete** sync (some content could not be read or written) is not a success either:
//! `lastSyncTime` stays and no manual tag is echoed. Under a schedule the iteration ends with
//! `latestMoverStatus` `Failed` and the condition `Error`, and the next attempt is the next slot after
//! its end. Under a manual tag or without a trigger there is no later slot, so it is tried again
//! after the same back-off as a failure.

pub mod conditions;
mod go_duration;
mod happening;
mod machine;
mod maintenance;
mod method;
pub mod names;
mod observation;
mod problem;
mod reference;
mod replication;
mod restic_logs;
mod schedule;
mod state;
mod status;
mod sync_plan;
mod trigger;
mod validate;

pub use go_duration::GoDuration;
pub use happening::{EventKind, Happening};
pub use machine::{
    BACK_OFF_FIRST, BACK_OFF_FIRST_PERMANENT, BACK_OFF_LONGEST, BLOCKED_RECHECK, CONTINUOUS_FLOOR,
    RECHECK, Step, Want, is_out_of_sync, out_of_sync_from, step,
};
pub use maintenance::Maintenance;
pub use method::{
    CaBundle, External, Method, ObjectStore, Peer, Restic, Retain, Rsync, RsyncTls, Syncthing,
    VerifySchedule,
};
pub use observation::{ImageState, MoverState, Observation, Run};
pub use problem::Problem;
pub use reference::{Reference, ReferenceKind};
pub use replication::{Replication, Volume};
pub use schedule::{Schedule, ScheduleError};
pub use state::State;
pub use status::{ImageReference, MoverResult, MoverSummary, ResticStatus, Status, Verification};
pub use sync_plan::{CleanUpPlan, SyncPlan};
pub use trigger::Trigger;
pub use validate::{NO_METHOD, TWO_METHODS, validate_destination, validate_source};
