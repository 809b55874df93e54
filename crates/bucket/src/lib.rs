//! One configured object store, however the user wrote it down.
//!
//! ```text
//!   "s3:https://host/bucket/path" --Location::parse--> Location ─┐
//!   AWS_ACCESS_KEY_ID, … --Settings::new--> Settings ────────────┴─ open --> Arc<dyn Store>
//! ```
//!
//! A [`Store`] is eight calls on exact keys. Which service answers, how often a call is tried again
//! and which certificate is trusted is decided once, by [`open`]. What went wrong is a [`Kind`]:
//! an object that is not there, a bucket that is not there, a refusal and a silence are four
//! different things and never stand for one another.
//!
//! Absent by design: configuration read from the environment, a credential in a message, metadata
//! that only one service has.

mod cloud;
mod directory;
mod error;
mod http;
mod key;
mod limited;
mod location;
mod memory;
mod open;
mod parts;
mod rclone;
mod recording;
mod rest;
mod retry;
mod s3;
mod settings;
mod sftp;
mod store;
mod swift;
mod trusted;
mod whole_range;

pub use directory::Directory;
pub use error::{Error, Kind, Operation};
pub use limited::Limited;
pub use location::{Credentials, Location, LocationError};
pub use memory::Memory;
pub use open::{open, open_with};
pub use recording::{Call, Recording};
pub use retry::Patience;
pub use settings::Settings;
pub use store::{Entry, Listing, Store};
