//! Backups, prunes and restores that are killed at any moment: the repository stays whole, nobody has to
//! unlock it, and the next run makes good.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

mod place;

use std::process::Child;
use std::time::{Duration, Instant};

use place::Place;
use volsync_testing::compare::{content, walk};

/// In both tests together.
const KILLS: u32 = 220;
/// So many runs are killed before one may go to its end.
const IN_A_ROW: u32 = 5;

/// Kills it within this time; whether it still ran.
fn kill(place: &mut Place, mut child: Child, within: Duration) -> bool {
    let micros = place.seed.below(within.as_micros() as u64);
    std::thread::sleep(Duration::from_micros(micros));
    let ran = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    ran
}

#[test]
fn a_backup_and_a_prune_killed_at_any_moment_lose_nothing() {
    let mut place = Place::new(1);
    place.whole(place.back_up(false));
    let (mut kills, mut reused) = (0, 0);
    while kills < KILLS / 2 {
        place.change();
        let started = Instant::now();
        place.whole(place.back_up(true));
        let takes = started.elapsed();
        place.change();
        for round in 0..IN_A_ROW {
            let child = place.back_up(round % 2 == 0);
            kills += u32::from(kill(&mut place, child, takes));
        }
        if kills % 4 == 0 {
            place.check();
        }
        let said = place.whole(place.back_up(true));
        assert!(said.postponed.is_empty(), "{said:?}");
        assert!(said.pruned && said.verified.unwrap().damaged == 0);
        reused += u32::from(said.added_bytes == 0);
        assert!(walk(&place.path("repository/locks")).is_empty());
        place.check();
    }
    assert!(reused > 0, "no run has found what a killed one had uploaded");
}

#[test]
fn a_restore_killed_at_any_moment_is_made_good_by_the_next() {
    let mut place = Place::new(2);
    let restored = place.path("restored");
    place.whole(place.back_up(false));
    let (mut kills, mut takes) = (0, Duration::from_millis(500));
    while kills < KILLS / 2 {
        for _ in 0..IN_A_ROW {
            let child = place.restore();
            kills += u32::from(kill(&mut place, child, takes));
        }
        let started = Instant::now();
        place.whole(place.restore());
        takes = takes.max(started.elapsed());
        assert_eq!(content(&restored), content(&place.path("volume")));
        place.change();
        place.whole(place.back_up(false));
    }
    place.check();
}
