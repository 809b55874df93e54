//! The operator killed at random moments: no sync is lost or doubled, and nothing stays behind.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use volsync_testing::seed::Seed;

use crate::operator::{Operator, Resting, WHOLE};
use crate::pair::Pair;

const KILLS: usize = 50;

fn run() -> Result<()> {
    let _whole = WHOLE.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let resting = Resting::start()?;
    let mut pair = Pair::new("killed")?;
    let mut random = Seed::new(50);
    let mut killed = 0;
    let mut operator = Operator::start(&pair.cluster, "killed", &[])?;
    while killed < KILLS {
        let tag = pair.ask()?;
        let patience = Instant::now() + Duration::from_secs(240);
        loop {
            // Between nothing at all and most of what a sync takes.
            thread::sleep(Duration::from_millis(random.below(1500)));
            if pair.is_done(&tag)? {
                break;
            }
            ensure!(
                Instant::now() < patience,
                "{tag} is stuck after {killed} kills\n{}",
                pair.cluster.all_there_is()
            );
            if killed < KILLS {
                drop(operator);
                killed += 1;
                operator = Operator::start(&pair.cluster, "killed", &[])?;
            }
        }
    }
    let syncs = pair.is_clean()?;
    pair.had_one_mover_each()?;
    pair.restores()?;
    drop(operator);
    drop(resting);
    eprintln!("{syncs} syncs went well in spite of {killed} kills");
    Ok(())
}

#[test]
fn killed_fifty_times_no_sync_is_lost_or_doubled() {
    if let Err(error) = run() {
        panic!("{error:#}");
    }
}
