//! How the last run of the mover ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a run of the mover ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MoverResult {
    /// The data was moved.
    Successful,
    /// The data was not moved, or not all of it.
    Failed,
}

/// How the last run of the mover ended; empty until one has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverStatus {
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<MoverResult>,
    /// The end of its log, filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}
