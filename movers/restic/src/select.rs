//! Which snapshot a restore takes, from the snapshots themselves.

use jiff::Timestamp;

use crate::error::Error;
use crate::format::{Id, Snapshot};
use crate::retain::Taken;

/// What a snapshot must be to be restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The path that it was recorded under.
    pub path: String,
    /// The host that it was recorded under; `None`: any.
    pub host: Option<String>,
    /// Taken up to this second; `None`: at any time.
    pub as_of: Option<Timestamp>,
    /// How many eligible ones are skipped, from the newest.
    pub previous: u32,
    /// Its ID or the beginning of it; nothing else matters then.
    pub id: Option<String>,
}

/// The snapshot that is wanted; `None` when there is none.
pub fn select<'a>(
    snapshots: &'a [(Id, Snapshot)],
    wanted: &Wanted,
) -> Result<Option<&'a (Id, Snapshot)>, Error> {
    if let Some(beginning) = &wanted.id {
        let beginning = beginning.to_ascii_lowercase();
        let mut matching =
            snapshots.iter().filter(|(id, _)| id.to_string().starts_with(&beginning));
        let found = matching.next();
        return match matching.next() {
            Some(_) => Err(Error::AmbiguousSnapshot { id: beginning }),
            None => Ok(found),
        };
    }
    let mut eligible = Vec::new();
    for snapshot in snapshots.iter().filter(|(_, snapshot)| wanted.admits(snapshot)) {
        let (id, said) = snapshot;
        let taken = Taken::parse(&said.time)
            .ok_or_else(|| Error::SnapshotTime { id: *id, time: said.time.clone() })?;
        if wanted.as_of.is_none_or(|limit| taken.at.as_second() <= limit.as_second()) {
            eligible.push((taken.at, *id, snapshot));
        }
    }
    // Two of the same instant are told apart by their IDs, so that `previous` always finds the same.
    eligible.sort_unstable_by_key(|(at, id, _)| std::cmp::Reverse((*at, *id)));
    let skipped = usize::try_from(wanted.previous).unwrap_or(usize::MAX);
    Ok(eligible.get(skipped).map(|(_, _, snapshot)| *snapshot))
}

impl Wanted {
    fn admits(&self, snapshot: &Snapshot) -> bool {
        snapshot.paths.contains(&self.path)
            && self.host.as_ref().is_none_or(|host| *host == snapshot.hostname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(n: u8, time: &str, path: &str, host: &str) -> (Id, Snapshot) {
        let tree = Id::from_bytes([0; 32]);
        let snapshot = serde_json::json!({
            "time": time, "tree": tree.to_string(), "paths": [path], "hostname": host,
        });
        (Id::from_bytes([n; 32]), serde_json::from_value(snapshot).unwrap())
    }

    fn wanted() -> Wanted {
        Wanted { path: "/data".into(), ..Wanted::default() }
    }

    #[test]
    fn the_path_is_the_whole_path_and_the_second_of_restore_as_of_counts() {
        let snapshots = [
            snapshot(1, "2026-01-01T12:00:00.7Z", "/data", "volsync"),
            snapshot(2, "2026-01-01T13:00:00+02:00", "/data", "laptop"),
            snapshot(3, "2026-01-01T12:00:01Z", "/data", "volsync"),
            snapshot(4, "2026-01-02T00:00:00Z", "/data2", "volsync"),
        ];
        let found =
            |wanted: Wanted| select(&snapshots, &wanted).unwrap().map(|(id, _)| id.as_bytes()[0]);
        let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        assert_eq!(found(wanted()), Some(3));
        assert_eq!(found(Wanted { previous: 1, ..wanted() }), Some(1));
        assert_eq!(found(Wanted { previous: 3, ..wanted() }), None);
        assert_eq!(found(Wanted { as_of: Some(noon), ..wanted() }), Some(1));
        assert_eq!(found(Wanted { host: Some("laptop".into()), ..wanted() }), Some(2));
        assert_eq!(found(Wanted { id: Some("0404".into()), ..wanted() }), Some(4));
        assert_eq!(found(Wanted { id: Some("ff".into()), ..wanted() }), None);
        let any = Wanted { id: Some("0".into()), ..wanted() };
        assert!(matches!(select(&snapshots, &any), Err(Error::AmbiguousSnapshot { .. })));
    }

    proptest! {
        #[test]
        fn one_more_previous_is_the_next_older(
            seconds in proptest::collection::vec(0i64..1000, 1..30), previous in 0u32..30,
            limit in proptest::option::of(0i64..1000),
        ) {
            let snapshots: Vec<_> = seconds
                .iter()
                .enumerate()
                .map(|(n, second)| {
                    let time = Timestamp::from_second(*second).unwrap().to_string();
                    snapshot(n as u8, &time, "/data", "volsync")
                })
                .collect();
            let as_of = limit.map(|second| Timestamp::from_second(second).unwrap());
            let found = select(&snapshots, &Wanted { previous, as_of, ..wanted() }).unwrap();
            let mut left: Vec<i64> =
                seconds.into_iter().filter(|second| limit.is_none_or(|limit| *second <= limit)).collect();
            left.sort_unstable_by(|one, other| other.cmp(one));
            let expected = left.get(previous as usize).copied();
            let found = found.map(|(_, said)| said.time.parse::<Timestamp>().unwrap().as_second());
            prop_assert_eq!(found, expected);
        }
    }
}
