//! What sources cost that wait for their schedules: memory, processor time, requests.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use volsync_testing::scenario::Cluster;

use super::installed::Installed;
use super::pair::{claim, list};
use super::{Finding, Row, is_at_rest};
use crate::bench::measure::{Process, resident_memory};
use crate::table;

/// How long they are watched.
const WINDOW: Duration = Duration::from_secs(60);
/// How long the operator is left alone before.
const SETTLE: Duration = Duration::from_secs(20);
const MEMORY_GOAL: u64 = 40 << 20;
const PROCESSOR_GOAL: f64 = 0.2;
/// Once a year.
const SCHEDULE: &str = "0 0 1 1 *";
const SOURCES: &str = "replicationsources.volsync.backube";

/// Measures the operator while `count` sources, each of a claim of its own, wait.
pub(super) fn idle(cluster: &Cluster, operator: &Installed, count: usize) -> Result<Finding> {
    let others = replications_of_others(cluster)?;
    if others > 0 {
        eprintln!("idle: {others} replications of other namespaces are in these figures too");
    }
    let before = resident(operator)?;
    let counted = Requests::count(cluster, operator)?;
    bring_to_rest(cluster, count)?;
    eprintln!("idle: {count} sources are at rest; watching for {} s", WINDOW.as_secs());
    thread::sleep(SETTLE);

    let (requests, start) = (counted.so_far()?, Instant::now());
    ensure!(
        requests[0] >= count as u64,
        "the API server counted {} writes of the operator, which wrote {count} statuses",
        requests[0]
    );
    let processor = Process::read(operator.process).context("the operator has ended")?.own;
    let mut memory = 0;
    while start.elapsed() < WINDOW {
        memory = memory.max(resident(operator)?);
        thread::sleep(Duration::from_secs(1));
    }
    let used = Process::read(operator.process).context("the operator has ended")?.own - processor;
    let elapsed = start.elapsed();
    let made = counted.so_far()?;
    let [writes, lease, reads] = [0, 1, 2].map(|at| made[at] - requests[at]);
    ensure!(lease > 0, "the Lease was not renewed: these are not the requests of the operator");

    let share = 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
    let what = |what: &str| format!("{count} idle sources: {what}");
    let goal = format!("<= {}", table::bytes(MEMORY_GOAL));
    let memory_row = Row::with_goal(
        &what("most resident memory of the operator"),
        table::bytes(memory),
        &goal,
        memory <= MEMORY_GOAL,
    );
    let processor_row = Row::with_goal(
        &what("processor time of the operator"),
        format!("{share:.3} % of a core"),
        &format!("<= {PROCESSOR_GOAL} %"),
        share <= PROCESSOR_GOAL,
    );
    let writes_row = Row::with_goal(
        &what("writes of the operator in a minute, but to its Lease"),
        writes.to_string(),
        "0",
        writes == 0,
    );
    let raw = vec![
        table::row(["of the operator", "figure"]),
        vec!["replications of other namespaces".to_owned(), others.to_string()],
        vec!["resident memory before there were any".to_owned(), table::bytes(before)],
        vec!["most resident memory with them".to_owned(), table::bytes(memory)],
        vec!["processor time".to_owned(), format!("{:.3} s", used.as_secs_f64())],
        vec!["seconds watched".to_owned(), format!("{:.1} s", elapsed.as_secs_f64())],
        vec!["writes".to_owned(), writes.to_string()],
        vec!["requests for its Lease".to_owned(), lease.to_string()],
        vec!["reads, watches begun anew included".to_owned(), reads.to_string()],
    ];
    Ok(Finding {
        rows: vec![memory_row, processor_row, writes_row],
        raw: vec![("idle sources".to_owned(), raw)],
    })
}

fn resident(operator: &Installed) -> Result<u64> {
    resident_memory(operator.process).context("the operator has ended")
}

/// How many replications there are that are not ours, which may not be idle.
fn replications_of_others(cluster: &Cluster) -> Result<usize> {
    let kinds = format!("{SOURCES},replicationdestinations.volsync.backube");
    let names = cluster.run(&["get", &kinds, "--all-namespaces", "--output", "name"], None)?;
    Ok(names.lines().count())
}

/// Makes sources that have synchronized, as far as their status says, and leaves everything else of
/// the status to the operator: it brings them to rest as it does after a real sync.
fn bring_to_rest(cluster: &Cluster, count: usize) -> Result<()> {
    let names: Vec<String> = (0..count).map(|number| format!("idle-{number:03}")).collect();
    cluster.make(&list(names.iter().map(|name| claim(name))))?;
    let sources = names.iter().map(|name| {
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": "ReplicationSource",
            "metadata": {"name": name},
            "spec": {
                "paused": true,
                "sourcePVC": name,
                "trigger": {"schedule": SCHEDULE},
                "rsync": {"copyMethod": "Snapshot", "address": "192.0.2.1"},
            },
        })
    });
    cluster.make(&list(sources))?;
    cluster.until(300, |cluster| {
        let bound = cluster.objects("persistentvolumeclaims")?;
        let bound = bound.iter().filter(|claim| claim["status"]["phase"] == "Bound").count();
        Ok((bound < count).then(|| format!("{bound} of {count} claims are bound")))
    })?;
    let namespace = cluster.object(&format!("namespace/{}", cluster.namespace()))?;
    // A time that has passed, in the API's form.
    let passed = &namespace["metadata"]["creationTimestamp"];
    patch(
        cluster,
        &names,
        &json!({"status": {"lastSyncTime": passed}}),
        &["--subresource=status"],
    )?;
    patch(cluster, &names, &json!({"spec": {"paused": null}}), &[])?;
    cluster.until(300, |cluster| {
        let idle = cluster.objects(SOURCES)?;
        let idle = idle.iter().filter(|source| is_idle(source)).count();
        Ok((idle < count).then(|| format!("{idle} of {count} sources are at rest")))
    })
}

/// At rest, free to start, and with its next time far off.
fn is_idle(source: &Value) -> bool {
    is_at_rest(source)
        && source["spec"]["paused"].is_null()
        && source["status"]["nextSyncTime"].is_string()
}

fn patch(cluster: &Cluster, names: &[String], patch: &Value, more: &[&str]) -> Result<()> {
    let patch = patch.to_string();
    let mut arguments = vec!["patch", SOURCES, "--type", "merge", "--patch", &patch];
    arguments.extend(more);
    arguments.extend(names.iter().map(String::as_str));
    cluster.run(&arguments, None)?;
    Ok(())
}

/// Counts the operator's requests: the API server counts by FlowSchema (API priority and fairness),
/// so there is one for each kind of request, for the operator's account alone.
struct Requests<'a> {
    cluster: &'a Cluster,
}

/// Writes, whatever is asked of the Lease, and all else.
const SCHEMAS: [&str; 3] =
    ["bench-operator-writes", "bench-operator-lease", "bench-operator-reads"];

impl<'a> Requests<'a> {
    /// Counts from now on.
    fn count(cluster: &'a Cluster, operator: &Installed) -> Result<Self> {
        let requests = Self { cluster };
        let writes = json!(["create", "update", "patch", "delete", "deletecollection"]);
        let [on_writes, on_lease, on_reads] = SCHEMAS;
        cluster.make(&list([
            schema(operator, on_lease, 301, &json!(["*"]), "leases"),
            schema(operator, on_writes, 302, &writes, "*"),
            schema(operator, on_reads, 303, &json!(["*"]), "*"),
        ]))?;
        Ok(requests)
    }

    /// How many there were, in the order of [`SCHEMAS`].
    fn so_far(&self) -> Result<[u64; 3]> {
        let metrics = self.cluster.run(&["get", "--raw", "/metrics"], None)?;
        Ok(SCHEMAS.map(|schema| dispatched(&metrics, schema)))
    }
}

impl Drop for Requests<'_> {
    fn drop(&mut self) {
        let mut arguments = vec!["delete", "flowschema", "--ignore-not-found"];
        arguments.extend(SCHEMAS);
        if let Err(error) = self.cluster.run(&arguments, None) {
            eprintln!("FlowSchemas {} stay: {error:#}", SCHEMAS.join(", "));
        }
    }
}

/// Requests of the operator's account with these verbs on this resource, treated as all accounts'.
fn schema(
    operator: &Installed,
    name: &str,
    precedence: u32,
    verbs: &Value,
    resource: &str,
) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {
                        "namespace": operator.namespace(),
                        "name": operator.account,
                    },
                }],
                "resourceRules": [{
                    "verbs": verbs,
                    "apiGroups": ["*"],
                    "resources": [resource],
                    "namespaces": ["*"],
                    "clusterScope": true,
                }],
            }],
        },
    })
}

/// How many requests of a FlowSchema were let through, by the API server's metrics.
fn dispatched(metrics: &str, schema: &str) -> u64 {
    let label = format!("flow_schema=\"{schema}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("apiserver_flowcontrol_dispatched_requests_total{")
            && line.contains(&label)
    });
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_their_flow_schema() {
        let metrics = r#"
# TYPE apiserver_flowcontrol_dispatched_requests_total counter
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-operator-writes",priority_level="workload-low"} 3
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-operator-reads",priority_level="workload-low"} 1.2e+06
apiserver_flowcontrol_rejected_requests_total{flow_schema="bench-operator-writes",priority_level="workload-low"} 7
"#;
        assert_eq!(dispatched(metrics, "bench-operator-writes"), 3);
        assert_eq!(dispatched(metrics, "bench-operator-reads"), 1_200_000);
        assert_eq!(dispatched(metrics, "bench-operator-lease"), 0);
    }

    #[test]
    fn a_source_is_idle_once_the_operator_says_so() {
        let source = json!({
            "spec": {},
            "status": {
                "nextSyncTime": "2030-01-01T00:00:00Z",
                "conditions": [{"reason": "WaitingForSchedule"}],
            },
        });
        assert!(is_idle(&source));
        assert!(!is_idle(&json!({"spec": {"paused": true}, "status": source["status"]})));
        assert!(!is_idle(&json!({"spec": {}})));
    }
}
