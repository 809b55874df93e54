//! Version `v1alpha1` of the API, the only one.

mod custom_ca;
mod external;
mod mover_config;
mod mover_status;
mod rclone;
mod replication_destination;
mod replication_source;
mod restic;
mod rsync;
mod rsync_tls;
mod syncthing;
mod trigger;
mod volume_options;

pub use self::custom_ca::CustomCa;
pub use self::external::External;
pub use self::mover_config::{MoverConfig, MoverVolume, MoverVolumeSource, SshMoverConfig};
pub use self::mover_status::{MoverResult, MoverStatus};
pub use self::rclone::{RcloneDestination, RcloneSource};
pub use self::replication_destination::{
    ReplicationDestination, ReplicationDestinationSpec, ReplicationDestinationStatus,
};
pub use self::replication_source::{
    ReplicationSource, ReplicationSourceSpec, ReplicationSourceStatus,
};
pub use self::restic::{
    ResticDestination, ResticDestinationStatus, ResticRetainPolicy, ResticSource,
    ResticSourceStatus, ResticVerify,
};
pub use self::rsync::{RsyncDestination, RsyncSource, RsyncStatus};
pub use self::rsync_tls::{
    RsyncTlsDestination, RsyncTlsDestinationStatus, RsyncTlsSource, RsyncTlsSourceStatus,
};
pub use self::syncthing::{SyncthingPeer, SyncthingPeerStatus, SyncthingSource, SyncthingStatus};
pub use self::trigger::Trigger;
pub use self::volume_options::{CopyMethod, DestinationVolumeOptions, SourceVolumeOptions};
