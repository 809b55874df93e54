//! `Own`: what this process has written to and removed from a repository. A listing may lag behind, and
//! what is missing in it would be taken for what nobody needs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::id::Id;

/// The changes of this process so far. A pack takes 48 bytes or so: 3 MB for a TiB in packs of 16 MiB.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    written: BTreeSet<String>,
    removed: BTreeSet<String>,
    packs: HashMap<Id, u64>,
}

impl Own {
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot or an index file was written.
    pub(super) fn wrote(&self, name: String) {
        self.changes().written.insert(name);
    }

    /// A snapshot or an index file of its own has gone.
    pub(super) fn has_gone(&self, name: &str) {
        self.changes().written.remove(name);
    }

    /// A snapshot or an index file was removed.
    pub(super) fn removed(&self, name: &str) {
        let mut changes = self.changes();
        changes.written.remove(name);
        changes.removed.insert(name.to_owned());
    }

    /// A pack of so many bytes was written.
    pub(super) fn wrote_pack(&self, id: Id, length: u64) {
        self.changes().packs.insert(id, length);
    }

    /// A pack was removed.
    pub(super) fn removed_pack(&self, id: Id) {
        self.changes().packs.remove(&id);
    }

    /// Takes out of a listing what this process has removed; what it has written and is not there.
    pub(super) fn correct(&self, prefix: &str, listed: &mut BTreeSet<String>) -> Vec<String> {
        let changes = self.changes();
        listed.retain(|name| !changes.removed.contains(name));
        let own = changes.written.iter().filter(|name| name.starts_with(prefix));
        own.filter(|name| !listed.contains(*name)).cloned().collect()
    }

    /// Adds the packs that this process has written.
    pub(super) fn add_packs(&self, listed: &mut HashMap<Id, u64>) {
        listed.extend(self.changes().packs.iter().map(|(id, length)| (*id, *length)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_lags_behind_is_corrected() {
        let own = Own::default();
        own.wrote("index/a".to_owned());
        own.wrote("index/b".to_owned());
        own.wrote("snapshots/c".to_owned());
        own.removed("index/b");
        own.removed("index/old");
        let mut listed = BTreeSet::from(["index/old".to_owned(), "index/x".to_owned()]);
        assert_eq!(own.correct("index/", &mut listed), ["index/a"]);
        assert_eq!(listed, BTreeSet::from(["index/x".to_owned()]));
        let mut listed = BTreeSet::from(["index/a".to_owned()]);
        assert!(own.correct("index/", &mut listed).is_empty());
    }
}
