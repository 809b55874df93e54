//! `Error`: what went wrong with which object of which store, and whether trying again helps.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// What somebody wanted of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Prepare to use it.
    Open,
    /// Make the bucket or directory.
    Create,
    /// Read an object.
    Get,
    /// Write an object.
    Put,
    /// Ask for an object's length.
    Head,
    /// List objects.
    List,
    /// Delete an object.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Get => "read",
            Self::Put => "write",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The bucket is there, and this object is not in it.
    NotFound,
    /// The bucket, container or directory itself is not there.
    NoBucket,
    /// The store answered and refused: wrong credentials, or no permission.
    Forbidden,
    /// No whole answer came: no such host, refused, reset, timed out, cut short.
    Unreachable,
    /// Something answered whose certificate is not trusted.
    Untrusted,
    /// The store asks for fewer requests.
    Throttled,
    /// The store failed in itself (status 5xx, an I/O error of a disk).
    Failing,
    /// There is no room, or a quota is used up.
    Full,
    /// The object ends before the range that was asked for does.
    OutOfRange,
    /// The request, the key or a setting makes no sense to this store.
    Invalid,
    /// Content that was to be written could not be read.
    Content,
    /// This release does not speak to such stores.
    Unsupported,
}

impl Kind {
    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn is_temporary(self) -> bool {
        match self {
            Self::Unreachable | Self::Throttled | Self::Failing => true,
            Self::NotFound
            | Self::NoBucket
            | Self::Forbidden
            | Self::Untrusted
            | Self::Full
            | Self::OutOfRange
            | Self::Invalid
            | Self::Content
            | Self::Unsupported => false,
        }
    }

    /// Whether the store itself has spoken.
    pub(crate) const fn is_answer(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::NoBucket | Self::Forbidden | Self::Full | Self::OutOfRange
        )
    }

    /// What helps, for people; empty where the error's own words say it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoBucket => "is the name of the bucket or directory right, and does it exist?",
            Self::Forbidden => "are the credentials right, and may they read, write and delete?",
            Self::Unreachable => "is the address right, and can it be reached from here?",
            Self::Untrusted => "give the certificate of its authority as the custom CA",
            Self::Full => "free some room, or raise the quota",
            Self::NotFound
            | Self::Throttled
            | Self::Failing
            | Self::OutOfRange
            | Self::Invalid
            | Self::Content
            | Self::Unsupported => "",
        }
    }

    /// What a status of HTTP says where the body says nothing more.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Forbidden,
            404 => Self::NotFound,
            408 => Self::Unreachable,
            413 | 507 => Self::Full,
            416 => Self::OutOfRange,
            429 => Self::Throttled,
            // S3 answers 200 before it knows whether a long operation succeeds.
            200..=299 | 500..=599 => Self::Failing,
            _ => Self::Invalid,
        }
    }

    /// What an error of a local disk says.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Forbidden,
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::TimedOut => Self::Unreachable,
            io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput => Self::Invalid,
            _ => Self::Failing,
        }
    }
}

/// What went wrong with which object of which store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {}{location}: {reason}", object(key))]
pub struct Error {
    kind: Kind,
    operation: Operation,
    location: String,
    key: String,
    reason: String,
}

fn object(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key} in ") }
}

impl Error {
    /// An error about `key` (empty: the store as a whole). `reason` is the cause in words, without
    /// credentials.
    pub fn new(
        kind: Kind,
        operation: Operation,
        location: impl Into<String>,
        key: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { kind, operation, location: location.into(), key: key.into(), reason: reason.into() }
    }

    /// What kind of trouble it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What was wanted.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The store, as the user wrote it, without credentials.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The object, or empty if it is about the store as a whole.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The cause, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn is_temporary(&self) -> bool {
        self.kind.is_temporary()
    }

    /// What helps, for people; empty where the message says it.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            // A directory knows no credentials.
            Kind::Forbidden if self.location.starts_with('/') => {
                "may the user that the mover runs as read and write there?"
            }
            // Nor SSH certificates.
            Kind::Untrusted if self.location.starts_with("sftp:") => {
                "if it is the right server, add its key to SFTP_KNOWN_HOSTS"
            }
            kind => kind.hint(),
        }
    }

    /// The same error with its reason rewritten.
    #[must_use]
    pub(crate) fn map_reason(mut self, rewrite: impl FnOnce(&str) -> String) -> Self {
        self.reason = rewrite(&self.reason);
        self
    }
}

/// An error and what caused it, in one line. Libraries hide the cause ("error sending request")
/// behind `source`, and some repeat it in their own words.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !text.is_empty() && !words.contains(&text) {
            if !words.is_empty() {
                words.push_str(": ");
            }
            words.push_str(&text);
        }
        next = cause.source();
    }
    words
}

/// What broke a connection. Libraries wrap what rustls says in types of their own, so its words are
/// looked for.
pub(crate) fn kind_of_connection(error: &(dyn StdError + 'static)) -> Kind {
    if chain(error).contains("invalid peer certificate") {
        Kind::Untrusted
    } else {
        Kind::Unreachable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_object_the_store_and_the_cause() {
        let error = Error::new(
            Kind::Forbidden,
            Operation::Get,
            "s3:https://host/bucket",
            "keys/ab",
            "AccessDenied",
        );
        assert_eq!(
            error.to_string(),
            "cannot read keys/ab in s3:https://host/bucket: AccessDenied"
        );
        let whole =
            Error::new(Kind::NoBucket, Operation::List, "/mnt/repo", "", "no such directory");
        assert_eq!(whole.to_string(), "cannot list /mnt/repo: no such directory");
    }

    #[test]
    fn a_directory_is_not_asked_for_credentials() {
        let refused = |location: &str| {
            Error::new(Kind::Forbidden, Operation::Put, location, "config", "permission denied")
        };
        assert!(refused("/mnt/repo").hint().starts_with("may the user"));
        assert!(refused("s3:https://host/bucket").hint().starts_with("are the credentials"));
    }

    #[test]
    fn only_silence_and_trouble_of_the_store_are_temporary() {
        for kind in [Kind::Unreachable, Kind::Throttled, Kind::Failing] {
            assert!(kind.is_temporary(), "{kind:?}");
        }
        for kind in [Kind::NotFound, Kind::NoBucket, Kind::Forbidden, Kind::Full, Kind::Untrusted] {
            assert!(!kind.is_temporary(), "{kind:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_no_silence() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(kind_of_connection(&io::Error::other(tls)), Kind::Untrusted);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(kind_of_connection(&reset), Kind::Unreachable);
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let inner = io::Error::other("connection reset");
        let outer = io::Error::other(inner);
        assert_eq!(chain(&outer), "connection reset");
    }
}
