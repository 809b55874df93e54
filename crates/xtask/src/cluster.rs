//! The project's own one-node Kubernetes, by the scripts in `test-e2e/cluster`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::args::{ClusterOptions, ClusterVerb};
use crate::command::{run, succeeds};
use crate::setup::{self, Need};
use crate::{args, image, repository};

/// Carries out one verb.
pub(crate) fn cluster(options: &ClusterOptions) -> Result<()> {
    match options.verb {
        ClusterVerb::Up => {
            setup::setup(vec![Need::Cluster])?;
            TestCluster::build()?;
            script("up.sh", &[])
        }
        ClusterVerb::Down { purge: true } => script("down.sh", &["--purge"]),
        ClusterVerb::Down { purge: false } => script("down.sh", &[]),
        ClusterVerb::Status => script("status.sh", &[]),
        ClusterVerb::LoadImages => {
            image::for_each_archive(|archive| script("import.sh", &[&archive.to_string_lossy()]))
        }
        // The only verb that another cluster's KUBECONFIG is meant for.
        ClusterVerb::Install => run(&mut command("install.sh", &[])?),
        ClusterVerb::Check => script("check.sh", &[]),
        ClusterVerb::Sanity => {
            setup::setup(vec![Need::Cluster])?;
            script("build.sh", &["--if-missing", "hostdir", "csi-sanity"])?;
            script("sanity.sh", &[])
        }
    }
}

/// The cluster with the operator of this checkout, for as long as the tests run.
#[derive(Debug)]
pub(crate) struct TestCluster {
    started: bool,
}

impl TestCluster {
    /// Builds its programs, where one is missing or would be another.
    pub(crate) fn build() -> Result<()> {
        script("build.sh", &["--if-missing"])
    }

    /// Starts it unless it runs, and installs the operator. What is missing was set up before.
    pub(crate) fn start() -> Result<Self> {
        Self::build()?;
        let started = script("status.sh", &[]).is_err();
        if started {
            script("up.sh", &[])?;
        }
        let cluster = Self { started };
        image::for_each_archive(|archive| script("import.sh", &[&archive.to_string_lossy()]))?;
        script("install.sh", &[])?;
        Ok(cluster)
    }

    /// The one that runs, with the operator that is installed there; [`Self::start`] if there is none.
    pub(crate) fn installed() -> Result<Self> {
        let root = repository::cache()?.join("cluster");
        let mut kubectl = Command::new(root.join("bin/kubectl"));
        kubectl.env("KUBECONFIG", root.join("run/admin.kubeconfig"));
        kubectl.args(["--namespace", "volsync-system", "wait", "--timeout", "10s"]);
        kubectl.args(["--for", "condition=Available", "deployment/volsync"]);
        if succeeds(&mut kubectl) {
            return Ok(Self { started: false });
        }
        setup::setup(vec![Need::Image, Need::Cluster])?;
        Self::start()
    }

    /// Takes it down with everything in it, unless somebody else had started it.
    pub(crate) fn stop(self) -> Result<()> {
        if self.started { script("down.sh", &["--purge"]) } else { Ok(()) }
    }
}

/// Runs a script on the project's own cluster, whatever cluster the user works with.
fn script(name: &str, arguments: &[&str]) -> Result<()> {
    run(command(name, arguments)?.env_remove("KUBECONFIG"))
}

/// A script of the cluster, which also finds what only root has on its path.
fn command(name: &str, arguments: &[&str]) -> Result<Command> {
    let script: PathBuf = repository::root().join("test-e2e/cluster").join(name);
    let path = std::env::join_paths(args::search_path())?;
    let mut command = Command::new(script);
    command.args(arguments).env("PATH", path);
    Ok(command)
}
