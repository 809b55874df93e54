//! A reference to a bundle of certificate authorities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the certificate authority of the remote side is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomCa {
    /// The key within the Secret or ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The Secret; it wins over `configMapName`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
}
