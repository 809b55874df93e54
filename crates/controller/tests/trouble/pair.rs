//! A source and its destination that sync for one tag after another, and what must be true at the end.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use volsync_testing::scenario::{Cluster, Driver, Expect, Tree};

/// A source `photos` and its destination `mirror`, with snapshots on both sides.
pub(crate) struct Pair {
    pub(crate) cluster: Cluster,
    syncs: usize,
}

impl Pair {
    /// A pair in a namespace of its own, which has not synced.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut cluster = Cluster::new(name)?;
        let files = json!({"volume": "photos", "files": {"a": "first"}});
        let tree: Tree = serde_json::from_value(files)?;
        cluster.tree(&tree)?;
        Ok(Self { cluster, syncs: 0 })
    }

    /// Asks for one more sync; the tag it answers to.
    pub(crate) fn ask(&mut self) -> Result<String> {
        let tag = self.ask_destination()?;
        self.ask_source(&tag)?;
        Ok(tag)
    }

    /// Asks the destination alone for one more sync: it listens until its source is asked too.
    pub(crate) fn ask_destination(&mut self) -> Result<String> {
        self.syncs += 1;
        let tag = format!("sync-{}", self.syncs);
        self.cluster.make(&destination(&tag))?;
        Ok(tag)
    }

    /// Asks the source for the sync that its destination was asked for.
    pub(crate) fn ask_source(&self, tag: &str) -> Result<()> {
        self.cluster.make(&source(tag))
    }

    /// Whether both ends have synced for this tag.
    pub(crate) fn is_done(&self, tag: &str) -> Result<bool> {
        for of in ["ReplicationSource/photos", "ReplicationDestination/mirror"] {
            if self.cluster.object(of)?["status"]["lastManualSync"] != tag {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until both ends have synced for this tag.
    pub(crate) fn wait(&self, tag: &str) -> Result<()> {
        self.cluster.until(240, |_| Ok((!self.is_done(tag)?).then(|| format!("{tag} is stuck"))))
    }

    /// Nothing of any sync is left but one image; the number of syncs.
    pub(crate) fn is_clean(&self) -> Result<usize> {
        self.cluster.until(60, |cluster| {
            let count = |kind: &str| cluster.objects(kind).map(|found| found.len());
            let left = [count("VolumeSnapshot")?, count("Job")?, count("PersistentVolumeClaim")?];
            Ok((left != [1, 0, 2]).then(|| format!("snapshots, Jobs and claims left: {left:?}")))
        })?;
        Ok(self.syncs)
    }

    /// Each sync had one mover at each end. Only where no mover had a reason to fail.
    pub(crate) fn had_one_mover_each(&self) -> Result<()> {
        let events = self.cluster.objects("Event")?;
        let pods = events.iter().filter(|event| {
            event["reason"] == "SuccessfulCreate" && event["involvedObject"]["kind"] == "Job"
        });
        let pods = pods.count();
        ensure!(pods == 2 * self.syncs, "{pods} movers ran for {} syncs of two ends", self.syncs);
        Ok(())
    }

    /// A claim made from the destination holds what the source holds. Needs an operator.
    pub(crate) fn restores(&mut self) -> Result<()> {
        self.cluster.make(&json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "restored"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "dataSourceRef": {
                    "apiGroup": "volsync.backube",
                    "kind": "ReplicationDestination",
                    "name": "mirror",
                },
                "resources": {"requests": {"storage": "64Mi"}},
            },
        }))?;
        self.cluster.expect(&Expect::Same(["photos".to_owned(), "restored".to_owned()]))
    }
}

fn source(tag: &str) -> Value {
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": "photos"},
        "spec": {
            "sourcePVC": "photos",
            "trigger": {"manual": tag},
            "rsync": {
                "copyMethod": "Snapshot",
                "address": "volsync-rsync-dst-mirror",
                "sshKeys": "volsync-rsync-dst-src-mirror",
            },
        },
    })
}

fn destination(tag: &str) -> Value {
    json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationDestination",
        "metadata": {"name": "mirror"},
        "spec": {
            "trigger": {"manual": tag},
            "rsync": {
                "copyMethod": "Snapshot",
                "capacity": "64Mi",
                "accessModes": ["ReadWriteOnce"],
            },
        },
    })
}
