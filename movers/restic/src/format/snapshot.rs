//! `Snapshot`: a snapshot file.

use serde::{Deserialize, Serialize};

use super::id::Id;

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A snapshot file. Times are in RFC 3339.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub time: String,
    /// The snapshot it was compared with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Id>,
    /// Its root.
    pub tree: Id,
    /// What was backed up.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Where.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub hostname: String,
    /// By whom.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub username: String,
    /// Their number.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub uid: u32,
    /// Their group's number.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub gid: u32,
    /// Patterns that were left out.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub excludes: Vec<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// The snapshot it was made from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub original: Option<Id>,
    /// The program that made it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub program_version: String,
    /// What was counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<Summary>,
}

/// What a backup counted. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// When it began.
    pub backup_start: String,
    /// When it ended.
    pub backup_end: String,
    /// Files that are not in the parent.
    pub files_new: u64,
    /// Files that were read again.
    pub files_changed: u64,
    /// Files that were not.
    pub files_unmodified: u64,
    /// Directories that are not in the parent.
    pub dirs_new: u64,
    /// Directories of which something differs.
    pub dirs_changed: u64,
    /// Directories of which nothing does.
    pub dirs_unmodified: u64,
    /// Data blobs added.
    pub data_blobs: u64,
    /// Tree blobs added.
    pub tree_blobs: u64,
    /// Size of the blobs added.
    pub data_added: u64,
    /// Their size in packs.
    pub data_added_packed: u64,
    /// All files.
    pub total_files_processed: u64,
    /// Their size.
    pub total_bytes_processed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_restic_is_read_and_written_back_the_same() {
        let json = r#"{"time":"2024-05-01T10:00:00.5+02:00","parent":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","tree":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","paths":["/data"],"hostname":"volsync","username":"root","excludes":["lost+found"],"program_version":"restic 0.19.1","summary":{"backup_start":"2024-05-01T10:00:00.5+02:00","backup_end":"2024-05-01T10:00:01+02:00","files_new":1,"files_changed":0,"files_unmodified":0,"dirs_new":0,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":1,"tree_blobs":1,"data_added":100,"data_added_packed":90,"total_files_processed":1,"total_bytes_processed":3}}"#;
        let snapshot: Snapshot = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&snapshot).unwrap(), json);
    }
}
