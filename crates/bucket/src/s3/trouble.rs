//! What an answer of S3, or the lack of one, means.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStreamError;
use std::error::Error as StdError;

use crate::error::{Kind, chain, kind_of_connection};

/// What went wrong, before it is known with what.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) reason: String,
    /// Whether the server said so in words, or by its status alone.
    pub(super) said: bool,
}

impl Trouble {
    pub(super) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), said: true }
    }

    /// What an error of the SDK means.
    pub(super) fn of_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        if let SdkError::ServiceError(answer) = &error {
            let status = answer.raw().status().as_u16();
            let said = answer.err().code().filter(|code| !code.is_empty());
            // An answer to HEAD has no body: the SDK makes up a code.
            let said = said.filter(|code| *code != "NotFound");
            let kind = said.and_then(kind_of_code).unwrap_or_else(|| Kind::of_status(status));
            let words = answer.err().message().unwrap_or_default();
            let reason = match (said, words) {
                (Some(code), "") => code.to_owned(),
                (Some(code), words) => format!("{words} ({code})"),
                (None, _) => format!("the answer is status {status}"),
            };
            return Self { kind, reason, said: said.is_some() };
        }
        if let SdkError::ResponseError(answer) = &error {
            let status = answer.raw().status().as_u16();
            let kind = match status {
                200..=299 => Kind::Unreachable,
                _ => Kind::of_status(status),
            };
            let reason = format!("the answer (status {status}) cannot be read: {}", chain(&error));
            return Self { kind, reason, said: false };
        }
        if let Some(kind) = kind_of_preparation(&error) {
            let missing = "no credentials: the Secret has no AWS_ACCESS_KEY_ID that serves, and of \
                           Amazon's other ways the last one failed";
            return Self::new(kind, format!("{missing}: {}", chain(&error)));
        }
        let kind = match &error {
            SdkError::ConstructionFailure(_) => Kind::Invalid,
            _ => kind_of_connection(&error),
        };
        Self::new(kind, chain(&error))
    }

    /// What broke while content came.
    pub(super) fn of_body(error: &ByteStreamError) -> Self {
        Self::new(kind_of_connection(error), format!("the content was cut short: {}", chain(error)))
    }
}

/// Credentials are looked for before a request is sent. Where there are none, or they are refused,
/// nothing changes by asking again.
fn kind_of_preparation(error: &(dyn StdError + 'static)) -> Option<Kind> {
    use aws_credential_types::provider::error::CredentialsError;
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(credentials) = cause.downcast_ref::<CredentialsError>() {
            return Some(match credentials {
                CredentialsError::ProviderTimedOut(_) => Kind::Unreachable,
                _ => Kind::Forbidden,
            });
        }
        next = cause.source();
    }
    None
}

/// The codes of S3 and its likes that say more than their status.
fn kind_of_code(code: &str) -> Option<Kind> {
    Some(match code {
        "NoSuchKey" | "NoSuchVersion" => Kind::NotFound,
        "NoSuchBucket" => Kind::NoBucket,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "ExpiredToken"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "InvalidToken"
        | "NotSignedUp"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch" => Kind::Forbidden,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => Kind::Throttled,
        // What arrived was damaged on its way, or did not arrive.
        "BadDigest" | "IncompleteBody" | "RequestTimeout" | "XAmzContentSHA256Mismatch" => {
            Kind::Unreachable
        }
        "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict" => Kind::Failing,
        "EntityTooLarge"
        | "InsufficientStorage"
        | "QuotaExceeded"
        | "StorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "XMinioStorageFull" => Kind::Full,
        "InvalidRange" => Kind::OutOfRange,
        _ => return None,
    })
}
