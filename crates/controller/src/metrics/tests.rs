//! What a scrape reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use volsync_api::ReplicationSource;
use volsync_contract::{Outcome, Report, RestoreOutcome};
use volsync_replication::{Observation, Verification, Want, step};

use super::*;

fn at(time: &str) -> Timestamp {
    format!("2026-03-01T{time}Z").parse().unwrap()
}

fn source(name: &str, spec: Value) -> ReplicationSource {
    let object = json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": name, "namespace": "home"},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn hourly() -> ReplicationSource {
    source(
        "photos",
        json!({
            "sourcePVC": "photos",
            "trigger": {"schedule": "0 * * * *"},
            "rsync": {"copyMethod": "Direct", "address": "mirror"},
        }),
    )
}

fn valid(object: &ReplicationSource) -> Replication {
    object.validate(&TimeZone::UTC).unwrap()
}

/// The lines of one metric, without its labels but `reason` and `quantile`.
fn lines(metrics: &Metrics, name: &str, now: Timestamp) -> Vec<String> {
    let text = metrics.text(now).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines
        .map(|line| {
            let labels = r#"obj_name="photos",obj_namespace="home",role="source",method="rsync""#;
            assert!(line.contains(labels), "{line}");
            line.replace(labels, "").replace("{,", "{").replace("{}", "")
        })
        .collect()
}

/// The value of a metric with one series.
fn value(metrics: &Metrics, name: &str, now: Timestamp) -> String {
    match lines(metrics, name, now).as_slice() {
        [line] => line.rsplit_once(' ').unwrap().1.to_owned(),
        other => panic!("{name}: {other:?}"),
    }
}

/// A replication, stepped and counted as a reconciliation does it.
struct World {
    metrics: Metrics,
    object: ReplicationSource,
    replication: Replication,
    status: Status,
}

impl World {
    fn new() -> Self {
        let object = hourly();
        let replication = valid(&object);
        let world =
            Self { metrics: Metrics::default(), object, replication, status: Status::default() };
        world.metrics.see(&world.object, Some(&world.replication), &world.status);
        world
    }

    fn step(&mut self, mover: MoverState, now: Timestamp) -> Want {
        let seen = Observation { mover, ..Observation::default() };
        let step = step(&self.replication, &self.status, &seen, now);
        self.metrics.see(&self.object, Some(&self.replication), &step.status);
        self.metrics.count(&self.object, &step.happenings, &seen.mover, now);
        self.status = step.status;
        step.want
    }

    /// A sync from `start` to `end`, whose mover reports `report`.
    fn sync(&mut self, start: Timestamp, end: Timestamp, report: Report) {
        let Want::Sync(plan) = self.step(MoverState::NotStarted, start) else {
            panic!("no sync is due at {start}");
        };
        let run = plan.run();
        self.step(MoverState::Succeeded { run, report, ended: end }, end);
    }
}

fn report(outcome: Outcome, bytes: u64, files: u64) -> Report {
    let mut report = Report::new(outcome);
    report.counts = Counts { wire_sent_bytes: bytes, files_sent: files, ..Counts::default() };
    report
}

#[test]
fn a_scrape_is_open_metrics_text_with_upstreams_names_and_help() {
    let world = World::new();
    let text = world.metrics.text(at("12:00:00")).unwrap();
    let labels = r#"obj_name="photos",obj_namespace="home",role="source",method="rsync""#;
    let expected = r##"# HELP volsync_sync_duration_seconds Duration of the synchronization interval in seconds
# TYPE volsync_sync_duration_seconds summary
volsync_sync_duration_seconds{LABELS,quantile="0.5"} NaN
volsync_sync_duration_seconds{LABELS,quantile="0.9"} NaN
volsync_sync_duration_seconds{LABELS,quantile="0.99"} NaN
volsync_sync_duration_seconds_sum{LABELS} 0
volsync_sync_duration_seconds_count{LABELS} 0
# HELP volsync_missed_intervals The number of times a synchronization failed to complete before the next scheduled start
# TYPE volsync_missed_intervals counter
volsync_missed_intervals_total{LABELS} 0
# HELP volsync_volume_out_of_sync Set to 1 if the volume is not properly synchronized
# TYPE volsync_volume_out_of_sync gauge
volsync_volume_out_of_sync{LABELS} 1.0
# HELP volsync_behind_schedule_seconds Time since the first scheduled start for which no synchronization has succeeded; 0 if that has not come yet
# TYPE volsync_behind_schedule_seconds gauge
volsync_behind_schedule_seconds{LABELS} 0.0
# HELP volsync_last_success_timestamp_seconds When the last successful synchronization ended; 0 if there was none
# TYPE volsync_last_success_timestamp_seconds gauge
volsync_last_success_timestamp_seconds{LABELS} 0.0
# HELP volsync_moved_bytes Bytes that movers sent to the destination, compressed and before encryption
# TYPE volsync_moved_bytes counter
volsync_moved_bytes_total{LABELS} 0
# HELP volsync_moved_files Files whose content movers sent to the destination
# TYPE volsync_moved_files counter
volsync_moved_files_total{LABELS} 0
# HELP volsync_restore_outcome Set to 1 for the outcome of the last restore from a restic repository
# TYPE volsync_restore_outcome gauge
# HELP volsync_repository_damaged Set to 1 if the last verification of the restic repository found damage
# TYPE volsync_repository_damaged gauge
# HELP volsync_failures The number of times a synchronization failed, ended incomplete, or could not go on
# TYPE volsync_failures counter
volsync_failures_total{LABELS,reason="TransferBlocked"} 0
volsync_failures_total{LABELS,reason="TransferFailed"} 0
volsync_failures_total{LABELS,reason="TransferIncomplete"} 0
# EOF
"##;
    assert_eq!(text, expected.replace("LABELS", labels));
}

#[test]
fn a_successful_sync_is_timed_and_its_bytes_and_files_are_counted() {
    let mut world = World::new();
    let end = at("12:00:30");
    world.sync(at("12:00:00"), end, report(Outcome::Complete, 5_000_000_000, 7));
    let metrics = &world.metrics;
    assert_eq!(value(metrics, "volsync_sync_duration_seconds_sum", end), "30");
    assert_eq!(value(metrics, "volsync_sync_duration_seconds_count", end), "1");
    let quantiles = lines(metrics, "volsync_sync_duration_seconds", end);
    assert_eq!(quantiles[1], "volsync_sync_duration_seconds{quantile=\"0.9\"} 30");
    assert_eq!(value(metrics, "volsync_moved_bytes_total", end), "5000000000");
    assert_eq!(value(metrics, "volsync_moved_files_total", end), "7");
    assert_eq!(value(metrics, "volsync_volume_out_of_sync", end), "0.0");
    let seconds = value(metrics, "volsync_last_success_timestamp_seconds", end);
    assert_eq!(seconds, format!("{}.0", end.as_second()));
}

#[test]
fn what_time_alone_changes_is_right_at_every_scrape() {
    let mut world = World::new();
    world.sync(at("12:00:00"), at("12:00:30"), report(Outcome::Complete, 0, 0));
    for (now, behind, out_of_sync) in [
        ("12:59:59", "0.0", "0.0"),
        ("13:10:00", "600.0", "0.0"),
        ("14:00:00", "3600.0", "0.0"),
        ("14:00:01", "3601.0", "1.0"),
    ] {
        let now = at(now);
        assert_eq!(value(&world.metrics, "volsync_behind_schedule_seconds", now), behind, "{now}");
        assert_eq!(value(&world.metrics, "volsync_volume_out_of_sync", now), out_of_sync, "{now}");
    }
}

#[test]
fn a_sync_that_ends_after_the_next_slot_is_a_missed_interval_once() {
    let mut world = World::new();
    world.sync(at("12:00:00"), at("12:00:30"), report(Outcome::Complete, 0, 0));
    world.sync(at("13:00:00"), at("14:30:00"), report(Outcome::Complete, 0, 0));
    let now = at("14:30:00");
    assert_eq!(value(&world.metrics, "volsync_missed_intervals_total", now), "1");
    assert_eq!(value(&world.metrics, "volsync_volume_out_of_sync", now), "0.0");
}

#[test]
fn failures_are_counted_by_reason_and_what_was_moved_all_the_same() {
    let mut world = World::new();
    let Want::Sync(plan) = world.step(MoverState::NotStarted, at("12:00:00")) else {
        panic!("the first sync starts at once");
    };
    for now in ["12:01:00", "12:01:01"] {
        let failed = MoverState::Failed {
            run: plan.run(),
            attempts: 1,
            report: Some(report(Outcome::FailedTransient, 10, 1)),
            message: String::new(),
            ended: at("12:01:00"),
        };
        world.step(failed, at(now));
    }
    let incomplete = report(Outcome::Incomplete, 20, 2);
    let ended = at("12:02:00");
    world.step(MoverState::Succeeded { run: plan.run(), report: incomplete, ended }, ended);
    assert_eq!(
        lines(&world.metrics, "volsync_failures_total", ended),
        [
            "volsync_failures_total{reason=\"TransferBlocked\"} 0",
            "volsync_failures_total{reason=\"TransferFailed\"} 1",
            "volsync_failures_total{reason=\"TransferIncomplete\"} 1",
        ]
    );
    assert_eq!(value(&world.metrics, "volsync_moved_bytes_total", ended), "30");
    assert_eq!(value(&world.metrics, "volsync_sync_duration_seconds_count", ended), "0");
    assert_eq!(value(&world.metrics, "volsync_volume_out_of_sync", ended), "1.0");
}

#[test]
fn series_go_with_their_object() {
    let world = World::new();
    let there = Arc::new(AtomicBool::new(true));
    let cache = there.clone();
    world.metrics.follow(Direction::Source, move |namespace, name| {
        cache.load(Ordering::Relaxed) && (namespace, name) == ("home", "photos")
    });
    world.metrics.follow(Direction::Destination, |_, _| true);
    assert_eq!(lines(&world.metrics, "volsync_volume_out_of_sync", at("12:00:00")).len(), 1);
    there.store(false, Ordering::Relaxed);
    assert!(!world.metrics.text(at("12:00:00")).unwrap().contains("photos"));
}

#[test]
fn removed_objects_do_not_fill_memory_where_nobody_scrapes() {
    let metrics = Metrics::default();
    metrics.follow(Direction::Source, |_, _| false);
    let replication = valid(&hourly());
    for number in 0..10 * UNSCRAPED {
        let mut object = hourly();
        object.metadata.name = Some(format!("photos-{number}"));
        metrics.see(&object, Some(&replication), &Status::default());
    }
    assert!(metrics.known().replications.len() <= UNSCRAPED);
}

#[test]
fn somebody_elses_replication_has_no_series() {
    let metrics = Metrics::default();
    metrics.see(&hourly(), Some(&valid(&hourly())), &Status::default());
    let external = source("photos", json!({"external": {"provider": "example.com/copier"}}));
    metrics.see(&external, Some(&valid(&external)), &Status::default());
    assert!(!metrics.text(at("12:00:00")).unwrap().contains("photos"));
}

#[test]
fn a_manifest_that_is_not_valid_is_out_of_sync() {
    let mut world = World::new();
    world.sync(at("12:00:00"), at("12:00:30"), report(Outcome::Complete, 1, 1));
    world.metrics.see(&world.object, None, &world.status);
    let now = at("12:01:00");
    assert_eq!(value(&world.metrics, "volsync_volume_out_of_sync", now), "1.0");
    assert_eq!(value(&world.metrics, "volsync_moved_bytes_total", now), "1");
    let metrics = Metrics::default();
    metrics.see(&source("broken", json!({})), None, &Status::default());
    assert!(metrics.text(now).unwrap().contains(r#"method="invalid"} 1.0"#));
}

#[test]
fn outcomes_of_restores_and_verifications_are_told_once_there_are_any() {
    let mut world = World::new();
    let told = |world: &World, name: &str| -> Vec<String> {
        let text = world.metrics.text(at("12:00:00")).unwrap();
        let series = text.lines().filter(|line| line.starts_with(name));
        series.filter_map(|line| Some(line.rsplit_once("method=\"rsync\"")?.1.to_owned())).collect()
    };
    assert!(told(&world, "volsync_restore_outcome").is_empty());
    assert!(told(&world, "volsync_repository_damaged").is_empty());

    world.status.restic.restore = Some(RestoreOutcome::NothingEligible);
    let damage = Some("pack 01 is missing".to_owned());
    world.status.restic.verification =
        Some(Verification { at: at("11:00:00"), round: 3, percent: Some(10), damage });
    world.metrics.see(&world.object, Some(&world.replication), &world.status);
    assert_eq!(
        told(&world, "volsync_restore_outcome"),
        [
            ",outcome=\"Restored\"} 0",
            ",outcome=\"NothingEligible\"} 1",
            ",outcome=\"RepositoryMissing\"} 0"
        ]
    );
    assert_eq!(told(&world, "volsync_repository_damaged"), ["} 1"]);
}
