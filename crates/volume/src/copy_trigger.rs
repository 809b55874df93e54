//! The handshake by which a user says "now" to a point-in-time copy.
//!
//! A claim with [`USE`] is not copied until its [`TRIGGER`] annotation differs from the one that
//! released the last copy, so that an application can be brought to rest before.
//!
//! ```text
//!   WaitingForTrigger --the trigger changes--> InProgress --the copy is ready--> Completed
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

/// Present on a claim, with any value, when the user wants the handshake.
pub const USE: &str = "volsync.backube/use-copy-trigger";
/// The user's tag that releases the copy.
pub const TRIGGER: &str = "volsync.backube/copy-trigger";
/// Where the handshake stands.
pub const STATUS: &str = "volsync.backube/latest-copy-status";
/// The last tag that released a copy.
pub const LATEST: &str = "volsync.backube/latest-copy-trigger";
/// Since when the copy waits; present only while it does.
pub const WAITING_SINCE: &str = "volsync.backube/latest-copy-trigger-waiting-since";
/// After so long a wait the user is told.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The status of a copy that waits.
pub const WAITING: &str = "WaitingForTrigger";
/// The status of a copy being made.
pub const IN_PROGRESS: &str = "InProgress";
/// The status of a copy that is ready.
pub const COMPLETED: &str = "Completed";

/// What a claim's annotations say about the next copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// The user does not want it.
    Unused,
    /// The copy waits for a new tag.
    Waiting {
        /// Whether the annotations have to be set to say so.
        announce: bool,
    },
    /// The copy may be made.
    Released {
        /// The tag that releases it. Keep it until the copy is ready: a tag set in between is for
        /// the next copy.
        tag: String,
    },
}

/// What a claim's annotations say about the next copy, before it is made.
pub fn read(annotations: &BTreeMap<String, String>) -> Handshake {
    if !annotations.contains_key(USE) {
        return Handshake::Unused;
    }
    let tag = annotations.get(TRIGGER).filter(|tag| !tag.is_empty());
    match tag {
        Some(tag) if annotations.get(LATEST) != Some(tag) => {
            Handshake::Released { tag: tag.clone() }
        }
        Some(_) | None => Handshake::Waiting {
            announce: annotations.get(STATUS).map(String::as_str) != Some(WAITING)
                || !annotations.contains_key(WAITING_SINCE),
        },
    }
}

/// The tag that released the copy being made, as far as the annotations know it. Only for copies that
/// were begun by others, who keep it nowhere else: it may have changed since.
pub fn in_progress(annotations: &BTreeMap<String, String>) -> Option<&String> {
    let in_progress = annotations.contains_key(USE)
        && annotations.get(STATUS).is_some_and(|status| status == IN_PROGRESS);
    annotations.get(TRIGGER).filter(|tag| in_progress && !tag.is_empty())
}

/// Says that the copy waits since `now`, an RFC 3339 time.
pub fn wait(annotations: &mut BTreeMap<String, String>, now: String) {
    annotations.insert(STATUS.to_owned(), WAITING.to_owned());
    annotations.insert(WAITING_SINCE.to_owned(), now);
}

/// Says that the copy is being made.
pub fn proceed(annotations: &mut BTreeMap<String, String>) {
    annotations.insert(STATUS.to_owned(), IN_PROGRESS.to_owned());
    annotations.remove(WAITING_SINCE);
}

/// Says that the copy released by `tag` is ready.
pub fn complete(annotations: &mut BTreeMap<String, String>, tag: &str) {
    annotations.insert(STATUS.to_owned(), COMPLETED.to_owned());
    annotations.insert(LATEST.to_owned(), tag.to_owned());
    annotations.remove(WAITING_SINCE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_waits_until_its_tag_changes() {
        let mut annotations = BTreeMap::new();
        assert_eq!(read(&annotations), Handshake::Unused);
        annotations.insert(USE.to_owned(), String::new());
        assert_eq!(read(&annotations), Handshake::Waiting { announce: true });
        wait(&mut annotations, "2024-01-01T00:00:00Z".to_owned());
        assert_eq!(read(&annotations), Handshake::Waiting { announce: false });
        annotations.insert(TRIGGER.to_owned(), "one".to_owned());
        assert_eq!(read(&annotations), Handshake::Released { tag: "one".into() });
        proceed(&mut annotations);
        assert!(!annotations.contains_key(WAITING_SINCE));
        assert_eq!(in_progress(&annotations).map(String::as_str), Some("one"));
        // A tag set while the copy is made releases the next one.
        annotations.insert(TRIGGER.to_owned(), "two".to_owned());
        complete(&mut annotations, "one");
        assert_eq!(read(&annotations), Handshake::Released { tag: "two".into() });
        assert_eq!(in_progress(&annotations), None);
        complete(&mut annotations, "two");
        assert_eq!(read(&annotations), Handshake::Waiting { announce: true });
    }
}
