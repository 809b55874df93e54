//! `Pair`: a source and the destination it replicates to, in one namespace.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use volsync_testing::Seed;
use volsync_testing::scenario::Cluster;

/// A source and the destination it replicates to, each with a claim of its own.
#[derive(Debug)]
pub(super) struct Pair {
    /// Of both replications.
    pub(super) name: String,
    copy_method: &'static str,
    /// Where the volumes are on this machine.
    source: PathBuf,
    destination: PathBuf,
    /// How often there was new content.
    version: u64,
    content: Vec<u8>,
}

impl Pair {
    /// Makes the claims of a pair, whose ends both have this copy method.
    pub(super) fn new(cluster: &Cluster, name: &str, copy_method: &'static str) -> Result<Self> {
        let claims = [source_claim(name), destination_claim(name)];
        cluster.make(&list(claims.iter().map(|name| claim(name))))?;
        let [source, destination] = claims;
        Ok(Self {
            name: name.to_owned(),
            copy_method,
            source: cluster.volume(&source)?,
            destination: cluster.volume(&destination)?,
            version: 0,
            content: Vec::new(),
        })
    }

    /// Both replications. The destination comes first: it takes longer to be ready.
    pub(super) fn replications(&self, trigger: &Value) -> [Value; 2] {
        let Self { name, copy_method, .. } = self;
        let replication = |kind: &str, spec: Value| {
            json!({
                "apiVersion": "volsync.backube/v1alpha1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": spec,
            })
        };
        [
            replication(
                "ReplicationDestination",
                json!({
                    "trigger": trigger,
                    "rsync": {
                        "copyMethod": copy_method,
                        "destinationPVC": destination_claim(name),
                    },
                }),
            ),
            replication(
                "ReplicationSource",
                json!({
                    "trigger": trigger,
                    "sourcePVC": source_claim(name),
                    "rsync": {
                        "copyMethod": copy_method,
                        "address": format!("volsync-rsync-dst-{name}"),
                        "sshKeys": format!("volsync-rsync-dst-src-{name}"),
                    },
                }),
            ),
        ]
    }

    /// Replaces what is in the source by one file of so many bytes, all of them new. It has a new name
    /// as well, so that it is moved whole and not as a difference.
    pub(super) fn renew(&mut self, bytes: usize) -> Result<()> {
        let old = self.source.join(self.file());
        if old.exists() {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        self.version += 1;
        let salt: u64 = self.name.bytes().map(u64::from).sum();
        self.content = Seed::new((salt << 32) + self.version).bytes(bytes);
        let new = self.source.join(self.file());
        fs::write(&new, &self.content).with_context(|| format!("cannot write {}", new.display()))
    }

    /// Fails unless the destination holds that file with that content, and nothing else.
    pub(super) fn verify(&self) -> Result<()> {
        let path = self.destination.join(self.file());
        let is = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(is == self.content, "{} is not what its source holds", path.display());
        let there = fs::read_dir(&self.destination)
            .with_context(|| format!("cannot list {}", self.destination.display()))?;
        ensure!(there.count() == 1, "{} holds more than its source", self.destination.display());
        Ok(())
    }

    fn file(&self) -> String {
        format!("data-{}", self.version)
    }
}

fn source_claim(name: &str) -> String {
    format!("{name}-source")
}

fn destination_claim(name: &str) -> String {
    format!("{name}-destination")
}

/// A claim of the cluster's default class.
pub(super) fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    })
}

/// Several manifests as one.
pub(super) fn list(items: impl IntoIterator<Item = Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()})
}
