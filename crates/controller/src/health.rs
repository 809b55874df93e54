//! `/healthz` and `/readyz`.

use hyper::StatusCode;

use crate::serve::{Answer, text};

/// Answers a probe. A process that answers is alive and ready: one that cannot reach the API server,
/// or does not lead, is not helped by a restart.
pub(crate) fn answer(path: &str) -> Answer {
    match path {
        "/healthz" | "/readyz" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "/healthz and /readyz are served here\n"),
    }
}
