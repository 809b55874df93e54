//! Months of schedules against a fake clock and a hostile world.
//!
//! A [`World`] owns the time, one replication, its recorded status and a scripted mover. It takes a
//! turn as a shell does: observe, step, record, act. Every turn checks the invariants of the
//! machine; their names are at the checks. `PROPTEST_CASES` makes the search longer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use volsync_api::v1alpha1::{
    CopyMethod, ReplicationSource, ReplicationSourceSpec, ReplicationSourceStatus, RsyncSource,
    SourceVolumeOptions, Trigger,
};
use volsync_contract::{Outcome, Report, Retry};
use volsync_replication::{
    CONTINUOUS_FLOOR, Happening, MoverState, Observation, Replication, Run, State, Status,
    SyncPlan, Want, step, validate_source,
};

/// Something that happens to a replication.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes.
    Pass(i64),
    /// The clock is set forth or back.
    SetClock(i64),
    /// The user edits the trigger.
    Edit(When),
    /// The user edits what a mover is told.
    Address(u8),
    /// The user pauses or resumes.
    Pause(bool),
    /// Something a mover needs goes, or comes back.
    Block(bool),
    /// The shell is killed in its next turn.
    Kill(Moment),
}

#[derive(Debug, Clone)]
enum When {
    Schedule(&'static str),
    Manual(u8),
    Continuous,
}

/// Between which two lines a shell is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    BeforeRecording,
    BeforeActing,
}

/// How a mover will fare.
#[derive(Debug, Clone, Copy)]
struct Script {
    seconds: i64,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    Complete,
    Incomplete,
    Transient,
    Permanent,
    NoReport,
    LiesOnSuccess,
}

#[derive(Debug)]
struct Mover {
    run: Run,
    attempts: u32,
    remaining: i64,
    ending: Ending,
    ended: Option<Timestamp>,
}

struct World {
    now: Timestamp,
    source: ReplicationSource,
    recorded: ReplicationSourceStatus,
    mover: Option<Mover>,
    temporaries: bool,
    blocked: bool,
    kill: Option<Moment>,
    scripts: Vec<Script>,
    started: usize,
    failed: u32,
    last_plan: Option<(Replication, SyncPlan)>,
    /// What an outsider sees: each mover started, with its tag, and each sync completed.
    history: Vec<String>,
    completed: usize,
    last_end: Option<Timestamp>,
    clock_was_set: bool,
}

impl World {
    fn new(when: &When, scripts: Vec<Script>) -> Self {
        let mut source = ReplicationSource::new("photos", ReplicationSourceSpec::default());
        source.spec.source_pvc = Some("photos".into());
        source.spec.rsync = Some(RsyncSource {
            volume: SourceVolumeOptions {
                copy_method: Some(CopyMethod::Snapshot),
                ..Default::default()
            },
            address: Some("mirror".into()),
            ..Default::default()
        });
        let mut world = Self {
            now: "2024-05-06T11:59:31.25Z".parse().unwrap(),
            source,
            recorded: ReplicationSourceStatus::default(),
            mover: None,
            temporaries: false,
            blocked: false,
            kill: None,
            scripts,
            started: 0,
            failed: 0,
            last_plan: None,
            history: Vec::new(),
            completed: 0,
            last_end: None,
            clock_was_set: false,
        };
        world.edit(when);
        world
    }

    fn edit(&mut self, when: &When) {
        self.source.spec.trigger = match when {
            When::Schedule(text) => Some(Trigger { schedule: Some((*text).into()), manual: None }),
            When::Manual(tag) => {
                Some(Trigger { schedule: None, manual: Some(format!("tag {tag}")) })
            }
            When::Continuous => None,
        };
    }

    fn replication(&self) -> Replication {
        validate_source(&self.source, &TimeZone::UTC).unwrap()
    }

    fn observe(&self) -> Observation {
        let mover = match &self.mover {
            None => MoverState::NotStarted,
            Some(Mover { run, ended: None, .. }) => {
                MoverState::Running { run: run.clone(), stalled: None }
            }
            Some(Mover { run, ended: Some(ended), ending, attempts, .. }) => {
                let (run, ended) = (run.clone(), *ended);
                let failed = |report: Option<Report>| MoverState::Failed {
                    run: run.clone(),
                    attempts: *attempts,
                    report,
                    message: String::new(),
                    ended,
                };
                match ending {
                    Ending::Complete => MoverState::Succeeded {
                        run: run.clone(),
                        report: Report::new(Outcome::Complete),
                        ended,
                    },
                    Ending::Incomplete => failed(Some(Report::new(Outcome::Incomplete))),
                    Ending::Transient => {
                        failed(Some(Report::failed(Retry::Transient, "no route", "")))
                    }
                    Ending::Permanent => {
                        failed(Some(Report::failed(Retry::Permanent, "wrong key", "")))
                    }
                    Ending::NoReport => failed(None),
                    Ending::LiesOnSuccess => failed(Some(Report::new(Outcome::Complete))),
                }
            }
        };
        Observation {
            leftovers: self.mover.is_some() || self.temporaries,
            mover,
            blocked: self.blocked.then(|| "Secret keys does not exist".to_owned()),
            ..Default::default()
        }
    }

    /// One turn of a shell. Whether anything changed, and when to look again.
    fn turn(&mut self) -> (bool, Option<Timestamp>) {
        let replication = self.replication();
        let status = Status::from_source(&self.recorded);
        let seen = self.observe();
        let taken = step(&replication, &status, &seen, self.now);
        assert_eq!(
            taken,
            step(&replication, &status, &seen, self.now),
            "1: the same inputs, the same answer"
        );
        self.check(&replication, &status, &seen, &taken);

        let kill = self.kill.take();
        if kill == Some(Moment::BeforeRecording) {
            return (true, None);
        }
        let mut recorded = self.recorded.clone();
        taken.status.write_to_source(&mut recorded);
        let read_back = Status::from_source(&recorded);
        assert_eq!(read_back, taken.status, "2: a status survives being recorded");
        assert_eq!(State::of(&read_back), State::of(&taken.status), "2: the state is derived");
        let changed = recorded != self.recorded;
        self.recorded = recorded;
        for happening in &taken.happenings {
            if let Happening::SyncCompleted { .. } = happening {
                self.history.push(format!("{} completed", self.now));
                self.completed += 1;
                self.last_end = Some(self.now);
            }
        }
        if kill == Some(Moment::BeforeActing) {
            return (true, None);
        }
        let acted = self.act(&replication, taken.want);
        if !changed && !acted {
            let later = taken.look_again.is_none_or(|look_again| look_again > self.now);
            assert!(later, "8: nothing changes and it spins at {}", self.now);
        }
        (changed || acted, taken.look_again)
    }

    fn act(&mut self, replication: &Replication, want: Want) -> bool {
        match want {
            Want::Nothing => match &self.mover {
                // Stopped; results of one that ended are kept.
                Some(Mover { ended: None, .. }) => {
                    self.mover = None;
                    true
                }
                Some(_) | None => false,
            },
            Want::CleanUp(_) => {
                let any = self.mover.is_some() || self.temporaries;
                (self.mover, self.temporaries, self.failed) = (None, false, 0);
                any
            }
            Want::Sync(plan) => {
                assert!(!replication.paused, "9: a paused replication starts nothing");
                let keep = self.mover.as_ref().is_some_and(|mover| match mover.ended {
                    None => mover.run.fingerprint == Some(plan.fingerprint()),
                    Some(_) => mover.ending == Ending::Complete,
                });
                if keep {
                    return false;
                }
                if let Some(mover) = self.mover.take() {
                    assert_eq!(
                        mover.run.sync_start,
                        Some(plan.start),
                        "4: a mover of another sync is in the way"
                    );
                    self.failed += u32::from(mover.ended.is_some());
                }
                assert!(!self.blocked, "a mover that cannot start is not asked for");
                let script = self.scripts[self.started % self.scripts.len()];
                self.started += 1;
                self.temporaries = true;
                self.history.push(format!(
                    "{} started for {} with {:?}",
                    self.now, plan.start, plan.manual_tag
                ));
                self.mover = Some(Mover {
                    run: plan.run(),
                    attempts: self.failed + 1,
                    remaining: script.seconds,
                    ending: script.ending,
                    ended: None,
                });
                true
            }
        }
    }

    fn check(
        &mut self,
        replication: &Replication,
        status: &Status,
        seen: &Observation,
        taken: &volsync_replication::Step,
    ) {
        let new = &taken.status;
        if let Want::Sync(plan) = &taken.want {
            assert_eq!(
                Some(plan.start),
                new.last_sync_start_time,
                "3: a plan is of the sync under way"
            );
            if let Some((before, frozen)) = &self.last_plan
                && before == replication
                && frozen.start == plan.start
            {
                assert_eq!(frozen, plan, "3: a plan is frozen at the start");
            }
            self.last_plan = Some((replication.clone(), plan.clone()));
        }
        let word = match &seen.mover {
            MoverState::Succeeded { run, report, .. } if report.outcome == Outcome::Complete => {
                Some(run)
            }
            MoverState::NotStarted
            | MoverState::Running { .. }
            | MoverState::Succeeded { .. }
            | MoverState::Failed { .. } => None,
        };
        let completed = taken
            .happenings
            .iter()
            .any(|happening| matches!(happening, Happening::SyncCompleted { .. }));
        if new.last_manual_sync != status.last_manual_sync {
            let run = word.expect("6: a tag is echoed when its sync completes, never before");
            assert!(completed, "6: a tag is echoed when its sync completes");
            assert_eq!(
                new.last_manual_sync, run.manual_tag,
                "6: the tag echoed is the one the sync was started for"
            );
        }
        assert!(
            new.last_sync_time >= status.last_sync_time,
            "7: lastSyncTime never goes backwards"
        );
        let missed = taken
            .happenings
            .iter()
            .filter(|h| matches!(h, Happening::IntervalMissed { .. }))
            .count();
        assert!(
            missed <= usize::from(completed),
            "7: a missed interval is counted once, with its sync"
        );
        if completed {
            let run = word.expect("10: success is the mover's word");
            let start = status.last_sync_start_time.expect("10: only a sync under way completes");
            assert_eq!(run.sync_start, Some(start), "10: the word of this sync's own mover");
            let took = self.now.duration_since(start).max(SignedDuration::ZERO);
            assert_eq!(new.last_sync_duration.unwrap().0, took, "7: a duration is end minus start");
            assert!(missed == 0 || status.last_sync_time.is_some());
        } else {
            assert_eq!(
                new.last_sync_time, status.last_sync_time,
                "10: no success without a completed sync"
            );
        }
        if replication.paused {
            assert_eq!(taken.want, Want::Nothing, "9: paused means still");
            let starts =
                status.last_sync_start_time.is_none() && new.last_sync_start_time.is_some();
            assert!(!starts, "9: a paused replication starts no sync");
        }
        if let (None, Some(start)) = (status.last_sync_start_time, new.last_sync_start_time)
            && replication.trigger == volsync_replication::Trigger::Continuous
            && let Some(end) = self.last_end
            && !self.clock_was_set
        {
            let floor = CONTINUOUS_FLOOR - SignedDuration::from_secs(1);
            assert!(start.duration_since(end) >= floor, "8: a continuous trigger has a floor");
        }
    }

    /// Takes turns until nothing changes any more. When to look again.
    fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..20 {
            let (changed, look_again) = self.turn();
            if !changed {
                return look_again;
            }
        }
        panic!("8: it never comes to rest at {}", self.now);
    }

    fn pass(&mut self, seconds: i64) {
        let until = self.now + SignedDuration::from_secs(seconds);
        for _ in 0..20_000 {
            let look_again = self.settle().unwrap_or(Timestamp::MAX);
            let ends = match &self.mover {
                Some(Mover { ended: None, remaining, .. }) => {
                    self.now + SignedDuration::from_secs(*remaining)
                }
                Some(_) | None => Timestamp::MAX,
            };
            let next = look_again.min(ends).min(until);
            let passed = next.duration_since(self.now);
            self.now = next;
            if let Some(mover) = self.mover.as_mut().filter(|mover| mover.ended.is_none()) {
                mover.remaining -= passed.as_secs();
                if next == ends {
                    mover.ended = Some(next);
                }
            }
            if next == until {
                self.settle();
                return;
            }
        }
        panic!("8: it looks again too often");
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Pass(seconds) => return self.pass(*seconds),
            Event::SetClock(seconds) => {
                self.now += SignedDuration::from_secs(*seconds);
                self.clock_was_set = true;
            }
            Event::Edit(when) => self.edit(when),
            Event::Address(n) => {
                if let Some(rsync) = &mut self.source.spec.rsync {
                    rsync.address = Some(format!("mirror-{n}"));
                }
            }
            Event::Pause(paused) => self.source.spec.paused = Some(*paused),
            Event::Block(blocked) => self.blocked = *blocked,
            // Only then is there a next turn for it to be killed in.
            Event::Kill(moment) => self.kill = Some(*moment),
        }
        self.settle();
    }
}

fn a_trigger() -> impl Strategy<Value = When> {
    prop_oneof![
        proptest::sample::select(vec!["*/10 * * * *", "0 * * * *", "0 3 * * *", "*/7 9-17 * * *"])
            .prop_map(When::Schedule),
        (0_u8..4).prop_map(When::Manual),
        Just(When::Continuous),
    ]
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![0_i64..30, 0_i64..900, 0_i64..20_000].prop_map(Event::Pass),
        1 => (-300_000_i64..300_000).prop_map(Event::SetClock),
        2 => a_trigger().prop_map(Event::Edit),
        1 => (0_u8..3).prop_map(Event::Address),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::Block),
        3 => prop_oneof![Just(Moment::BeforeRecording), Just(Moment::BeforeActing)].prop_map(Event::Kill),
    ]
}

fn a_script() -> impl Strategy<Value = Script> {
    let ending = prop_oneof![
        4 => Just(Ending::Complete),
        2 => Just(Ending::Incomplete),
        2 => Just(Ending::Transient),
        1 => Just(Ending::Permanent),
        1 => Just(Ending::NoReport),
        1 => Just(Ending::LiesOnSuccess),
    ];
    (prop_oneof![1_i64..20, 1_i64..5_000], ending)
        .prop_map(|(seconds, ending)| Script { seconds, ending })
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    proptest::collection::vec(a_script(), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_in_a_hostile_world_and_syncs_go_on_when_it_calms_down(
        when in a_trigger(),
        scripts in scripts(),
        events in proptest::collection::vec(an_event(), 0..25),
    ) {
        let mut world = World::new(&when, scripts);
        for event in &events {
            world.happen(event);
        }
        world.happen(&Event::Pause(false));
        world.happen(&Event::Block(false));
        world.scripts = vec![Script { seconds: 5, ending: Ending::Complete }];
        let before = world.completed;
        world.happen(&Event::Edit(When::Manual(77)));
        world.pass(7_200);
        prop_assert_eq!(world.recorded.last_manual_sync.as_deref(), Some("tag 77"));
        prop_assert!(world.completed > before);
        let before = world.completed;
        world.happen(&Event::Edit(When::Schedule("0 3 * * *")));
        world.pass(2 * 86_400);
        prop_assert!(world.completed > before);
    }

    #[test]
    fn killing_the_shell_between_any_two_lines_changes_nothing(
        when in a_trigger(),
        scripts in scripts(),
        events in proptest::collection::vec(an_event(), 0..25),
    ) {
        let mut killed = World::new(&when, scripts.clone());
        let mut spared = World::new(&when, scripts);
        for event in &events {
            killed.happen(event);
            if !matches!(event, Event::Kill(_)) {
                spared.happen(event);
            } else {
                spared.settle();
            }
            prop_assert_eq!(&killed.recorded, &spared.recorded, "5: nothing is lost at the seams");
            prop_assert_eq!(&killed.history, &spared.history, "5: nothing is lost at the seams");
        }
    }
}

#[test]
fn a_year_of_nightly_syncs_has_one_sync_a_night() {
    let scripts = vec![Script { seconds: 900, ending: Ending::Complete }];
    let mut world = World::new(&When::Schedule("0 3 * * *"), scripts);
    world.pass(365 * 86_400);
    assert_eq!(world.completed, 366);
}

#[test]
fn a_source_that_cannot_read_everything_does_not_try_more_often_than_its_schedule() {
    let scripts = vec![Script { seconds: 5, ending: Ending::Incomplete }];
    let mut world = World::new(&When::Schedule("0 * * * *"), scripts);
    world.pass(10 * 3_600);
    assert_eq!((world.started, world.completed), (11, 0));
}

#[test]
fn a_mover_that_fails_for_good_is_tried_ever_less_down_to_every_ten_minutes() {
    let scripts = vec![Script { seconds: 1, ending: Ending::Permanent }];
    let mut world = World::new(&When::Manual(1), scripts);
    world.pass(3_600);
    // After 1, 2, 4 and 8 minutes, then every ten.
    assert_eq!(world.started, 9);
    world.pass(3_600);
    assert_eq!(world.started, 15);
}
