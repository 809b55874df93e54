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
        let get = |what: &str, name: &str| -> Result<Value> {
            let arguments = ["--namespace", NAMESPACE, "get", what, name, "--output", "json"];
            Ok(serde_json::from_str(&cluster.run(&arguments, None)?)?)
        };
        let leader = || -> Result<Option<String>> {
            let holder = get("lease", LEASE)?["spec"]["holderIdentity"].take();
            Ok(holder.as_str().filter(|holder| !holder.is_empty()).map(str::to_owned))
        };
        // Nobody leads for a moment after a new version was rolled out.
        cluster.until(60, |_| {
            Ok(leader()?.is_none().then(|| format!("nobody holds Lease {NAMESPACE}/{LEASE}")))
        })?;
        let pod = leader()?.with_context(|| format!("nobody holds Lease {NAMESPACE}/{LEASE}"))?;
        let deployment = get("deployment", "volsync")?;
        let version = &deployment["metadata"]["labels"]["app.kubernetes.io/version"];
        let running = get("pod", &pod)?;
        let container = &running["status"]["containerStatuses"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = text(&container["containerID"]);
        let id = id.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            version: text(version),
            image: format!("{} ({})", text(&container["image"]), text(&container["imageID"])),
            account: text(&running["spec"]["serviceAccountName"]),
            process: process(id).with_context(|| {
                format!("pod {NAMESPACE}/{pod} has no process called {PROGRAM} on this machine")
            })?,
            pod,
        })
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
