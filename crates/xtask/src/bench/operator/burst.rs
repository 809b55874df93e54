//! How long it takes until all pairs are done that are due in the same minute.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use volsync_testing::scenario::Cluster;

use super::pair::{Pair, list};
use super::spread::Spread;
use super::watch::{Seen, Watches};
use super::{Finding, Row, is_at_rest};
use crate::table;

/// What each pair moves.
const BYTES: usize = 64 << 10;
const GOAL: Duration = Duration::from_secs(85);
/// The longest that all may take before they count as stuck.
const PATIENCE: Duration = Duration::from_secs(600);
/// The least time between naming the minute and its beginning.
const NOTICE: u64 = 15;
const KINDS: [&str; 2] = ["ReplicationSource", "ReplicationDestination"];

/// Makes `count` pairs, lets them sync once, and then again in one minute.
pub(super) fn burst(cluster: &Cluster, count: usize) -> Result<Finding> {
    let mut pairs = Vec::new();
    for number in 0..count {
        pairs.push(Pair::new(cluster, &format!("pair-{number:02}"), "Direct")?);
    }
    for pair in &mut pairs {
        pair.renew(BYTES)?;
    }
    let mut watches = Watches::start(cluster, &["replicationsources", "replicationdestinations"])?;

    // The first sync starts with the replication, whatever its schedule; the next is half an hour off.
    let far = schedule(now()?.as_secs() / 60 + 30);
    let began = Instant::now();
    cluster.make(&list(pairs.iter().flat_map(|pair| pair.replications(&far))))?;
    let first = all_done(cluster, &mut watches, count, began, &|seen| {
        is_at_rest(&seen.object) && !seen.text("/status/lastSyncTime").is_empty()
    })?;
    for pair in &pairs {
        pair.verify()?;
    }
    eprintln!("burst: {count} pairs have synchronized once");

    for pair in &mut pairs {
        pair.renew(BYTES)?;
    }
    let minute = due_minute(cluster, &pairs)?;
    let due_in = Duration::from_secs(minute * 60).saturating_sub(now()?);
    ensure!(!due_in.is_zero(), "it took longer than {NOTICE} s to name the minute");
    eprintln!("burst: all are due in {} s", due_in.as_secs());
    let due = Instant::now() + due_in;
    let before = statuses(cluster)?;
    // What has changed up to now is not the sync that is waited for.
    thread::sleep(due_in);
    let done = all_done(cluster, &mut watches, count, due, &|seen| {
        let key = key(seen);
        let last = seen.text("/status/lastSyncTime");
        before.get(&key).is_some_and(|before| last > before.as_str())
    })?;
    for pair in &pairs {
        pair.verify()?;
    }
    let last = done.values().max().copied().unwrap_or_default();
    let (what, figure) = (format!("{count} pairs due in one minute"), done.len() / KINDS.len());
    let mut rows = vec![
        Row::with_goal(
            &format!("{what}: done, with the right content"),
            format!("{figure} of {count}"),
            &format!("{count} of {count}"),
            figure == count,
        ),
        Row::with_goal(
            &format!("{what}: until all were done"),
            format!("{:.1} s", last.as_secs_f64()),
            &format!("< {} s", GOAL.as_secs()),
            last < GOAL,
        ),
    ];
    let all_first = first.values().max().copied().unwrap_or_default();
    rows.push(Row::without_goal(
        &format!("{count} pairs made at once: until all had synchronized first"),
        format!("{:.1} s", all_first.as_secs_f64()),
    ));
    Ok(Finding { rows, raw: vec![("seconds until done, in order".to_owned(), raw(&done))] })
}

/// Every hour, in the minute of this one since 1970.
fn schedule(minute: u64) -> Value {
    json!({"schedule": format!("{} * * * *", minute % 60)})
}

/// Time since 1970.
fn now() -> Result<Duration> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")
}

/// Makes all due in the next minute that leaves [`NOTICE`], and waits until all know. Since 1970.
fn due_minute(cluster: &Cluster, pairs: &[Pair]) -> Result<u64> {
    let minute = (now()?.as_secs() + NOTICE).div_ceil(60);
    let patch = json!({"spec": {"trigger": schedule(minute)}}).to_string();
    for kind in KINDS {
        let mut arguments = vec!["patch", kind, "--type", "merge", "--patch", &patch];
        arguments.extend(pairs.iter().map(|pair| pair.name.as_str()));
        cluster.run(&arguments, None)?;
    }
    let on_the_minute = format!(":{:02}:00Z", minute % 60);
    cluster.until(60, |cluster| {
        for kind in KINDS {
            for object in cluster.objects(kind)? {
                let next = object["status"]["nextSyncTime"].as_str().unwrap_or_default();
                if !next.ends_with(&on_the_minute) {
                    let name = &object["metadata"]["name"];
                    return Ok(Some(format!("{kind} {name} is due at {next:?}")));
                }
            }
        }
        Ok(None)
    })?;
    Ok(minute)
}

/// `lastSyncTime` of every replication.
fn statuses(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut statuses = BTreeMap::new();
    for kind in KINDS {
        for object in cluster.objects(kind)? {
            let seen = Seen { at: Instant::now(), object };
            statuses.insert(key(&seen), seen.text("/status/lastSyncTime").to_owned());
        }
    }
    Ok(statuses)
}

fn key(seen: &Seen) -> String {
    format!("{} {}", seen.text("/kind"), seen.text("/metadata/name"))
}

/// How long after `start` each replication was done; an error if not all are in time.
fn all_done(
    cluster: &Cluster,
    watches: &mut Watches,
    count: usize,
    start: Instant,
    is_done: &dyn Fn(&Seen) -> bool,
) -> Result<BTreeMap<String, Duration>> {
    let mut done = BTreeMap::new();
    while done.len() < count * KINDS.len() {
        let Some(seen) = watches.next(start + PATIENCE)? else {
            bail!(
                "{} of {} replications are done after {} s\n{}",
                done.len(),
                count * KINDS.len(),
                PATIENCE.as_secs(),
                cluster.all_there_is()
            );
        };
        if is_done(&seen) {
            done.entry(key(&seen)).or_insert_with(|| seen.at.saturating_duration_since(start));
        }
    }
    Ok(done)
}

fn raw(done: &BTreeMap<String, Duration>) -> Vec<Vec<String>> {
    let mut rows = vec![table::row(["end", "median (least to most)", "each"])];
    for kind in KINDS {
        let of = done.iter().filter(|(key, _)| key.starts_with(kind)).map(|(_, time)| *time);
        let mut sorted: Vec<Duration> = of.collect();
        sorted.sort_unstable();
        let each: Vec<String> =
            sorted.iter().map(|time| format!("{:.1}", time.as_secs_f64())).collect();
        let spread = Spread::of(sorted).map(|spread| spread.to_string()).unwrap_or_default();
        rows.push(vec![kind.to_owned(), spread, each.join(" ")]);
    }
    rows
}
