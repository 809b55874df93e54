//! `Metrics`: how each replication stands and what happened to it, for Prometheus.
//!
//! This file alone names `prometheus_client`, which writes the OpenMetrics text that every Prometheus
//! since 2.5 reads. It has no summaries; the one that dashboards for VolSync read is written here.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use volsync_contract::{Counts, Direction, RestoreOutcome};
use volsync_replication::{
    Happening, Method, MoverState, Replication, Status, Trigger, out_of_sync_from,
};

use crate::kind::Kind;
use durations::Durations;

mod durations;

/// What [`Metrics::text`] is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The method of a manifest that names none, or two.
const INVALID: &str = "invalid";
/// Reasons of failures, which are those of the events. Each has a series from the beginning, so that
/// the first failure is an increase.
const FAILURES: [&str; 3] = ["TransferBlocked", "TransferFailed", "TransferIncomplete"];
/// Series of removed objects are dropped at each scrape, and when there are so many without one.
const UNSCRAPED: usize = 1024;

/// Every replication that was reconciled, as long as it exists.
#[derive(Default)]
pub(crate) struct Metrics {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    replications: BTreeMap<Key, Series>,
    /// Who knows whether there still is such an object.
    caches: Vec<Cache>,
    drop_at: usize,
}

struct Cache {
    role: &'static str,
    has: Box<Has>,
}

/// Whether there is an object of this namespace and name.
type Has = dyn Fn(&str, &str) -> bool + Send + Sync;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: String,
    name: String,
    role: &'static str,
}

/// What is told of one replication.
#[derive(Debug, Clone, Default)]
struct Series {
    method: &'static str,
    standing: Standing,
    missed_intervals: u64,
    moved_bytes: u64,
    moved_files: u64,
    failures: [u64; FAILURES.len()],
    durations: Durations,
}

/// How a replication stands, as its status says; what that means depends on the time of the scrape.
#[derive(Debug, Clone, Default)]
struct Standing {
    last_success: Option<Timestamp>,
    /// The first slot for which no sync has succeeded.
    due: Option<Timestamp>,
    out_of_sync_from: Option<Timestamp>,
    restore: Option<RestoreOutcome>,
    /// Whether the last verification of the repository found damage, if there was one.
    damaged: Option<bool>,
}

impl Metrics {
    /// Series of objects that no cache of their kind has are dropped from now on. `has` is asked for
    /// a namespace and a name.
    pub(crate) fn follow(
        &self,
        direction: Direction,
        has: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) {
        let cache = Cache { role: role(direction), has: Box::new(has) };
        self.known().caches.push(cache);
    }

    /// Takes in how an object stands. `replication` is `None` if its manifest is not valid, and then
    /// nothing keeps it in sync.
    pub(crate) fn see<K: Kind>(
        &self,
        object: &K,
        replication: Option<&Replication>,
        status: &Status,
    ) {
        let key = Key::of(object);
        let mut known = self.known();
        if replication.is_some_and(|replication| matches!(replication.method, Method::External(_)))
        {
            known.replications.remove(&key);
            return;
        }
        let method = replication.map(|replication| replication.method.name());
        let series = known.series(key);
        if method.is_some_and(|method| method != series.method) {
            *series = Series { method: method.unwrap_or(INVALID), ..Series::default() };
        }
        series.standing = Standing {
            last_success: status.last_sync_time,
            due: match replication {
                Some(Replication { trigger: Trigger::Schedule(schedule), .. }) => {
                    status.last_sync_time.and_then(|last| schedule.next_after(last))
                }
                Some(_) => None,
                None => series.standing.due,
            },
            out_of_sync_from: match replication {
                Some(replication) => out_of_sync_from(replication, status),
                None => Some(Timestamp::MIN),
            },
            restore: status.restic.restore,
            damaged: status.restic.verification.as_ref().map(|last| last.damage.is_some()),
        };
    }

    /// Counts what happened to an object, and what its mover moved if it ended.
    pub(crate) fn count<K: Kind>(
        &self,
        object: &K,
        happenings: &[Happening],
        mover: &MoverState,
        now: Timestamp,
    ) {
        let mut known = self.known();
        let Some(series) = known.replications.get_mut(&Key::of(object)) else { return };
        for happening in happenings {
            match happening {
                Happening::SyncStarted { .. }
                | Happening::NothingRestored { .. }
                | Happening::RepositoryDamaged { .. } => {}
                Happening::SyncCompleted { duration, counts, in_words: _ } => {
                    series.durations.add(now, duration.as_secs_f64());
                    series.moved(counts);
                }
                Happening::IntervalMissed { .. } => series.missed_intervals += 1,
                Happening::Blocked { .. } => series.failed(happening),
                Happening::SyncIncomplete { .. } | Happening::MoverFailed { .. } => {
                    series.failed(happening);
                    if let Some(report) = mover.report() {
                        series.moved(&report.counts);
                    }
                }
            }
        }
    }

    /// Everything, as OpenMetrics text.
    pub(crate) fn text(&self, now: Timestamp) -> Result<String, fmt::Error> {
        let mut known = self.known();
        known.drop_removed();
        let scrape = Scrape { replications: known.replications.clone(), now };
        drop(known);
        let mut text = String::new();
        scrape.write_durations(&mut text)?;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scrape));
        encode_registry(&mut text, &registry)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn series(&mut self, key: Key) -> &mut Series {
        if self.replications.len() >= self.drop_at && !self.replications.contains_key(&key) {
            self.drop_removed();
            self.drop_at = UNSCRAPED.max(2 * self.replications.len());
        }
        self.replications
            .entry(key)
            .or_insert_with(|| Series { method: INVALID, ..Series::default() })
    }

    fn drop_removed(&mut self) {
        let caches = &self.caches;
        self.replications.retain(|key, _| {
            let mut theirs = caches.iter().filter(|cache| cache.role == key.role).peekable();
            theirs.peek().is_none() || theirs.any(|cache| (cache.has)(&key.namespace, &key.name))
        });
    }
}

impl Key {
    fn of<K: Kind>(object: &K) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            role: role(K::DIRECTION),
        }
    }
}

const fn role(direction: Direction) -> &'static str {
    match direction {
        Direction::Source => "source",
        Direction::Destination => "destination",
    }
}

impl Series {
    const fn moved(&mut self, counts: &Counts) {
        self.moved_bytes = self.moved_bytes.saturating_add(counts.wire_sent_bytes);
        self.moved_files = self.moved_files.saturating_add(counts.files_sent);
    }

    fn failed(&mut self, happening: &Happening) {
        let reasons = FAILURES.iter().zip(&mut self.failures);
        for (_, count) in reasons.filter(|(reason, _)| **reason == happening.reason()) {
            *count += 1;
        }
    }
}

impl Standing {
    fn is_out_of_sync(&self, now: Timestamp) -> bool {
        self.out_of_sync_from.is_some_and(|from| from < now)
    }

    fn behind_seconds(&self, now: Timestamp) -> f64 {
        self.due.map_or(0.0, |due| now.duration_since(due).as_secs_f64().max(0.0))
    }
}

/// All there is at the time of a scrape.
#[derive(Debug)]
struct Scrape {
    replications: BTreeMap<Key, Series>,
    now: Timestamp,
}

type Labels<'a> = [(&'static str, &'a str); 4];

fn labels<'a>(key: &'a Key, series: &Series) -> Labels<'a> {
    [
        ("obj_name", &key.name),
        ("obj_namespace", &key.namespace),
        ("role", key.role),
        ("method", series.method),
    ]
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        self.counter(
            to,
            "volsync_missed_intervals",
            "The number of times a synchronization failed to complete before the next scheduled start",
            |series| series.missed_intervals,
        )?;
        self.gauge(
            to,
            "volsync_volume_out_of_sync",
            "Set to 1 if the volume is not properly synchronized",
            |series| f64::from(u8::from(series.standing.is_out_of_sync(self.now))),
        )?;
        self.gauge(
            to,
            "volsync_behind_schedule_seconds",
            "Time since the first scheduled start for which no synchronization has succeeded; 0 if that has not come yet",
            |series| series.standing.behind_seconds(self.now),
        )?;
        self.gauge(
            to,
            "volsync_last_success_timestamp_seconds",
            "When the last successful synchronization ended; 0 if there was none",
            |series| series.standing.last_success.map_or(0.0, seconds),
        )?;
        self.counter(
            to,
            "volsync_moved_bytes",
            "Bytes that movers sent to the destination, compressed and before encryption",
            |series| series.moved_bytes,
        )?;
        self.counter(
            to,
            "volsync_moved_files",
            "Files whose content movers sent to the destination",
            |series| series.moved_files,
        )?;
        self.restores(to)?;
        self.damages(to)?;
        self.failures(to)
    }
}

impl Scrape {
    /// `name` is without the `_total` that its series end in.
    fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Series) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (key, series) in &self.replications {
            let labels = labels(key, series);
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, u64, u64>(&value(series), None)?;
        }
        Ok(())
    }

    fn gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Series) -> f64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (key, series) in &self.replications {
            family.encode_family(&labels(key, series))?.encode_gauge(&value(series))?;
        }
        Ok(())
    }

    fn restores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "volsync_restore_outcome",
            "Set to 1 for the outcome of the last restore from a restic repository",
            None,
            MetricType::Gauge,
        )?;
        for (key, series) in &self.replications {
            let Some(last) = series.standing.restore else { continue };
            for outcome in RestoreOutcome::ALL {
                let labels = (labels(key, series), [("outcome", outcome.as_str())]);
                family.encode_family(&labels)?.encode_gauge(&u32::from(outcome == last))?;
            }
        }
        Ok(())
    }

    fn damages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "volsync_repository_damaged",
            "Set to 1 if the last verification of the restic repository found damage",
            None,
            MetricType::Gauge,
        )?;
        for (key, series) in &self.replications {
            let Some(damaged) = series.standing.damaged else { continue };
            family.encode_family(&labels(key, series))?.encode_gauge(&u32::from(damaged))?;
        }
        Ok(())
    }

    fn failures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "volsync_failures",
            "The number of times a synchronization failed, ended incomplete, or could not go on",
            None,
            MetricType::Counter,
        )?;
        for (key, series) in &self.replications {
            for (reason, count) in FAILURES.iter().zip(series.failures) {
                let labels = (labels(key, series), [("reason", *reason)]);
                let mut one = family.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    /// Names of objects and of methods are such that nothing in a label has to be escaped.
    fn write_durations(&self, text: &mut String) -> fmt::Result {
        const NAME: &str = "volsync_sync_duration_seconds";
        writeln!(text, "# HELP {NAME} Duration of the synchronization interval in seconds")?;
        writeln!(text, "# TYPE {NAME} summary")?;
        for (key, series) in &self.replications {
            let labels = labels(key, series).map(|(label, value)| format!("{label}=\"{value}\""));
            let labels = labels.join(",");
            for (quantile, value) in series.durations.quantiles(self.now) {
                writeln!(text, "{NAME}{{{labels},quantile=\"{quantile}\"}} {value}")?;
            }
            writeln!(text, "{NAME}_sum{{{labels}}} {}", series.durations.sum)?;
            writeln!(text, "{NAME}_count{{{labels}}} {}", series.durations.count)?;
        }
        Ok(())
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

#[cfg(test)]
mod tests;
