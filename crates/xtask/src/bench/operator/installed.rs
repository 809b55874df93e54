//! `Installed`: the operator that is installed, and its process on this machine.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use volsync_testing::scenario::Cluster;

use crate::bench::measure::Process;

const NAMESPACE: &str = "volsync-system";
/// Of several replicas, the one that holds this Lease works.
const LEASE: &str = "b95b3104.backube";
/// The operator's program in its image.
const PROGRAM: &str = "manager";

/// The operator that is installed.
#[derive(Debug)]
pub(super) struct Installed {
    version: String,
    image: String,
    pod: String,
    /// The ServiceAccount it runs as, in [`Self::namespace`].
    pub(super) account: String,
    /// Its process.
    pub(super) process: u32,
}

impl Installed {
    /// The replica that leads.
    pub(super) fn find(cluster: &Cluster) -> Result<Self> {
        let nobody =
            || format!("no replica that runs on this machine holds Lease {NAMESPACE}/{LEASE}");
        // For a moment after a new version was rolled out, one that is going holds it, or nobody does.
        cluster.until(60, |cluster| Ok(Self::leader(cluster)?.is_none().then(nobody)))?;
        Self::leader(cluster)?.with_context(nobody)
    }

    fn leader(cluster: &Cluster) -> Result<Option<Self>> {
        let get = |what: &str, name: &str| -> Result<Value> {
            let arguments = ["get", what, name, "--ignore-not-found", "--output", "json"];
            let found =
                cluster.run(&[&["--namespace", NAMESPACE][..], &arguments].concat(), None)?;
            Ok(if found.is_empty() { Value::Null } else { serde_json::from_str(&found)? })
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pod = text(&get("lease", LEASE)?["spec"]["holderIdentity"]);
        if pod.is_empty() {
            return Ok(None);
        }
        let running = get("pod", &pod)?;
        if running["metadata"]["deletionTimestamp"].is_string() {
            return Ok(None);
        }
        let container = &running["status"]["containerStatuses"][0];
        let id = text(&container["containerID"]);
        let id = id.rsplit('/').next().unwrap_or_default();
        // Every process would be in a container without a name.
        let Some(process) = Some(id).filter(|id| !id.is_empty()).and_then(process) else {
            return Ok(None);
        };
        let deployment = get("deployment", "volsync")?;
        Ok(Some(Self {
            version: text(&deployment["metadata"]["labels"]["app.kubernetes.io/version"]),
            image: format!("{} ({})", text(&container["image"]), text(&container["imageID"])),
            account: text(&running["spec"]["serviceAccountName"]),
            process,
            pod,
        }))
    }

    /// Where it runs.
    pub(super) const fn namespace(&self) -> &'static str {
        NAMESPACE
    }
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, image, pod, process, .. } = self;
        write!(f, "operator {version}, image {image}, pod {pod}, process {process}")
    }
}

/// The operator's process in a container.
fn process(container: &str) -> Option<u32> {
    let inside = |process: &Process| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.id));
        groups.is_ok_and(|groups| groups.contains(container))
    };
    let programs = Process::all().into_iter().filter(|process| process.name == PROGRAM);
    programs.filter(inside).map(|process| process.id).next()
}
