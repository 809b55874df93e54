//! What an answer of an SFTP server, or the lack of one, means.

use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::{Status, StatusCode};

use crate::error::Kind;
use crate::whole_range::RangeProblem;

/// The longest message of a server that is shown, in characters.
const LONGEST_MESSAGE: usize = 200;

/// What went wrong, before it is known with what. [`Kind::Unreachable`] means that the connection
/// is of no more use.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) reason: String,
}

impl Trouble {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// A connection that broke.
    pub(super) fn lost(why: &str) -> Self {
        Self::new(Kind::Unreachable, format!("the connection was lost: {why}"))
    }

    /// What a request ended with.
    pub(super) fn of_answer(error: SftpError) -> Self {
        match error {
            SftpError::Status(status) => Self::of_status(&status),
            SftpError::Timeout => Self::new(Kind::Unreachable, "the server does not answer"),
            SftpError::IO(why) | SftpError::UnexpectedBehavior(why) => Self::lost(&why),
            SftpError::UnexpectedPacket => Self::nonsense(),
            SftpError::Limited(why) => Self::new(Kind::Failing, why),
        }
    }

    /// An answer to another question.
    pub(super) fn nonsense() -> Self {
        Self::new(Kind::Unreachable, "the server's answer makes no sense")
    }

    /// What a server's status says (draft-ietf-secsh-filexfer-02, section 7). OpenSSH's says
    /// "failure" for everything that is not one of the others, a full disk included.
    pub(super) fn of_status(status: &Status) -> Self {
        let (kind, words) = match status.status_code {
            StatusCode::Ok => (Kind::Failing, "the server says that all is well, and no more"),
            StatusCode::Eof => (Kind::Failing, "it ends early"),
            StatusCode::NoSuchFile => (Kind::NotFound, "no such file"),
            StatusCode::PermissionDenied => (Kind::Forbidden, "permission denied"),
            StatusCode::Failure => (Kind::Failing, "the server reports a failure"),
            StatusCode::BadMessage => (Kind::Invalid, "the server cannot make sense of it"),
            StatusCode::NoConnection => (Kind::Unreachable, "the server has no connection"),
            StatusCode::ConnectionLost => (Kind::Unreachable, "the server lost its connection"),
            StatusCode::OpUnsupported => (Kind::Unsupported, "the server cannot do that"),
        };
        let message = printable(&status.error_message);
        let says_more = !message.is_empty()
            && !message.eq_ignore_ascii_case(&status.status_code.to_string())
            && !message.eq_ignore_ascii_case(words);
        let reason = if says_more { format!("{words} ({message})") } else { words.to_owned() };
        Self::new(kind, reason)
    }

    /// Why a connection did not come about.
    pub(super) fn of_ssh(error: &russh::Error) -> Self {
        let kind = match error {
            russh::Error::NoCommonAlgo { .. } => Kind::Unsupported,
            russh::Error::UnknownKey | russh::Error::WrongServerSig => Kind::Untrusted,
            russh::Error::ChannelOpenFailure(_) | russh::Error::RequestDenied => Kind::Forbidden,
            _ => Kind::Unreachable,
        };
        Self::new(kind, format!("no SSH connection came about: {error}"))
    }
}

impl From<RangeProblem> for Trouble {
    fn from(problem: RangeProblem) -> Self {
        Self::new(problem.kind, problem.reason)
    }
}

/// What a server says, in one line of bounded length.
pub(super) fn printable(message: &str) -> String {
    let space = |letter: char| if letter.is_control() { ' ' } else { letter };
    message.trim().chars().map(space).take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_keeps_what_the_server_adds_and_nothing_twice() {
        let reason = |status_code, message: &str| {
            let language_tag = String::new();
            let error_message = message.to_owned();
            let trouble =
                Trouble::of_status(&Status { id: 1, status_code, error_message, language_tag });
            (trouble.kind, trouble.reason)
        };
        assert_eq!(
            reason(StatusCode::NoSuchFile, "No such file"),
            (Kind::NotFound, "no such file".to_owned())
        );
        assert_eq!(
            reason(StatusCode::Failure, "quota\nexceeded"),
            (Kind::Failing, "the server reports a failure (quota exceeded)".to_owned())
        );
        assert_eq!(
            reason(StatusCode::PermissionDenied, ""),
            (Kind::Forbidden, "permission denied".to_owned())
        );
    }
}
