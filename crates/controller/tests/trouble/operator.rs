//! Operators of this build, started as processes, while the installed one rests.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, RwLock, Weak};

use anyhow::{Context, Result};
use volsync_testing::peers;
use volsync_testing::scenario::Cluster;

/// Held for reading by who needs the cluster whole, for writing by who breaks it.
pub(crate) static WHOLE: RwLock<()> = RwLock::new(());

/// The installed operator rests while any of these lives.
pub(crate) struct Resting(Cluster);

static RESTING: Mutex<Weak<Resting>> = Mutex::new(Weak::new());

impl Resting {
    /// Sends the installed operator to rest, unless it rests already.
    pub(crate) fn start() -> Result<Arc<Self>> {
        let mut known = RESTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(resting) = known.upgrade() {
            return Ok(resting);
        }
        let resting = Arc::new(Self(Cluster::new("resting")?));
        scale(&resting.0, 0)?;
        resting.0.until(180, |cluster| {
            let pods = cluster
                .run(&["--namespace", "volsync-system", "get", "pods", "--output", "name"], None)?;
            Ok((!pods.trim().is_empty()).then(|| format!("there is still {pods}")))
        })?;
        *known = Arc::downgrade(&resting);
        Ok(resting)
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let Err(error) = scale(&self.0, 1) {
            eprintln!("the operator stays scaled down: {error:#}");
        }
    }
}

fn scale(cluster: &Cluster, replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let arguments = ["--namespace", "volsync-system", "scale", "deployment/volsync", &replicas];
    cluster.run(&arguments, None)?;
    Ok(())
}

/// An operator of this build that looks at one namespace.
pub(crate) struct Operator(Child);

impl Operator {
    /// Starts one with further arguments, called `name` in its Lease.
    pub(crate) fn start(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("{}.log", cluster.namespace()));
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(peers::own_binary("volsync-controller"))
            .args(["--health-probe-bind-address=0", "--watch-namespace", cluster.namespace()])
            .args(arguments)
            .env("KUBECONFIG", cluster.config())
            .env("HOSTNAME", name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start volsync-controller")?;
        Ok(Self(child))
    }

    /// Sends it a signal, as `TERM`.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        send(signal, self.0.id())
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> Result<ExitStatus> {
        self.0.wait().context("cannot wait for an operator")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = killed {
            eprintln!("an operator may still run: {error}");
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn send(signal: &str, process: u32) -> Result<()> {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let signal = match signal {
        "TERM" => rustix::process::Signal::TERM,
        "KILL" => rustix::process::Signal::KILL,
        "STOP" => rustix::process::Signal::STOP,
        "CONT" => rustix::process::Signal::CONT,
        other => anyhow::bail!("no test sends {other}"),
    };
    rustix::process::kill_process(process.context("no such process")?, signal)?;
    Ok(())
}
