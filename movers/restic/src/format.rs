//! restic's repository format: identifiers, encryption, blobs, packs, indexes, trees, snapshots.
//!
//! Everything here takes bytes and gives bytes or values, and does no I/O, except
//! [`RepositoryFiles`] and [`TreeLoader`], which read and write a
//! [`Store`](volsync_bucket::Store). Whatever is
//! parsed may be hostile: limits are checked before memory is taken.
//!
//! The source of the format is restic's design document ("Repository format") and its
//! implementation, version 0.19.

mod blob;
pub mod chunker;
mod crypto;
mod error;
pub mod files;
mod id;
pub mod index;
mod json;
pub mod node;
mod own;
pub mod pack;
mod printable;
pub mod snapshot;
pub mod tree;
mod tree_loader;

pub use blob::{BlobKind, Compression, Decoder, Encoder, MAX_DATA_BLOB, MAX_TREE_BLOB};
pub use crypto::Key;
pub use error::Error;
pub use files::RepositoryFiles;
pub use id::Id;
pub use index::Index;
pub use node::Node;
pub use snapshot::Snapshot;
pub use tree_loader::TreeLoader;
