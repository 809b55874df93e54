//! When to synchronise, as the user wrote it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a synchronisation starts. A manual tag wins over a schedule; with neither, one sync follows the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// A cron expression of five fields, or one of the descriptors such as `@daily`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Any tag: a sync runs whenever it differs from `status.lastManualSync`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
}
