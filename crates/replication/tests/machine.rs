//! One table: given, when, then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use volsync_api::v1alpha1::{
    CopyMethod, ReplicationSource, ReplicationSourceSpec, ResticSource, ResticVerify, RsyncSource,
    SourceVolumeOptions, Trigger,
};
use volsync_contract::{Outcome, Report, ResticReport, Retry, SkippedItem, Verify, VerifyReport};
use volsync_replication::{
    Happening, ImageReference, ImageState, MoverResult, MoverState, Observation, Replication, Run,
    State, Status, Step, Want, conditions, is_out_of_sync, step, validate_source,
};

const NOON: &str = "2024-05-06T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn after_noon(seconds: i64) -> Timestamp {
    at(NOON) + SignedDuration::from_secs(seconds)
}

enum On {
    Schedule(&'static str),
    Manual(&'static str),
    Nothing,
}

fn source(on: On) -> Replication {
    validate_source(&source_manifest(on), &TimeZone::UTC).unwrap()
}

fn source_manifest(on: On) -> ReplicationSource {
    let mut source = ReplicationSource::new("photos", ReplicationSourceSpec::default());
    source.spec.source_pvc = Some("photos".into());
    source.spec.trigger = match on {
        On::Schedule(text) => Some(Trigger { schedule: Some(text.into()), manual: None }),
        On::Manual(tag) => Some(Trigger { schedule: None, manual: Some(tag.into()) }),
        On::Nothing => None,
    };
    source.spec.rsync = Some(RsyncSource {
        volume: SourceVolumeOptions { copy_method: Some(CopyMethod::Direct), ..Default::default() },
        address: Some("mirror".into()),
        ..Default::default()
    });
    source
}

fn seen(mover: MoverState) -> Observation {
    let leftovers = mover != MoverState::NotStarted;
    Observation { mover, leftovers, ..Default::default() }
}

fn nothing_seen() -> Observation {
    Observation::default()
}

/// Starts at noon.
fn started(replication: &Replication) -> (Status, Run) {
    let first = step(replication, &Status::default(), &nothing_seen(), at(NOON));
    match first.want {
        Want::Sync(plan) => (first.status, plan.run()),
        other => panic!("nothing was started: {other:?}"),
    }
}

fn succeeded(run: &Run, ended: Timestamp) -> Observation {
    seen(MoverState::Succeeded { run: run.clone(), report: Report::new(Outcome::Complete), ended })
}

fn failed(run: &Run, attempts: u32, retry: Retry, ended: Timestamp) -> Observation {
    let report = Some(Report::failed(retry, "cannot connect to mirror: refused", "start it"));
    seen(MoverState::Failed { run: run.clone(), attempts, report, message: String::new(), ended })
}

fn condition(step: &Step) -> (&str, &str, &str) {
    let condition = conditions::find(&step.status.conditions).unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn the_first_sync_starts_at_once_whatever_the_trigger() {
    for on in [On::Schedule("0 3 * * *"), On::Manual("one"), On::Nothing] {
        let step = step(&source(on), &Status::default(), &nothing_seen(), after_noon(0));
        assert_eq!(step.status.last_sync_start_time, Some(at(NOON)));
        assert!(matches!(step.want, Want::Sync(_)));
        assert_eq!(condition(&step), ("True", "SyncInProgress", "Synchronization in-progress"));
        assert!(matches!(step.happenings[..], [Happening::SyncStarted { .. }]));
    }
}

#[test]
fn a_success_of_rsync_is_told_in_the_lines_that_scripts_look_for() {
    let (status, run) = started(&source(On::Manual("one")));
    let mut report = Report::new(Outcome::Complete);
    report.counts.wire_sent_bytes = 4321;
    report.counts.wire_received_bytes = 99;
    report.counts.total_bytes = 123_456;
    report.counts.elapsed_milliseconds = 1001;
    let mover = MoverState::Succeeded { run, report, ended: after_noon(2) };
    let done = step(&source(On::Manual("one")), &status, &seen(mover), after_noon(2));
    let logs = done.status.latest_mover_status.unwrap().logs;
    for line in
        ["sent 4321 bytes  received 99 bytes", "total size is 123456", "Rsync completed in 2s"]
    {
        assert!(logs.lines().any(|found| found == line), "{logs}");
    }
}

#[test]
fn a_start_has_the_resolution_of_a_status() {
    let now = at(NOON) + SignedDuration::from_millis(1700);
    let step = step(&source(On::Nothing), &Status::default(), &nothing_seen(), now);
    assert_eq!(step.status.last_sync_start_time, Some(after_noon(1)));
}

#[test]
fn a_sync_that_succeeds_is_recorded_and_cleaned_up() {
    let replication = source(On::Schedule("0 * * * *"));
    let (status, run) = started(&replication);
    let now = at(NOON) + SignedDuration::from_millis(90_500);
    let done = step(&replication, &status, &succeeded(&run, now), now);
    assert_eq!(State::of(&done.status), State::CleaningUp);
    assert_eq!(done.status.last_sync_time, Some(after_noon(90)));
    assert_eq!(done.status.last_sync_duration.unwrap().to_string(), "1m30.5s");
    assert_eq!(done.status.next_sync_time, Some(after_noon(3600)));
    assert_eq!(
        done.status.latest_mover_status.as_ref().unwrap().result,
        Some(MoverResult::Successful)
    );
    assert_eq!(condition(&done), ("False", "CleaningUp", "Cleaning up"));
    assert!(matches!(done.want, Want::CleanUp(_)));
    assert!(matches!(done.happenings[..], [Happening::SyncCompleted { .. }]));

    let idle = step(&replication, &done.status, &nothing_seen(), after_noon(91));
    assert_eq!(idle.want, Want::Nothing);
    assert_eq!(idle.look_again, Some(after_noon(3600)));
    assert_eq!(
        condition(&idle),
        ("False", "WaitingForSchedule", "Waiting for next scheduled synchronization")
    );
    let due = step(&replication, &idle.status, &nothing_seen(), after_noon(3600));
    assert!(matches!(due.want, Want::Sync(_)));
}

#[test]
fn a_manual_tag_is_echoed_once_its_sync_completes() {
    let (status, run) = started(&source(On::Manual("one")));
    // The user changes the tag while the sync of the first one runs.
    let replication = source(On::Manual("two"));
    let running = step(
        &replication,
        &status,
        &seen(MoverState::Running { run: run.clone(), stalled: None }),
        after_noon(5),
    );
    assert_eq!(running.status.last_manual_sync, None);
    match &running.want {
        Want::Sync(plan) => assert_eq!(plan.run().fingerprint, run.fingerprint),
        other => panic!("the mover is not left to run: {other:?}"),
    }
    let done = step(&replication, &running.status, &succeeded(&run, after_noon(9)), after_noon(9));
    assert_eq!(done.status.last_manual_sync.as_deref(), Some("one"));
    let next = step(&replication, &done.status, &nothing_seen(), after_noon(10));
    match &next.want {
        Want::Sync(plan) => assert_eq!(plan.manual_tag.as_deref(), Some("two")),
        other => panic!("the second tag got no sync of its own: {other:?}"),
    }
}

#[test]
fn a_mover_nobody_kept_a_run_of_answers_to_the_tag_of_the_manifest() {
    let replication = source(On::Manual("one"));
    let (status, _) = started(&replication);
    let done =
        step(&replication, &status, &succeeded(&Run::default(), after_noon(9)), after_noon(9));
    assert_eq!(done.status.last_manual_sync.as_deref(), Some("one"));
}

#[test]
fn a_manual_trigger_waits_for_another_tag() {
    let replication = source(On::Manual("one"));
    let (status, run) = started(&replication);
    let done = step(&replication, &status, &succeeded(&run, after_noon(9)), after_noon(9));
    let idle = step(&replication, &done.status, &nothing_seen(), after_noon(1_000_000));
    assert_eq!((idle.want.clone(), idle.look_again), (Want::Nothing, None));
    assert_eq!(condition(&idle), ("False", "WaitingForManual", "Waiting for manual trigger"));
}

#[test]
fn without_a_trigger_syncs_follow_each_other_after_a_rest() {
    let replication = source(On::Nothing);
    let (status, run) = started(&replication);
    let done = step(&replication, &status, &succeeded(&run, after_noon(9)), after_noon(9));
    let idle = step(&replication, &done.status, &nothing_seen(), after_noon(10));
    assert_eq!((idle.want.clone(), idle.look_again), (Want::Nothing, Some(after_noon(19))));
    assert!(matches!(
        step(&replication, &idle.status, &nothing_seen(), after_noon(19)).want,
        Want::Sync(_)
    ));
}

#[test]
fn a_failed_mover_is_tried_again_after_a_growing_wait() {
    let replication = source(On::Manual("one"));
    let (status, run) = started(&replication);
    for (attempts, retry, wait) in [
        (1, Retry::Transient, 10),
        (2, Retry::Transient, 20),
        (6, Retry::Transient, 320),
        (7, Retry::Transient, 600),
        (4_000_000_000, Retry::Transient, 600),
        (1, Retry::Permanent, 60),
        (3, Retry::Permanent, 240),
        (9, Retry::Permanent, 600),
    ] {
        let world = failed(&run, attempts, retry, after_noon(5));
        let waiting = step(&replication, &status, &world, after_noon(6));
        assert_eq!(
            (waiting.want.clone(), waiting.look_again),
            (Want::Nothing, Some(after_noon(5 + wait)))
        );
        assert_eq!(State::of(&waiting.status), State::Synchronizing);
        assert_eq!(waiting.status.last_manual_sync, None);
        let (status, reason, message) = condition(&waiting);
        assert_eq!((status, reason), ("False", "Error"));
        assert!(
            message.starts_with("cannot connect to mirror: refused\nhint: start it\n"),
            "{message}"
        );
        assert!(matches!(waiting.happenings[..], [Happening::MoverFailed { .. }]));
        // Told once.
        let again = step(&replication, &waiting.status, &world, after_noon(7));
        assert_eq!((again.happenings.len(), &again.status), (0, &waiting.status));
        let retry = step(&replication, &waiting.status, &world, after_noon(5 + wait));
        assert!(matches!(retry.want, Want::Sync(_)));
        assert_eq!(condition(&retry).1, "SyncInProgress");
    }
}

#[test]
fn a_changed_manifest_is_tried_at_once() {
    let replication = source(On::Manual("one"));
    let (status, run) = started(&replication);
    let world = failed(&run, 1, Retry::Permanent, after_noon(5));
    let mut mended = replication;
    if let volsync_replication::Method::Rsync(rsync) = &mut mended.method {
        rsync.address = Some("other".into());
    }
    assert!(matches!(step(&mended, &status, &world, after_noon(6)).want, Want::Sync(_)));
}

#[test]
fn what_is_kept_of_a_movers_words_is_cut_between_characters_and_still_known_next_time() {
    let mut replication = source(On::Nothing);
    replication.mover_log_bytes = Some("caf\u{e9}".len() - 1);
    let (status, run) = started(&replication);
    let report = Some(Report::failed(Retry::Transient, "caf\u{e9} is closed", ""));
    let ended = after_noon(5);
    let world =
        seen(MoverState::Failed { run, attempts: 1, report, message: String::new(), ended });
    let told = step(&replication, &status, &world, after_noon(6));
    assert_eq!(told.status.latest_mover_status.as_ref().unwrap().logs, "attempt 1: caf");
    assert!(condition(&told).2.starts_with("caf\u{e9} is closed\n"));
    assert_eq!(told.happenings.len(), 1);
    assert!(step(&replication, &told.status, &world, after_noon(7)).happenings.is_empty());
}

#[test]
fn failed_attempts_are_counted_in_the_status_until_their_sync_ends() {
    let mut replication = source(On::Manual("one"));
    replication.mover_log_bytes = Some(0);
    let (status, run) = started(&replication);
    assert_eq!(status.failed_attempts(), 0);
    let seen = failed(&run, 12, Retry::Transient, after_noon(5));
    let told = step(&replication, &status, &seen, after_noon(6));
    assert_eq!(told.status.failed_attempts(), 12);
    // Its Job is gone and the next could not be made.
    let again = step(&replication, &told.status, &nothing_seen(), after_noon(7));
    assert_eq!(again.status.failed_attempts(), 12);
    let done = step(&replication, &again.status, &succeeded(&run, after_noon(9)), after_noon(9));
    assert_eq!(done.status.failed_attempts(), 0);
}

#[test]
fn a_mover_without_a_report_has_failed() {
    let replication = source(On::Nothing);
    let (status, run) = started(&replication);
    let mover = MoverState::Failed {
        run,
        attempts: 1,
        report: None,
        message: String::new(),
        ended: after_noon(1),
    };
    let waiting = step(&replication, &status, &seen(mover), after_noon(1));
    assert_eq!(
        waiting.status.latest_mover_status.as_ref().unwrap().logs,
        "attempt 1: the mover ended without a report"
    );
}

#[test]
fn a_failure_that_reports_success_is_a_failure() {
    let replication = source(On::Nothing);
    let (status, run) = started(&replication);
    let report = Some(Report::new(Outcome::Complete));
    let mover = MoverState::Failed {
        run,
        attempts: 1,
        report,
        message: "killed".into(),
        ended: after_noon(1),
    };
    let waiting = step(&replication, &status, &seen(mover), after_noon(1));
    assert_eq!(waiting.status.last_sync_time, None);
    assert_eq!(waiting.want, Want::Nothing);
}

fn incomplete() -> Report {
    let mut report = Report::new(Outcome::Incomplete);
    report.message = "1 item could not be read".into();
    report.skipped.count = 1;
    report
        .skipped
        .first
        .push(SkippedItem { path: "a/b".into(), why: "not read: permission denied".into() });
    report
}

#[test]
fn a_scheduled_sync_that_is_incomplete_is_tried_at_the_next_slot() {
    let replication = source(On::Schedule("0 * * * *"));
    let (status, run) = started(&replication);
    let mover = MoverState::Succeeded { run, report: incomplete(), ended: after_noon(5) };
    let ended = step(&replication, &status, &seen(mover), after_noon(5));
    assert_eq!(ended.status.last_sync_time, None);
    assert_eq!(ended.status.last_sync_start_time, None);
    assert_eq!(ended.status.next_sync_time, Some(after_noon(3600)));
    assert!(matches!(ended.want, Want::CleanUp(_)));
    assert!(condition(&ended).2.contains("skipped a/b: not read: permission denied"));

    let idle = step(&replication, &ended.status, &nothing_seen(), after_noon(6));
    assert_eq!((idle.want.clone(), idle.look_again), (Want::Nothing, Some(after_noon(3600))));
    assert_eq!(condition(&idle).1, "Error");
    assert_eq!(idle.status.latest_mover_status.as_ref().unwrap().result, Some(MoverResult::Failed));
    let due = step(&replication, &idle.status, &nothing_seen(), after_noon(3600));
    assert!(matches!(due.want, Want::Sync(_)));
}

#[test]
fn the_slot_after_an_incomplete_sync_counts_from_its_end_though_its_mover_was_never_seen_running() {
    let replication = source(On::Schedule("0 * * * *"));
    let (status, run) = started(&replication);
    let waiting = step(
        &replication,
        &status,
        &failed(&run, 1, Retry::Transient, after_noon(5)),
        after_noon(5),
    );
    let mover = MoverState::Succeeded { run, report: incomplete(), ended: after_noon(4000) };
    let ended = step(&replication, &waiting.status, &seen(mover), after_noon(4000));
    let idle = step(&replication, &ended.status, &nothing_seen(), after_noon(4001));
    assert_eq!((idle.want.clone(), idle.look_again), (Want::Nothing, Some(after_noon(7200))));
}

#[test]
fn an_incomplete_manual_sync_is_tried_again_and_its_tag_not_echoed() {
    let replication = source(On::Manual("one"));
    let (status, run) = started(&replication);
    let mover = MoverState::Failed {
        run,
        attempts: 2,
        report: Some(incomplete()),
        message: String::new(),
        ended: after_noon(5),
    };
    let waiting = step(&replication, &status, &seen(mover), after_noon(5));
    assert_eq!(State::of(&waiting.status), State::Synchronizing);
    assert_eq!(waiting.status.last_manual_sync, None);
    assert_eq!(waiting.look_again, Some(after_noon(25)));
}

#[test]
fn a_blocked_sync_says_why_once_and_is_looked_at_again() {
    let replication = source(On::Nothing);
    let world =
        Observation { blocked: Some("Secret keys does not exist".into()), ..Default::default() };
    let blocked = step(&replication, &Status::default(), &world, at(NOON));
    assert_eq!((blocked.want.clone(), blocked.look_again), (Want::Nothing, Some(after_noon(1))));
    assert_eq!(condition(&blocked), ("False", "Error", "Secret keys does not exist"));
    assert_eq!(blocked.happenings.len(), 2);
    let looks = |seconds: i64| {
        let seen = step(&replication, &blocked.status, &world, after_noon(seconds)).look_again;
        seen.unwrap().duration_since(after_noon(seconds)).as_secs()
    };
    assert_eq!([0, 1, 4, 10, 600].map(looks), [1, 1, 4, 10, 10]);
    let again = step(&replication, &blocked.status, &world, after_noon(10));
    assert_eq!((again.happenings.len(), &again.status), (0, &blocked.status));
    assert!(matches!(
        step(&replication, &again.status, &nothing_seen(), after_noon(20)).want,
        Want::Sync(_)
    ));
}

#[test]
fn a_mover_of_another_sync_is_removed_before_one_is_started() {
    let replication = source(On::Nothing);
    let (status, run) = started(&replication);
    let stale = Run { sync_start: Some(after_noon(-500)), ..run };
    let step = step(&replication, &status, &succeeded(&stale, after_noon(-400)), after_noon(1));
    assert!(matches!(step.want, Want::CleanUp(_)));
    assert_eq!(step.status.last_sync_time, None);
}

#[test]
fn nothing_starts_before_what_is_left_over_is_gone() {
    let replication = source(On::Nothing);
    let world = Observation { leftovers: true, ..Default::default() };
    let step = step(&replication, &Status::default(), &world, at(NOON));
    assert!(matches!(step.want, Want::CleanUp(_)));
    assert_eq!(State::of(&step.status), State::Initial);
}

#[test]
fn a_destination_completes_with_its_image() {
    let mut replication = source(On::Nothing);
    replication.direction = volsync_contract::Direction::Destination;
    let (status, run) = started(&replication);
    let mut world = succeeded(&run, after_noon(5));
    world.image = ImageState::Pending;
    let pending = step(&replication, &status, &world, after_noon(5));
    assert!(matches!(pending.want, Want::Sync(_)));
    assert_eq!(pending.status.last_sync_time, None);
    world.image = ImageState::Ready(ImageReference::snapshot("photos-1"));
    let done = step(&replication, &pending.status, &world, after_noon(6));
    assert_eq!(done.status.latest_image, Some(ImageReference::snapshot("photos-1")));
    match done.want {
        Want::CleanUp(plan) => {
            assert_eq!(plan.keep_image, Some(ImageReference::snapshot("photos-1")))
        }
        other => panic!("no clean-up: {other:?}"),
    }
}

#[test]
fn a_paused_replication_starts_nothing_and_keeps_what_there_is() {
    let running = source(On::Nothing);
    let (status, run) = started(&running);
    let mut paused = running;
    paused.paused = true;
    let none = step(&paused, &Status::default(), &nothing_seen(), at(NOON));
    assert_eq!((none.want.clone(), none.look_again), (Want::Nothing, None));
    assert_eq!(State::of(&none.status), State::Initial);
    let world = seen(MoverState::Running { run: run.clone(), stalled: None });
    assert_eq!(step(&paused, &status, &world, after_noon(1)).want, Want::Nothing);
    let done = step(&paused, &status, &succeeded(&run, after_noon(5)), after_noon(5));
    assert_eq!(
        (done.want.clone(), done.status.last_sync_time),
        (Want::Nothing, Some(after_noon(5)))
    );
}

#[test]
fn a_missed_interval_is_counted_once() {
    let replication = source(On::Schedule("0 * * * *"));
    let (mut status, _) = started(&replication);
    status.last_sync_time = Some(after_noon(-3600));
    status.last_sync_start_time = Some(at(NOON));
    let now = after_noon(3601);
    assert!(is_out_of_sync(&replication, &status, now));
    let done = step(&replication, &status, &succeeded(&Run::default(), now), now);
    assert!(matches!(
        done.happenings[..],
        [Happening::IntervalMissed { .. }, Happening::SyncCompleted { .. }]
    ));
    assert!(!is_out_of_sync(&replication, &done.status, now));
}

#[test]
fn a_clock_set_back_does_not_stop_a_schedule() {
    let replication = source(On::Schedule("0 * * * *"));
    let (mut status, run) = started(&replication);
    status.last_sync_time = Some(after_noon(10_000_000));
    let done = step(&replication, &status, &succeeded(&run, after_noon(5)), after_noon(5));
    assert_eq!(done.status.last_sync_time, Some(after_noon(10_000_000)));
    let idle = step(&replication, &done.status, &nothing_seen(), after_noon(6));
    assert_eq!(idle.look_again, Some(after_noon(3600)));
    assert!(matches!(
        step(&replication, &idle.status, &nothing_seen(), after_noon(3600)).want,
        Want::Sync(_)
    ));
}

#[test]
fn an_edited_schedule_is_picked_up_while_idle() {
    let replication = source(On::Schedule("0 * * * *"));
    let (status, run) = started(&replication);
    let done = step(&replication, &status, &succeeded(&run, after_noon(5)), after_noon(5));
    let edited =
        step(&source(On::Schedule("*/10 * * * *")), &done.status, &nothing_seen(), after_noon(6));
    assert_eq!(edited.status.next_sync_time, Some(after_noon(600)));
    let manual = step(&source(On::Manual("one")), &edited.status, &nothing_seen(), after_noon(7));
    assert_eq!(manual.status.next_sync_time, None);
    assert!(matches!(manual.want, Want::Sync(_)));
}

#[test]
fn a_mover_that_does_not_begin_is_told_once_and_left_to_begin() {
    let replication = source(On::Manual("one"));
    let (status, run) = started(&replication);
    let stalled = Some("Pod/x does not start: ImagePullBackOff: no such image".to_owned());
    let world = seen(MoverState::Running { run, stalled });
    let waiting = step(&replication, &status, &world, after_noon(20));
    assert_eq!(condition(&waiting).1, "Error");
    assert!(condition(&waiting).2.contains("ImagePullBackOff"));
    assert!(matches!(waiting.happenings[..], [Happening::Blocked { .. }]));
    assert!(matches!(waiting.want, Want::Sync(_)), "it is not given up");
    let again = step(&replication, &waiting.status, &world, after_noon(40));
    assert_eq!(again.happenings, []);
    assert_eq!(again.status, waiting.status);
}

#[test]
fn a_change_of_the_pod_is_a_change_of_the_plan() {
    let fingerprint = |labels: Option<&str>| {
        let mut source = source_manifest(On::Nothing);
        let rsync = source.spec.rsync.as_mut().unwrap();
        rsync.mover.mover_pod_labels =
            labels.map(|label| [(label.to_owned(), String::new())].into());
        let replication = validate_source(&source, &TimeZone::UTC).unwrap();
        started(&replication).1.fingerprint
    };
    assert_eq!(fingerprint(None), fingerprint(None));
    assert_ne!(fingerprint(None), fingerprint(Some("team")));
}

fn verifying(on: On) -> Replication {
    let mut manifest = source_manifest(on);
    manifest.spec.rsync = None;
    manifest.spec.restic = Some(ResticSource {
        volume: SourceVolumeOptions { copy_method: Some(CopyMethod::Direct), ..Default::default() },
        repository: Some("repository".into()),
        verify: Some(ResticVerify { interval_days: Some(1), read_data_percent: Some(5) }),
        ..Default::default()
    });
    validate_source(&manifest, &TimeZone::UTC).unwrap()
}

/// The next sync of `replication`, at `now`: what its mover is to verify, and how it went after the
/// mover said that so much is damaged.
fn verified(
    replication: &Replication,
    status: &Status,
    (now, outcome): (Timestamp, Outcome),
    damaged: u64,
) -> (Option<Verify>, Step) {
    let mut status = status.clone();
    // It rests.
    for _ in 0..2 {
        let next = step(replication, &status, &nothing_seen(), now);
        status = next.status;
        let Want::Sync(plan) = next.want else { continue };
        let mut report = Report::new(outcome);
        let mut said = ResticReport::default();
        let asked = plan.maintenance.verify;
        if asked.is_some() {
            let first = if damaged > 0 { "pack 01 is missing".to_owned() } else { String::new() };
            said.verified = Some(VerifyReport { asked, damaged, first, ..VerifyReport::default() });
        }
        report.restic = Some(said);
        let (run, ended) = (plan.run(), now);
        let mover = match outcome {
            Outcome::Complete => MoverState::Succeeded { run, report, ended },
            _ => {
                let (attempts, message) = (1, String::new());
                MoverState::Failed { run, attempts, report: Some(report), message, ended }
            }
        };
        let done = step(replication, &status, &seen(mover), now);
        return (plan.maintenance.verify, done);
    }
    panic!("no sync is due at {now}");
}

#[test]
fn a_repository_is_verified_when_it_is_time_and_again_with_each_sync_while_it_is_damaged() {
    let replication = verifying(On::Schedule("0 * * * *"));
    let on = |status: &Status, hour: i64, damaged: u64| {
        verified(&replication, status, (after_noon(3600 * hour), Outcome::Complete), damaged)
    };
    let asked = |round| Some(Verify { percent: 5, round });
    let (what, done) = on(&Status::default(), 0, 0);
    assert_eq!(what, asked(0));
    let (what, done) = on(&done.status, 1, 0);
    assert_eq!(what, None);
    let (what, done) = on(&done.status, 24, 2);
    assert_eq!(what, asked(1));
    let last = done.status.restic.verification.as_ref().unwrap();
    assert_eq!(last.damage.as_deref(), Some("pack 01 is missing; and 1 more"));
    assert!(done.happenings.iter().any(|one| one.reason() == "RepositoryDamaged"));
    assert!(done.status.latest_mover_status.as_ref().unwrap().logs.contains("DAMAGED"));
    let (what, done) = on(&done.status, 25, 1);
    assert_eq!(what, asked(1));
    let (what, done) = on(&done.status, 26, 0);
    assert_eq!(what, asked(1));
    let last = done.status.restic.verification.as_ref().unwrap();
    assert_eq!((last.round, &last.damage), (2, &None));
    let (what, _) = on(&done.status, 27, 0);
    assert_eq!(what, None);
}

#[test]
fn damage_is_told_also_where_the_backup_was_not_complete() {
    for on in [On::Schedule("0 * * * *"), On::Manual("one")] {
        let replication = verifying(on);
        let (_, done) =
            verified(&replication, &Status::default(), (at(NOON), Outcome::Incomplete), 1);
        let last = done.status.restic.verification.as_ref().unwrap();
        assert_eq!(last.damage.as_deref(), Some("pack 01 is missing"));
        assert!(done.happenings.iter().any(|one| one.reason() == "RepositoryDamaged"));
    }
}
