//! Two operators, one Lease: one works, and the other goes on where it stopped.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use volsync_testing::scenario::Cluster;
use volsync_testing::seed::Seed;

use crate::operator::{Operator, Resting, WHOLE};
use crate::pair::Pair;

const LEASE: &str = "lease/b95b3104.backube";
const HAND_OVERS: usize = 6;

fn start(cluster: &Cluster, name: &str) -> Result<Operator> {
    Operator::start(cluster, name, &["--leader-elect", "--namespace", cluster.namespace()])
}

fn leads(cluster: &Cluster, name: &str, seconds: u64) -> Result<()> {
    cluster.until(seconds, |cluster| {
        let holder = cluster.object(LEASE)?["spec"]["holderIdentity"].clone();
        Ok((holder != name).then(|| format!("{holder} leads, not {name}")))
    })
}

fn run() -> Result<()> {
    let _whole = WHOLE.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let resting = Resting::start()?;
    let mut pair = Pair::new("leaders")?;
    let mut random = Seed::new(2);
    let names = ["a", "b"];
    let mut leader = start(&pair.cluster, names[0])?;
    leads(&pair.cluster, names[0], 30)?;
    let mut candidate = start(&pair.cluster, names[1])?;
    // In the middle of a sync the leader is asked to stop, and says goodbye.
    for turn in 0..HAND_OVERS {
        let tag = pair.ask()?;
        thread::sleep(Duration::from_millis(random.below(2500)));
        leader.signal("TERM")?;
        let status = leader.ended()?;
        ensure!(status.success(), "a leader that was asked to stop ended with {status}");
        leads(&pair.cluster, names[(turn + 1) % 2], 20)?;
        leader = std::mem::replace(&mut candidate, start(&pair.cluster, names[turn % 2])?);
        pair.wait(&tag)?;
    }
    // It freezes, and is somebody else's follower when it wakes.
    let tag = pair.ask()?;
    thread::sleep(Duration::from_millis(500));
    leader.signal("STOP")?;
    leads(&pair.cluster, names[(HAND_OVERS + 1) % 2], 180)?;
    pair.wait(&tag)?;
    leader.signal("CONT")?;
    let status = leader.ended()?;
    ensure!(!status.success(), "a leader that lost its Lease ended as if all were well");
    let tag = pair.ask()?;
    pair.wait(&tag)?;
    let syncs = pair.is_clean()?;
    pair.had_one_mover_each()?;
    pair.restores()?;
    drop(candidate);
    drop(resting);
    eprintln!("{syncs} syncs went well over {HAND_OVERS} hand-overs and a frozen leader");
    Ok(())
}

#[test]
fn a_sync_goes_on_under_another_leader() {
    if let Err(error) = run() {
        panic!("{error:#}");
    }
}
