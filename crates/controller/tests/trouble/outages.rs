//! The cluster breaks in the middle of syncs: they end all the same, without help.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use volsync_testing::keys::{KeyKind, KeyPair};
use volsync_testing::scenario::Cluster;
use volsync_testing::seed::Seed;

use crate::operator::{WHOLE, send};
use crate::pair::Pair;

/// A process of the test cluster, which is started again whenever it ends.
struct Process<'a> {
    name: &'a str,
    keeper: PathBuf,
}

impl<'a> Process<'a> {
    fn find(cluster: &Cluster, name: &'a str) -> Result<Self> {
        let run = cluster.config().parent().context("a kubeconfig lies in a directory")?;
        Ok(Self { name, keeper: run.join("pids").join(name) })
    }

    /// Its process now.
    fn pid(&self) -> Result<u32> {
        let keeper = fs::read_to_string(&self.keeper)
            .with_context(|| format!("the test cluster does not run {}", self.name))?;
        let children = Command::new("pgrep").args(["--parent", keeper.trim()]).output()?;
        let children = String::from_utf8(children.stdout)?;
        let child = children.lines().next();
        child
            .and_then(|line| line.trim().parse().ok())
            .with_context(|| format!("{} does not run", self.name))
    }

    /// Ends it at once.
    fn kill(&self) -> Result<()> {
        send("KILL", self.pid()?)
    }

    /// It stands still for so long.
    fn freeze(&self, time: Duration) -> Result<()> {
        let pid = self.pid()?;
        send("STOP", pid)?;
        thread::sleep(time);
        send("CONT", pid)
    }
}

/// Breaks something during a sync, so many times, and waits until each sync has ended. What the
/// cluster's own controllers take to recover grows with each time.
fn in_spite_of(
    pair: &mut Pair,
    turns: usize,
    mut fault: impl FnMut(&Cluster) -> Result<()>,
) -> Result<()> {
    let mut random = Seed::new(turns as u64);
    for _ in 0..turns {
        let tag = pair.ask()?;
        thread::sleep(Duration::from_millis(random.below(3000)));
        fault(&pair.cluster)?;
        pair.cluster.until(60, |cluster| {
            let answer = cluster.run(&["get", "--raw", "/readyz"], None);
            Ok(answer.err().map(|error| format!("{error:#}")))
        })?;
        pair.wait(&tag)?;
    }
    Ok(())
}

fn run(name: &str, test: impl FnOnce(&mut Pair) -> Result<()>) {
    let _broken = WHOLE.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let result = Pair::new(name).and_then(|mut pair| {
        test(&mut pair)?;
        pair.is_clean()?;
        pair.restores()
    });
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

#[test]
fn the_api_server_dies_and_comes_back() {
    run("api-server", |pair| {
        let server = Process::find(&pair.cluster, "kube-apiserver")?;
        in_spite_of(pair, 2, |_| server.kill())
    });
}

#[test]
fn the_store_of_the_cluster_stands_still() {
    run("etcd", |pair| {
        let store = Process::find(&pair.cluster, "etcd")?;
        in_spite_of(pair, 1, |_| store.freeze(Duration::from_secs(30)))
    });
}

#[test]
fn the_controllers_of_the_cluster_die() {
    run("controllers", |pair| {
        let names =
            ["kube-controller-manager", "csi-snapshotter", "snapshot-controller", "kubelet"];
        for name in names {
            let process = Process::find(&pair.cluster, name)?;
            in_spite_of(pair, 1, |_| process.kill())?;
        }
        Ok(())
    });
}

#[test]
fn a_provisioner_that_does_nothing_is_told_of_and_waited_for() {
    run("provisioner", |pair| {
        let provisioner = Process::find(&pair.cluster, "csi-provisioner")?;
        let pid = provisioner.pid()?;
        send("STOP", pid)?;
        let tag = pair.ask()?;
        let told = pair.cluster.until(90, |cluster| {
            let status = &cluster.object("ReplicationDestination/mirror")?["status"];
            let told = status.to_string().contains("PersistentVolumeClaim");
            Ok((!told).then(|| format!("nothing is said of the claim: {status}")))
        });
        send("CONT", pid)?;
        told?;
        pair.wait(&tag)
    });
}

#[test]
fn a_node_that_is_not_ready_is_waited_for() {
    run("node", |pair| {
        let kubelet = Process::find(&pair.cluster, "kubelet")?;
        in_spite_of(pair, 1, |_| kubelet.freeze(Duration::from_secs(50)))
    });
}

#[test]
fn rights_that_are_taken_away_are_named_and_missed_only_as_long() {
    run("rights", |pair| {
        let role = "clusterrole/volsync-manager";
        let kept = pair.cluster.object(role)?;
        let rules = kept["rules"].as_array().context("the operator's role has rules")?;
        let fewer: Vec<_> = rules
            .iter()
            .filter(|rule| !rule["resources"].to_string().contains("\"jobs\""))
            .collect();
        ensure!(fewer.len() < rules.len(), "no rule speaks of Jobs");
        let patch = |rules: &serde_json::Value| json!({"rules": rules}).to_string();
        let change = |cluster: &Cluster, rules: &serde_json::Value| {
            cluster.run(&["patch", role, "--type=merge", "--patch", &patch(rules)], None)
        };
        change(&pair.cluster, &json!(fewer))?;
        let asked = pair.ask();
        let told = pair.cluster.until(60, |cluster| {
            let status = &cluster.object("ReplicationSource/photos")?["status"];
            let told = status.to_string().contains("forbidden");
            Ok((!told).then(|| format!("nothing is said of it: {status}")))
        });
        change(&pair.cluster, &json!(rules))?;
        told?;
        pair.wait(&asked?)
    });
}

#[test]
fn a_cluster_that_loses_its_snapshots_says_so_and_goes_on_once_they_are_back() {
    run("no-snapshots", |pair| {
        let definitions = ["volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses"]
            .map(|plural| format!("customresourcedefinition/{plural}.snapshot.storage.k8s.io"));
        let class = "volumesnapshotclass/csi-hostpath-snapclass";
        let kept: Vec<_> = definitions
            .iter()
            .map(String::as_str)
            .chain([class])
            .map(|of| pair.cluster.object(of).map(as_applied))
            .collect::<Result<_>>()?;
        ensure!(kept.iter().all(serde_json::Value::is_object), "the cluster has no snapshots");

        let tag = pair.ask()?;
        pair.wait(&tag)?;
        let told = lose(pair, &definitions);
        for object in &kept {
            // The class is of a kind that the API server has to learn of first.
            pair.cluster.until(60, |cluster| {
                Ok(cluster.make(object).err().map(|error| format!("{error:#}")))
            })?;
        }
        pair.wait(&told?)
    });
}

/// Removes these definitions and asks for a sync; its tag, once the operator says what is missing.
fn lose(pair: &mut Pair, definitions: &[String]) -> Result<String> {
    for definition in definitions {
        pair.cluster.run(&["delete", definition, "--timeout=60s"], None)?;
    }
    let tag = pair.ask()?;
    pair.cluster.until(90, |cluster| {
        let status = &cluster.object("ReplicationSource/photos")?["status"];
        let told = status.to_string().contains("does not serve");
        Ok((!told).then(|| format!("nothing is said of it: {status}")))
    })?;
    Ok(tag)
}

/// An object without what the API server has added to it, to be applied again.
fn as_applied(mut object: serde_json::Value) -> serde_json::Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(|at| at.as_object_mut()) {
        metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    }
    object
}

#[test]
fn a_claim_deleted_in_the_middle_of_its_sync_is_missed_at_the_next() {
    run("claim", |pair| {
        let tag = pair.ask()?;
        pair.cluster.until(60, |cluster| {
            let jobs = cluster.objects("Job")?.len();
            Ok((jobs < 2).then(|| format!("{jobs} Jobs were made")))
        })?;
        let stamp = pair.cluster.object("pvc/photos")?["spec"].clone();
        pair.cluster.run(&["delete", "pvc", "photos", "--wait=false"], None)?;
        pair.wait(&tag)?;
        let tag = pair.ask()?;
        pair.cluster.until(60, |cluster| {
            let status = &cluster.object("ReplicationSource/photos")?["status"];
            let told = status.to_string().contains("PersistentVolumeClaim photos does not exist");
            Ok((!told).then(|| format!("nothing is said of it: {status}")))
        })?;
        let mut spec = json!({});
        for field in ["accessModes", "resources"] {
            spec[field] = stamp[field].clone();
        }
        pair.cluster.make(&json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "photos"},
            "spec": spec,
        }))?;
        pair.wait(&tag)
    });
}

#[test]
fn a_secret_that_is_written_to_in_the_middle_of_a_sync_does_not_end_it() {
    run("keys", |pair| {
        let tag = pair.ask()?;
        pair.cluster.until(60, |cluster| {
            let jobs = cluster.objects("Job")?.len();
            Ok((jobs < 2).then(|| format!("{jobs} Jobs were made")))
        })?;
        let label = r#"{"metadata":{"labels":{"touched":"true"}},"data":{"more":"eA=="}}"#;
        let secret = "secret/volsync-rsync-dst-src-mirror";
        pair.cluster.run(&["patch", secret, "--type=merge", "--patch", label], None)?;
        pair.wait(&tag)?;
        pair.had_one_mover_each()
    });
}

/// Gives an end other keys, in the Secret it has.
fn give(cluster: &Cluster, secret: &str, keys: &serde_json::Value) -> Result<()> {
    let patch = json!({"stringData": keys}).to_string();
    cluster.run(&["patch", secret, "--type=merge", "--patch", &patch], None)?;
    Ok(())
}

fn source_says(pair: &Pair, words: &str) -> Result<()> {
    pair.cluster.until(90, |cluster| {
        let status = &cluster.object("ReplicationSource/photos")?["status"];
        let told = status.to_string().contains(words);
        Ok((!told).then(|| format!("the source does not say that {words}: {status}")))
    })
}

#[test]
fn keys_swapped_in_the_middle_of_a_sync_are_those_of_the_next() {
    run("swapped", |pair| {
        let tag = pair.ask()?;
        pair.wait(&tag)?;
        let (source, destination) =
            (KeyPair::new(KeyKind::Ed25519), KeyPair::new(KeyKind::Ed25519));
        let of_source = "secret/volsync-rsync-dst-src-mirror";
        let of_destination = "secret/volsync-rsync-dst-dest-mirror";

        // A destination that listens has read its keys: this sync ends with those.
        let tag = pair.ask_destination()?;
        pair.cluster.until(60, |cluster| {
            let said = cluster.run(&["logs", "job/volsync-rsync-dst-mirror"], None);
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            Ok((!said.contains("waiting for a source")).then_some(said))
        })?;
        let others = json!({
            "destination": destination.private,
            "destination.pub": destination.public,
            "source.pub": source.public,
        });
        give(&pair.cluster, of_destination, &others)?;
        pair.ask_source(&tag)?;
        pair.wait(&tag)?;

        // The next has the new ones, which its source does not know yet.
        let tag = pair.ask()?;
        source_says(pair, "host key is not the one in destination.pub")?;
        let others = json!({
            "source": source.private,
            "source.pub": source.public,
            "destination.pub": destination.public,
        });
        give(&pair.cluster, of_source, &others)?;
        pair.wait(&tag)?;

        // A pair that the destination does not know.
        let unknown = KeyPair::new(KeyKind::Ed25519);
        let wrong = json!({"source": unknown.private, "source.pub": unknown.public});
        give(&pair.cluster, of_source, &wrong)?;
        let tag = pair.ask()?;
        source_says(pair, "does not accept the source's key")?;
        give(&pair.cluster, of_source, &others)?;
        pair.wait(&tag)
    });
}
