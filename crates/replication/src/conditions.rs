//! The `Synchronizing` condition and its transitions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of the one condition we keep.
pub const SYNCHRONIZING: &str = "Synchronizing";

/// What the `Synchronizing` condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synchronizing {
    /// A sync is under way.
    SyncInProgress,
    /// Idle until the next slot.
    WaitingForSchedule,
    /// Idle until the tag changes.
    WaitingForManual,
    /// A sync is over and what it left is being removed.
    CleaningUp,
    /// Something is wrong.
    Error(String),
}

impl Synchronizing {
    /// The condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SyncInProgress => "SyncInProgress",
            Self::WaitingForSchedule => "WaitingForSchedule",
            Self::WaitingForManual => "WaitingForManual",
            Self::CleaningUp => "CleaningUp",
            Self::Error(_) => "Error",
        }
    }

    /// The condition's message.
    pub fn message(&self) -> &str {
        match self {
            Self::SyncInProgress => "Synchronization in-progress",
            Self::WaitingForSchedule => "Waiting for next scheduled synchronization",
            Self::WaitingForManual => "Waiting for manual trigger",
            Self::CleaningUp => "Cleaning up",
            Self::Error(message) => message,
        }
    }

    const fn status(&self) -> &'static str {
        match self {
            Self::SyncInProgress => "True",
            Self::WaitingForSchedule
            | Self::WaitingForManual
            | Self::CleaningUp
            | Self::Error(_) => "False",
        }
    }
}

/// The `Synchronizing` condition, if there is one.
pub fn find(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == SYNCHRONIZING)
}

/// Makes the `Synchronizing` condition say `says`. Its transition time changes with its status only,
/// as everywhere in Kubernetes. Other conditions stay.
pub fn set(conditions: &mut Vec<Condition>, says: &Synchronizing, now: Timestamp) {
    let now = crate::machine::to_the_second(now);
    // Kubernetes allows this many bytes in a message.
    let mut message = says.message().to_owned();
    if message.len() > 32_768 {
        let cut = (0..=32_768).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
    }
    match conditions.iter_mut().find(|condition| condition.type_ == SYNCHRONIZING) {
        Some(condition) => {
            if condition.status != says.status() {
                condition.status = says.status().to_owned();
                condition.last_transition_time = Time(now);
            }
            condition.reason = says.reason().to_owned();
            condition.message = message;
        }
        None => conditions.push(Condition {
            last_transition_time: Time(now),
            message,
            observed_generation: None,
            reason: says.reason().to_owned(),
            status: says.status().to_owned(),
            type_: SYNCHRONIZING.to_owned(),
        }),
    }
}

/// When the `Synchronizing` condition last changed its status.
pub fn transition_time(conditions: &[Condition]) -> Option<Timestamp> {
    find(conditions).map(|condition| condition.last_transition_time.0)
}

/// As [`set`], and the transition time is now whatever the condition said before.
pub(crate) fn turn(conditions: &mut Vec<Condition>, says: &Synchronizing, now: Timestamp) {
    conditions.retain(|condition| condition.type_ != SYNCHRONIZING);
    set(conditions, says, now);
}
