//! How long a sync takes from its manual trigger to `lastManualSync`, and what of that is ours.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;
use volsync_contract::Direction;
use volsync_testing::scenario::Cluster;

use super::pair::{Pair, claim, list};
use super::spread::Spread;
use super::trace::{Parts, Trace};
use super::watch::Watches;
use super::{Finding, Row};

/// What a sync moves.
const BYTES: usize = 10 << 20;
/// The longest a sync may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(180);
const GOAL: Duration = Duration::from_secs(5);
const OWN_GOAL: Duration = Duration::from_millis(500);
const BARE_CLAIM: &str = "bare";

/// One sync of both ends.
struct Run {
    /// From the start of `kubectl apply` until both ends say so.
    total: Duration,
    /// Until the API server had both triggers.
    apply: Duration,
    source: Parts,
    destination: Parts,
}

impl Run {
    /// Our own share at the end where it is larger.
    fn own(&self) -> Duration {
        self.source.own().max(self.destination.own())
    }
}

/// Times syncs with copyMethod Direct and Snapshot, and a bare pod beside them.
pub(super) fn latency(cluster: &Cluster, runs: u32) -> Result<Finding> {
    let kinds = [
        "replicationsources",
        "replicationdestinations",
        "jobs",
        "pods",
        "persistentvolumeclaims",
        "volumesnapshots",
    ];
    let mut watches = Watches::start(cluster, &kinds)?;
    let mut pairs =
        [Pair::new(cluster, "direct", "Direct")?, Pair::new(cluster, "snapshot", "Snapshot")?];
    cluster.make(&claim(BARE_CLAIM))?;
    let mut first = Vec::new();
    for pair in &mut pairs {
        first.push(sync(cluster, &mut watches, pair, 0)?);
    }
    let mut bare = Vec::new();
    let mut all = [Vec::new(), Vec::new()];
    for run in 1..=runs {
        bare.push(bare_pod(cluster, &mut watches, run)?);
        for (pair, runs) in pairs.iter_mut().zip(&mut all) {
            runs.push(sync(cluster, &mut watches, pair, run)?);
        }
        eprintln!("latency: {run} of {runs} runs");
    }
    let mut finding = Finding::default();
    for ((pair, runs), first) in pairs.iter().zip(&all).zip(&first) {
        judge(&mut finding, &pair.name, runs, first);
    }
    if let Some(spread) = Spread::of(bare.iter().copied()) {
        let what = "a bare pod with a volume that ends at once";
        finding.rows.push(Row::without_goal(what, spread.to_string()));
    }
    finding.raw.push(("seconds of each run".to_owned(), each_run(&bare, &all)));
    Ok(finding)
}

fn judge(finding: &mut Finding, name: &str, runs: &[Run], first: &Run) {
    let spread = |part: &dyn Fn(&Run) -> Duration| Spread::of(runs.iter().map(part));
    let (Some(total), Some(own)) = (spread(&|run| run.total), spread(&Run::own)) else { return };
    let what = format!("{name}: from kubectl apply to lastManualSync of both ends");
    let reached = total.median < GOAL;
    finding.rows.push(Row::with_goal(&what, total.to_string(), "< 5 s", reached));
    let what = format!("{name}: of that ours, at the end where it is more");
    let reached = own.median < OWN_GOAL;
    finding.rows.push(Row::with_goal(&what, own.to_string(), "< 0.5 s", reached));
    let what = format!("{name}: the first sync, for which keys and address are made");
    let figure = format!("{:.2} s", first.total.as_secs_f64());
    finding.rows.push(Row::without_goal(&what, figure));

    let mut parts = vec![crate::table::row(["part", "source", "destination"])];
    let told = |part: &dyn Fn(&Run) -> Duration| {
        spread(part).map(|spread| spread.to_string()).unwrap_or_default()
    };
    let apply = told(&|run| run.apply);
    parts.push(vec!["kubectl apply, of both".to_owned(), apply.clone(), apply]);
    let mut add = |name: &str, part: fn(&Parts) -> Duration| {
        let cells = [told(&|run| part(&run.source)), told(&|run| part(&run.destination))];
        parts.push([name.to_owned()].into_iter().chain(cells).collect());
    };
    add("decision: accepted -> Job, ours", |parts| parts.decision);
    add("storage: snapshot ready, copy bound", |parts| parts.storage);
    add("pod start: Job -> running", |parts| parts.pod_start);
    add("transfer: running -> terminated", |parts| parts.transfer);
    add("Job controller: terminated -> Job complete, if waited for", |parts| parts.job_controller);
    add("record: the rest until lastManualSync, ours", |parts| parts.record);
    add("our own share: decision, Job controller, record", Parts::own);
    finding.raw.push((format!("{name}: median (least to most) of each part"), parts));
}

fn each_run(bare: &[Duration], all: &[Vec<Run>; 2]) -> Vec<Vec<String>> {
    let mut rows =
        vec![crate::table::row(["run", "bare pod", "direct", "ours", "snapshot", "ours"])];
    let [direct, snapshot] = all;
    for (at, ((bare, direct), snapshot)) in bare.iter().zip(direct).zip(snapshot).enumerate() {
        let times = [*bare, direct.total, direct.own(), snapshot.total, snapshot.own()];
        let times = times.map(|time| format!("{:.3}", time.as_secs_f64()));
        rows.push([(at + 1).to_string()].into_iter().chain(times).collect());
    }
    rows
}

/// One sync, verified, and what it left gone.
fn sync(cluster: &Cluster, watches: &mut Watches, pair: &mut Pair, run: u32) -> Result<Run> {
    pair.renew(BYTES)?;
    let tag = format!("run-{run}");
    let known = watches.known()?;
    let mut ends = [Direction::Source, Direction::Destination]
        .map(|direction| Trace::new(direction, &pair.name, &tag, known.clone()));
    let start = Instant::now();
    cluster.make(&list(pair.replications(&json!({"manual": tag}))))?;
    while !ends.iter().all(Trace::is_at_rest) {
        let Some(seen) = watches.next(start + PATIENCE)? else {
            bail!(
                "{}: not over after {} s\n{}",
                pair.name,
                PATIENCE.as_secs(),
                cluster.all_there_is()
            );
        };
        for end in &mut ends {
            end.see(&seen);
            if let Some(failure) = end.failure() {
                bail!("{}: a mover failed: {failure}", pair.name);
            }
        }
    }
    pair.verify()?;
    let [source, destination] = &ends;
    Ok(Run {
        total: source.synced()?.max(destination.synced()?).saturating_duration_since(start),
        apply: source.accepted()?.max(destination.accepted()?).saturating_duration_since(start),
        source: source.parts()?,
        destination: destination.parts()?,
    })
}

/// A pod with a volume that ends at once: from `kubectl apply` until the cluster says that it ended.
fn bare_pod(cluster: &Cluster, watches: &mut Watches, run: u32) -> Result<Duration> {
    let name = format!("bare-{run}");
    watches.known()?;
    let start = Instant::now();
    cluster.make(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "bare",
                "image": "gcr.io/distroless/static:debug",
                "command": ["/busybox/true"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": BARE_CLAIM}},
            ],
        },
    }))?;
    loop {
        let Some(seen) = watches.next(start + PATIENCE)? else {
            bail!("pod {name} did not end in {} s\n{}", PATIENCE.as_secs(), cluster.all_there_is());
        };
        if seen.text("/metadata/name") == name && seen.text("/status/phase") == "Succeeded" {
            return Ok(seen.at.saturating_duration_since(start));
        }
    }
}
