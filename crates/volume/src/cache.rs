//! The volume on which a mover keeps what it would otherwise fetch again with every sync.

use crate::{
    AccessMode, ClaimFacts, NewVolume, Origin, Quantity, VolumeMode, VolumeOptions, is_read_only,
};

/// The size of a cache when the manifest names none.
const DEFAULT_CAPACITY: u64 = 1 << 30;

/// What the user chose for a mover's cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheOptions {
    /// Its size; `None`: `1Gi`.
    pub capacity: Option<Quantity>,
    /// Its storage class; `None`: that of the volume options, or the default.
    pub storage_class: Option<String>,
    /// Its access modes; empty: those of the volume options, or of the data's claim.
    pub access_modes: Vec<AccessMode>,
}

/// The cache named `name` of a mover whose data is `data`, made with `options`. It is always a file
/// system that can be written: nothing else can hold a cache.
pub fn plan_cache(
    cache: &CacheOptions,
    options: &VolumeOptions,
    data: &ClaimFacts,
    name: &str,
) -> NewVolume {
    let given = [&cache.access_modes, &options.access_modes, &data.access_modes];
    let writable = given.into_iter().find(|modes| !modes.is_empty() && !is_read_only(modes));
    let access_modes = writable.cloned().unwrap_or_else(|| vec![AccessMode::ReadWriteOnce]);
    NewVolume {
        name: name.to_owned(),
        origin: Origin::Empty,
        capacity: cache.capacity.clone().unwrap_or_else(|| Quantity::from_bytes(DEFAULT_CAPACITY)),
        storage_class: cache.storage_class.clone().or_else(|| options.storage_class.clone()),
        access_modes,
        mode: VolumeMode::Filesystem,
        read_only: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CopyMethod;

    fn options() -> VolumeOptions {
        VolumeOptions::new(CopyMethod::Snapshot)
    }

    #[test]
    fn a_cache_takes_what_is_said_of_it_then_of_the_volume_then_of_the_data() {
        let data = ClaimFacts {
            storage_class: Some("of-data".into()),
            access_modes: vec![AccessMode::ReadWriteMany],
            ..ClaimFacts::default()
        };
        let least = plan_cache(&CacheOptions::default(), &options(), &data, "cache");
        assert_eq!(least.capacity, "1Gi".parse().unwrap());
        assert_eq!(least.storage_class, None, "the default of the cluster, not that of the data");
        assert_eq!(least.access_modes, [AccessMode::ReadWriteMany]);

        let mut options = options();
        options.storage_class = Some("of-volume".into());
        options.access_modes = vec![AccessMode::ReadWriteOnce];
        options.capacity = Some("9Gi".parse().unwrap());
        let some = plan_cache(&CacheOptions::default(), &options, &data, "cache");
        assert_eq!(
            some.capacity,
            "1Gi".parse().unwrap(),
            "the size of the data is not the cache's"
        );
        assert_eq!(some.storage_class.as_deref(), Some("of-volume"));
        assert_eq!(some.access_modes, [AccessMode::ReadWriteOnce]);

        let cache = CacheOptions {
            capacity: Some("2Gi".parse().unwrap()),
            storage_class: Some("of-cache".into()),
            access_modes: vec![AccessMode::ReadWriteOncePod],
        };
        let all = plan_cache(&cache, &options, &data, "cache");
        assert_eq!(all.capacity, "2Gi".parse().unwrap());
        assert_eq!(all.storage_class.as_deref(), Some("of-cache"));
        assert_eq!(all.access_modes, [AccessMode::ReadWriteOncePod]);
    }

    #[test]
    fn the_cache_of_data_that_can_only_be_read_can_be_written() {
        let data =
            ClaimFacts { access_modes: vec![AccessMode::ReadOnlyMany], ..ClaimFacts::default() };
        let mut options = options();
        options.access_modes = vec![AccessMode::ReadOnlyMany];
        let cache = plan_cache(&CacheOptions::default(), &options, &data, "cache");
        assert_eq!(cache.access_modes, [AccessMode::ReadWriteOnce]);
    }
}
