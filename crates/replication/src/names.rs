//! Names of the objects a replication owns, short enough and stable.
//!
//! They are upstream's, since users refer to some of them in their manifests.

use volsync_contract::Direction;

use crate::Method;

/// The longest name of a Service or a Job, and the longest label.
const LONGEST: usize = 63;

const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Source => "src",
        Direction::Destination => "dst",
    }
}

/// `prefix` and `name`, or `prefix` and a hash of the name if that would be too long.
fn shortened(prefix: &str, name: &str) -> String {
    if prefix.len() + name.len() > LONGEST {
        format!("{prefix}{}", hash(name))
    } else {
        format!("{prefix}{name}")
    }
}

/// The eight digits that stand for a long name.
pub fn hash(name: &str) -> String {
    format!("{:08x}", crc32(name.as_bytes()))
}

/// The Job of a mover; `None` where there is none (Syncthing, somebody else's).
pub fn job(method: &Method, direction: Direction, name: &str) -> Option<String> {
    let side = side(direction);
    match method {
        Method::Rsync(_) | Method::RsyncTls(_) | Method::ObjectStore(_) => {
            Some(shortened(&format!("volsync-{}-{side}-", method.name()), name))
        }
        Method::Restic(_) => Some(shortened(&format!("volsync-{side}-"), name)),
        Method::Syncthing(_) | Method::External(_) => None,
    }
}

/// The Service of a mover that listens over SSH, by which a source in the same manifests reaches it.
pub fn rsync_service(direction: Direction, name: &str) -> String {
    shortened(&format!("volsync-rsync-{}-", side(direction)), name)
}

/// The Service of a mover that listens over TLS.
pub fn rsync_tls_service(direction: Direction, name: &str) -> String {
    shortened(&format!("volsync-rsync-tls-{}-", side(direction)), name)
}

/// The generated Secret with all SSH keys of both ends.
pub fn rsync_main_secret(direction: Direction, name: &str) -> String {
    format!("volsync-rsync-{}-main-{name}", side(direction))
}

/// The generated Secret with the SSH keys a source needs. A destination publishes it.
pub fn rsync_source_secret(direction: Direction, name: &str) -> String {
    format!("volsync-rsync-{}-src-{name}", side(direction))
}

/// The generated Secret with the SSH keys a destination needs. A source publishes it.
pub fn rsync_destination_secret(direction: Direction, name: &str) -> String {
    format!("volsync-rsync-{}-dest-{name}", side(direction))
}

/// The generated Secret with the pre-shared key, the same for both ends.
pub fn rsync_tls_secret(name: &str) -> String {
    format!("volsync-rsync-tls-{name}")
}

/// The point-in-time copy a source reads, and the snapshot it is made from.
pub fn point_in_time(name: &str) -> String {
    format!("volsync-{name}-src")
}

/// The snapshot a source's copy is made from, for the sync that started at `start`, when its user keeps
/// one of the name [`point_in_time`].
pub fn dated_point_in_time(name: &str, start: jiff::Timestamp) -> String {
    format!("{}-{}", point_in_time(name), start.strftime("%Y%m%d%H%M%S"))
}

/// The volume provisioned for a destination.
pub fn destination_claim(method: &Method, name: &str) -> String {
    match method {
        Method::Rsync(_) | Method::RsyncTls(_) | Method::Syncthing(_) | Method::External(_) => {
            format!("volsync-{name}-dst")
        }
        Method::ObjectStore(_) | Method::Restic(_) => format!("volsync-{name}-dest"),
    }
}

/// The snapshot of a destination's volume, as of `time`: when its sync or its mover started.
pub fn destination_snapshot(claim: &str, time: jiff::Timestamp) -> String {
    format!("{claim}-{}", time.strftime("%Y%m%d%H%M%S"))
}

/// The cache of a restic mover.
pub fn restic_cache(direction: Direction, name: &str) -> String {
    format!("volsync-{}-{name}-cache", side(direction))
}

/// The ServiceAccount, Role and RoleBinding of a mover.
pub fn service_account(direction: Direction, name: &str) -> String {
    format!("volsync-{}-{name}", side(direction))
}

/// The Deployment and the Secret of a Syncthing mover.
pub fn syncthing(name: &str) -> String {
    format!("volsync-{name}")
}

/// The volume with the configuration of a Syncthing mover.
pub fn syncthing_config(name: &str) -> String {
    format!("volsync-{name}-config")
}

/// The Services of a Syncthing mover: `api` or `data`.
pub fn syncthing_service(which: &str, name: &str) -> String {
    let full = format!("volsync-{name}-{which}");
    if full.len() > LONGEST { format!("volsync-{which}-{}", hash(name)) } else { full }
}

/// CRC-32 as of IEEE 802.3.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rsync;

    #[test]
    fn the_hash_is_crc_32() {
        assert_eq!(hash("123456789"), "cbf43926");
    }

    #[test]
    fn long_names_are_hashed_and_short_ones_kept() {
        let rsync = Method::Rsync(Rsync::default());
        assert_eq!(job(&rsync, Direction::Destination, "a").unwrap(), "volsync-rsync-dst-a");
        let fits = "x".repeat(63 - "volsync-rsync-dst-".len());
        assert_eq!(rsync_service(Direction::Destination, &fits).len(), 63);
        let long = format!("{fits}x");
        assert_eq!(
            rsync_service(Direction::Destination, &long),
            format!("volsync-rsync-dst-{}", hash(&long))
        );
        assert_eq!(
            rsync_source_secret(Direction::Destination, &long),
            format!("volsync-rsync-dst-src-{long}")
        );
    }

    #[test]
    fn a_snapshot_is_named_after_its_volume_and_time() {
        let start = "2024-05-06T07:08:09Z".parse().unwrap();
        assert_eq!(destination_snapshot("photos", start), "photos-20240506070809");
    }
}
