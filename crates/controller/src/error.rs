//! `Error`: why a reconciliation broke off, and `Stop`: why a sync does not go on.

use std::fmt;

use kube::core::response::Status;

/// Why a reconciliation broke off. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server did not do what was asked.
    #[error("cannot {action}: {}", words(source))]
    Api {
        /// What was asked, such as `create Job photos/volsync-rsync-src-photos`.
        action: String,
        #[source]
        source: kube::Error,
    },
    /// What was read has changed since.
    #[error("{what} has changed meanwhile")]
    Changed { what: String },
    /// An object of a name that we need is somebody else's.
    #[error("{what} exists and was not made for this {owner}; rename or remove it")]
    Foreign {
        what: String,
        /// The kind of the replication.
        owner: String,
    },
    /// A key could not be generated.
    #[error(transparent)]
    GenerateKey(#[from] volsync_keys::GenerateKeyError),
    /// An object cannot be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// The API server's answer, if it gave one.
    pub(crate) fn answer(&self) -> Option<&Status> {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => Some(status),
            Self::Api { .. }
            | Self::Changed { .. }
            | Self::Foreign { .. }
            | Self::GenerateKey(_)
            | Self::Json { .. } => None,
        }
    }

    /// What was asked for, which is the same each time.
    pub(crate) fn action(&self) -> &str {
        match self {
            Self::Api { action: what, .. }
            | Self::Changed { what }
            | Self::Foreign { what, .. } => what,
            Self::GenerateKey(_) => "generate a key",
            Self::Json { what, .. } => what,
        }
    }

    /// Whether the operator lacks the right to do it.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.answer().is_some_and(|status| status.code == 403)
    }

    /// Whether the answer will be the same until somebody changes something: not permitted, over
    /// quota, refused by admission, not valid, not known, not ours.
    pub(crate) fn is_refusal(&self) -> bool {
        let answer = self.answer().is_some_and(|status| match status.code {
            400 | 403 | 404 | 405 | 422 => true,
            // An admission webhook that cannot be reached refuses everything until it can.
            500 => status.message.contains("webhook"),
            _ => false,
        });
        answer || matches!(self, Self::Foreign { .. })
    }
}

/// A kube error in the words of the server, without our types around it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        other => other.to_string(),
    }
}

/// Names what was asked of the API server.
pub(crate) trait Asked<T> {
    /// `action` is only made when it failed.
    fn asked(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Asked<T> for Result<T, kube::Error> {
    fn asked(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| match source {
            kube::Error::Api(status) if status.code == 409 => Error::Changed { what: action() },
            source => Error::Api { action: action(), source },
        })
    }
}

/// Why a sync does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something asked for is not there yet.
    Wait,
    /// Somebody has to change something, or something takes longer than it should.
    Blocked(Blocked),
    /// The API server refuses something, which blocks as well.
    Refused(Error),
    /// This pass broke off.
    Broken(Error),
}

/// Why a sync is blocked, for the condition and an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The reason of the event.
    pub(crate) reason: &'static str,
    /// What is wrong and what helps.
    pub(crate) message: String,
}

impl Stop {
    /// Blocked, without a reason of its own.
    pub(crate) fn blocked(message: impl fmt::Display) -> Self {
        Self::blocked_by("TransferBlocked", message)
    }

    /// Blocked, and the event has this reason.
    pub(crate) fn blocked_by(reason: &'static str, message: impl fmt::Display) -> Self {
        Self::Blocked(Blocked { reason, message: message.to_string() })
    }
}

impl From<Error> for Stop {
    /// What the API server refuses is told to the user.
    fn from(error: Error) -> Self {
        if error.is_refusal() { Self::Refused(error) } else { Self::Broken(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, message: &str) -> Error {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        let source = kube::Error::Api(Box::new(status));
        Error::Api { action: "create Job home/volsync-rsync-src-photos".to_owned(), source }
    }

    #[test]
    fn what_the_api_server_refuses_is_told_in_its_words() {
        for (code, says) in [
            (403, "jobs.batch \"a\" is forbidden: exceeded quota: few"),
            (403, "admission webhook \"policy\" denied the request: no"),
            (500, "failed calling webhook \"policy\": connection refused"),
        ] {
            let Stop::Refused(error) = Stop::from(answered(code, says)) else {
                panic!("{says} does not block");
            };
            let action = "cannot create Job home/volsync-rsync-src-photos";
            assert_eq!(error.to_string(), format!("{action}: {says}"));
        }
        assert!(matches!(Stop::from(answered(500, "etcd is not there")), Stop::Broken(_)));
        assert!(matches!(Stop::from(answered(503, "later")), Stop::Broken(_)));
    }
}
