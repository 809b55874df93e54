//! What a running mover says on standard output, one JSON object a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One line of a mover's standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// A destination accepts connections here.
    Listening {
        /// The bound address, with the real port.
        address: SocketAddr,
    },
    /// How far the sync has come; several a second at most.
    Progress(Progress),
}

/// What a mover is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// A source is connecting, a destination is waiting for its peer.
    #[default]
    Connecting,
    /// The trees are compared and content is moved.
    Transferring,
    /// What the source no longer has is deleted.
    Deleting,
    /// Attributes of directories are set and data is flushed.
    Finishing,
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What the mover is doing.
    pub phase: Phase,
    /// Entries compared so far.
    pub files_compared: u64,
    /// Entries found so far at the source; the total once `total_known`.
    pub files_total: u64,
    /// Bytes of content that need no more work: unchanged, or written.
    pub bytes_done: u64,
    /// Bytes of content found so far at the source; the total once `total_known`.
    pub bytes_total: u64,
    /// Bytes that went over the wire so far, both ways.
    pub wire_bytes: u64,
    /// Whether the source has been walked to its end.
    pub total_known: bool,
}
