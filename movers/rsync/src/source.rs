//! The whole source side: open the volume, connect, send, and try again while that can help.

use std::time::{Duration, Instant};

use volsync_contract::{Outcome, Report, RsyncSource, Task};
use volsync_mover::{Backoff, Context, Root};

use crate::error::Error;
use crate::native;
use crate::ssh::Pace;
use crate::ssh::client::{self, Target};
use crate::ssh::keys::SourceKeys;

/// Sends the volume to its destination.
pub async fn run(task: &Task, source: &RsyncSource, context: &Context) -> Result<Report, Error> {
    let keys = SourceKeys::read(&source.keys)?;
    let root = Root::open(&task.data)?;
    let target = Target { address: source.address.clone(), port: source.port };
    let started = Instant::now();
    let mut attempts = 0;
    let mut delays = Backoff::default();
    loop {
        attempts += 1;
        let pace = Pace { connect: patience(attempts), ..Pace::default() };
        let error = match attempt(task, &root, &target, &keys, pace, context).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let stopped = context.shutdown.is_requested();
        let delay = if error.is_worth_another_attempt() && !stopped { delays.next() } else { None };
        let Some(delay) = delay else {
            return Err(match error {
                error if attempts == 1 => error,
                last => Error::Attempts {
                    attempts,
                    seconds: started.elapsed().as_secs(),
                    last: Box::new(last),
                },
            });
        };
        let (wait, all) = (delay.as_secs_f32(), Backoff::ATTEMPTS);
        tracing::warn!("{error}; trying again in {wait} s (attempt {attempts} of {all})");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = context.shutdown.requested() => return Err(Error::Interrupted),
        }
    }
}

/// How long an attempt waits for a connection. The address of a destination that has just started may
/// still lead to the one before it, which answers no more: then only a new connection gets through, so
/// the first attempts give up soon. A slow network gets its time later.
fn patience(attempt: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(3);
    FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(Pace::default().connect)
}

async fn attempt(
    task: &Task,
    root: &Root,
    target: &Target,
    keys: &SourceKeys,
    pace: Pace,
    context: &Context,
) -> Result<Report, Error> {
    let stream = tokio::select! {
        stream = client::connect_with(target, keys, pace) => stream?,
        () = context.shutdown.requested() => return Err(Error::Interrupted),
    };
    tracing::info!(peer = stream.peer, "connected to the destination");
    let monitor = &context.monitor;
    monitor.phase(volsync_contract::Phase::Transferring);
    let theirs = native::send(&task.name, root, stream, monitor, &context.shutdown).await?;
    // The destination has counted for both sides; only what this side alone knows is added.
    let outcome = match theirs.outcome {
        Outcome::Complete if monitor.is_complete() => Outcome::Complete,
        Outcome::Complete | Outcome::Incomplete => Outcome::Incomplete,
        Outcome::FailedTransient | Outcome::FailedPermanent => theirs.outcome,
    };
    let mut report = Report { outcome, ..theirs };
    let ours = monitor.report(outcome);
    report.counts.elapsed_milliseconds = ours.counts.elapsed_milliseconds;
    if outcome == Outcome::Incomplete && report.message.is_empty() {
        report.message = ours.message;
        report.hint = ours.hint;
        report.skipped = ours.skipped;
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_do_not_wait_long_and_the_last_do() {
        let seconds: Vec<u64> = (1..=6).map(|attempt| patience(attempt).as_secs()).collect();
        assert_eq!(seconds, [3, 6, 12, 24, 30, 30]);
    }
}
