//! The `cluster` driver: claims of the test cluster as volumes, and the operator installed there.
//!
//! The cluster's CSI driver keeps volumes as directories of this machine (`test-e2e/cluster/hostdir`),
//! so they are filled and compared in place.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::volume::{Stamps, change, check_files, same, same_as_one, same_below, untouched};
use super::{Driver, Expect, Outcome, Status, Tree, Wait, contains, said, unmet};
use crate::as_user::Privilege;
use crate::compare;

const KINDS: [&str; 2] = ["ReplicationDestination", "ReplicationSource"];

/// One scenario's namespace.
#[derive(Debug)]
pub struct Cluster {
    kubectl: PathBuf,
    config: PathBuf,
    volumes: PathBuf,
    namespace: String,
    /// Replications as the scenario wrote them, by kind and name.
    replications: BTreeMap<(String, String), Value>,
    stamps: BTreeMap<String, Stamps>,
    syncs: u32,
}

impl Cluster {
    /// An empty namespace of the running test cluster.
    pub fn new(scenario: &str) -> Result<Self> {
        let cluster = Self::named(format!("{scenario}-{}", std::process::id()))?;
        // What the SSH mover needs is in baseline; the cluster's default is restricted.
        cluster.make(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": cluster.namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "baseline"},
            },
        }))?;
        Ok(cluster)
    }

    /// The namespace of this name in the running test cluster, whether it is there yet or not.
    pub fn named(namespace: String) -> Result<Self> {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let root = home.context("neither XDG_CACHE_HOME nor HOME is set")?.join("volsync/cluster");
        let cluster = Self {
            kubectl: root.join("bin/kubectl"),
            config: root.join("run/admin.kubeconfig"),
            volumes: root.join("run/csi/volumes"),
            namespace,
            replications: BTreeMap::new(),
            stamps: BTreeMap::new(),
            syncs: 0,
        };
        ensure!(
            cluster.config.is_file() && cluster.kubectl.is_file(),
            "the test cluster is not up: run cargo xtask cluster up, load-images and install"
        );
        Ok(cluster)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its kubeconfig.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// `kubectl` in the scenario's namespace, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(["--namespace", &self.namespace]).args(arguments);
        command.env("KUBECONFIG", &self.config);
        command
    }

    /// `kubectl` in the scenario's namespace.
    pub fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.command(arguments);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes an object what `manifest` says.
    pub fn make(&self, manifest: &Value) -> Result<()> {
        let text = self.with_uids(&manifest.to_string())?;
        let arguments =
            ["apply", "--server-side", "--force-conflicts", "--field-manager=scenario", "-f", "-"];
        self.run(&arguments, Some(&text))?;
        Ok(())
    }

    /// `${uid:KIND/NAME}` in a text is the UID of that object, for owner references and labels.
    fn with_uids(&self, text: &str) -> Result<String> {
        let mut parts = text.split("${uid:");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (of, rest) = part.split_once('}').context("${uid: has no end")?;
            let object = self.object(of)?;
            let uid = object["metadata"]["uid"].as_str();
            filled.push_str(uid.with_context(|| format!("there is no {of}"))?);
            filled.push_str(rest);
        }
        Ok(filled)
    }

    /// An object as `KIND/NAME`; null when there is none.
    pub fn object(&self, of: &str) -> Result<Value> {
        let text = self.run(&["get", of, "--ignore-not-found", "--output", "json"], None)?;
        if text.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// All objects of a kind.
    pub fn objects(&self, kind: &str) -> Result<Vec<Value>> {
        let text = self.run(&["get", kind, "--output", "json"], None)?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until `look` sees what it waits for; it says what it saw instead.
    pub fn until(
        &self,
        seconds: u64,
        look: impl Fn(&Self) -> Result<Option<String>>,
    ) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(seconds);
        while let Some(instead) = look(self)? {
            ensure!(
                Instant::now() < patience,
                "after {seconds} s: {instead}\n{}",
                self.all_there_is()
            );
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The namespace for whoever reads of a failure.
    pub fn all_there_is(&self) -> String {
        let what =
            "replicationsources,replicationdestinations,jobs,pods,pvc,volumesnapshots,events";
        let shown = self.run(&["get", what], None).unwrap_or_else(|error| error.to_string());
        let said = self.said().unwrap_or_else(|error| error.to_string());
        format!("{shown}\n{said}")
    }

    /// Where the volume of a claim is on this machine.
    pub fn volume(&self, claim: &str) -> Result<PathBuf> {
        self.until(60, |cluster| {
            let phase = cluster.object(&format!("pvc/{claim}"))?["status"]["phase"].clone();
            Ok((phase != "Bound").then(|| format!("claim {claim} is {phase}, not bound")))
        })?;
        let name = self.object(&format!("pvc/{claim}"))?["spec"]["volumeName"].clone();
        let volume = self.object(&format!("pv/{}", name.as_str().unwrap_or_default()))?;
        let handle = volume["spec"]["csi"]["volumeHandle"].as_str().context("no CSI volume")?;
        let directory = self.volumes.join(handle);
        let data = directory.join("data");
        Ok(if data.is_dir() { data } else { directory.join("mnt") })
    }

    /// Runs a pod that uses a claim, so that its file system is mounted.
    pub fn hold(&self, claim: &str) -> Result<()> {
        let pod = format!("uses-{claim}");
        self.make(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "holder",
                    "image": "gcr.io/distroless/static:debug",
                    "command": ["/busybox/sleep", "86400"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            },
        }))?;
        self.until(60, |cluster| {
            let phase = cluster.object(&format!("pod/{pod}"))?["status"]["phase"].clone();
            Ok((phase != "Running").then(|| format!("pod {pod} is {phase}, not running")))
        })
    }

    /// Applies what the scenario wrote; with a tag, it syncs for that tag in place of its trigger.
    fn apply_replications(&self, tag: Option<&str>) -> Result<()> {
        for manifest in self.replications.values() {
            let mut manifest = manifest.clone();
            if let Some(tag) = tag {
                manifest["spec"]["trigger"] = json!({"manual": tag});
            }
            self.make(&manifest)?;
        }
        Ok(())
    }

    /// One sync of everything; whether all succeeded.
    fn sync(&mut self) -> Result<bool> {
        self.syncs += 1;
        let tag = format!("scenario-{}", self.syncs);
        let failures: Vec<Value> = self
            .statuses()?
            .into_iter()
            .map(|(_, status)| status["latestMoverStatus"].clone())
            .collect();
        self.apply_replications(Some(&tag))?;
        let patience = Instant::now() + Duration::from_secs(150);
        loop {
            let statuses = self.statuses()?;
            if statuses.iter().all(|(_, status)| status["lastManualSync"] == tag.as_str()) {
                return Ok(true);
            }
            let failed = statuses.iter().zip(&failures).any(|((_, status), before)| {
                let latest = &status["latestMoverStatus"];
                latest["result"] == "Failed" && latest != before
            });
            if failed {
                return Ok(false);
            }
            ensure!(Instant::now() < patience, "the sync is stuck\n{}", self.all_there_is());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn statuses(&self) -> Result<Vec<(String, Value)>> {
        let mut statuses = Vec::new();
        for (kind, name) in self.replications.keys() {
            let of = format!("{kind}/{name}");
            let status = self.object(&of)?["status"].clone();
            statuses.push((of, status));
        }
        Ok(statuses)
    }

    /// What users can read about the replications.
    fn said(&self) -> Result<String> {
        let mut said = String::new();
        for (of, status) in self.statuses()? {
            said.push_str(&format!("{of}: {status}\n"));
        }
        Ok(said)
    }

    fn unmet(&self, wanted: &Status) -> Result<Option<String>> {
        let status = self.object(&wanted.of)?["status"].clone();
        let unmet = unmet(&status, wanted);
        Ok((!unmet.is_empty())
            .then(|| format!("{}: {}; its status is {status}", wanted.of, unmet.join(", "))))
    }

    fn remember_stamps(&mut self) -> Result<()> {
        let names: Vec<String> = self.stamps.keys().cloned().collect();
        for name in names {
            let stamps = compare::stamps(&self.volume(&name)?);
            self.stamps.insert(name, stamps);
        }
        Ok(())
    }
}

impl Driver for Cluster {
    fn apply(&mut self, manifest: &Value) -> Result<()> {
        let text = |pointer| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind").to_owned(), text("/metadata/name").to_owned());
        if KINDS.contains(&kind.as_str()) {
            // Not before something is waited for: what comes first in a file is there first.
            self.replications.insert((kind, name), manifest.clone());
            return Ok(());
        }
        self.make(manifest)
    }

    fn tree(&mut self, tree: &Tree) -> Result<()> {
        let name = &tree.volume;
        if !self.stamps.contains_key(name) {
            let size = tree.size.unwrap_or(64 << 20).to_string();
            let mut claim = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": size}},
                },
            });
            if tree.size.is_some() {
                // Each volume of this class is a file system of its own, which can be full.
                claim["spec"]["storageClassName"] = json!("csi-ext4");
            }
            self.make(&claim)?;
            if tree.size.is_some() {
                self.hold(name)?;
            }
            self.stamps.insert(name.clone(), Stamps::new());
        }
        change(&self.volume(name)?, tree, Privilege::Root)
    }

    fn wait(&mut self, wait: &Wait) -> Result<()> {
        self.remember_stamps()?;
        match wait {
            Wait::Sync(outcome) => {
                let succeeded = self.sync()?;
                ensure!(
                    succeeded == (*outcome == Outcome::Succeeds),
                    "expected that it {outcome:?}\n{}",
                    self.said()?
                );
            }
            Wait::Until(wanted) => {
                self.apply_replications(None)?;
                self.until(wanted.timeout, |cluster| cluster.unmet(wanted))?;
            }
            Wait::Seconds(seconds) => {
                self.apply_replications(None)?;
                thread::sleep(Duration::from_secs_f64(*seconds));
            }
            Wait::Files(files) => {
                self.apply_replications(None)?;
                self.until(60, |cluster| {
                    let found = check_files(&cluster.volume(&files.volume)?, files);
                    Ok(found.err().map(|error| format!("{error:#}")))
                })?;
            }
            Wait::Object(wanted) => self.until(60, |cluster| {
                let found = cluster.objects(&wanted.kind)?;
                let there = found.iter().any(|object| contains(object, &wanted.has));
                Ok((!there).then(|| format!("no {} has {}", wanted.kind, wanted.has)))
            })?,
            // The provisioner that could not take its finalizer off a snapshot, as somebody else wrote to
            // it, looks again only every few minutes.
            Wait::Count(all) => self.until(330, |cluster| {
                for (kind, wanted) in all {
                    let found = cluster.objects(kind)?.len();
                    if found != *wanted {
                        return Ok(Some(format!("there are {found} {kind}s, not {wanted}")));
                    }
                }
                Ok(None)
            })?,
        }
        Ok(())
    }

    fn expect(&mut self, expect: &Expect) -> Result<()> {
        match expect {
            Expect::Same([a, b]) => same(&self.volume(a)?, &self.volume(b)?)
                .with_context(|| self.said().unwrap_or_default())?,
            Expect::SameBelow([a, b]) => same_below(&self.volume(a)?, &self.volume(b)?)
                .with_context(|| self.said().unwrap_or_default())?,
            Expect::SameAsOne { volume, of } => {
                let of: Vec<PathBuf> =
                    of.iter().map(|name| self.volume(name)).collect::<Result<_>>()?;
                same_as_one(&self.volume(volume)?, &of)?;
            }
            Expect::Untouched(name) => {
                let before = self.stamps.get(name).context("nothing was waited for yet")?;
                untouched(&self.volume(name)?, before)?;
            }
            Expect::Files(files) => check_files(&self.volume(&files.volume)?, files)?,
            Expect::Status(wanted) => {
                if let Some(unmet) = self.unmet(wanted)? {
                    bail!("{unmet}");
                }
            }
            Expect::Said(words) => said(&self.said()?, words)?,
        }
        Ok(())
    }

    fn kubectl(&mut self, arguments: &[String]) -> Result<()> {
        if let [verb, kind, name, ..] = arguments
            && verb == "delete"
        {
            self.replications.retain(|(known, own), _| known != kind || own != name);
        }
        let arguments = arguments
            .iter()
            .map(|text| self.with_uids(&text.replace("$NAMESPACE", &self.namespace)))
            .collect::<Result<Vec<String>>>()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run(&arguments, None)?;
        Ok(())
    }

    fn address(&self) -> Result<IpAddr> {
        let of_node = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        let address = self.run(&["get", "nodes", "--output", of_node], None)?;
        address.parse().with_context(|| format!("the node's address is {address:?}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What cannot be deleted now goes with the cluster.
        if let Err(error) = self.run(
            &["delete", "namespace", &self.namespace, "--ignore-not-found", "--wait=false"],
            None,
        ) {
            eprintln!("namespace {} stays: {error:#}", self.namespace);
        }
    }
}
