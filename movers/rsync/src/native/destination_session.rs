//! One session of a destination, from the first message to the last.

use std::time::Duration;

use crossbeam_channel::Sender;
use volsync_contract::{Outcome, Phase};
use volsync_mover::{Monitor, Root, Shutdown};

use super::delete::Deletes;
use super::generator::Generator;
use super::link::{self, Ended, Inbox, LinkError, Outbox, Waker, WireBytes};
use super::message::{Listing, Message, VERSION};
use super::receiver::{Receiver, Work, sign};
use super::session::Arrived;
use super::source_session::stop_on_request;
use super::target::{Failure, Target};
use crate::error::Error;
use crate::ssh;

/// Threads that write files, and threads that sign basis files.
const RECEIVERS: usize = 2;
const SIGNERS: usize = 2;
/// Pieces of work that may wait for a receiver.
const WORK_AHEAD: usize = 2;
/// How long a problem may take to reach the source.
const GOODBYE: Duration = Duration::from_secs(5);

/// Receives into `root` over `stream` until the source has taken note of the result.
pub async fn receive(
    name: &str,
    root: &Root,
    stream: ssh::Stream,
    monitor: &Monitor,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let (outbox, inbox, waker, wire, tasks) = link::open(stream);
    let link = Link { outbox, inbox, waker, wire: wire.clone() };
    let stopper = tokio::spawn(stop_on_request(shutdown.clone(), link.waker.clone()));
    let result = tokio::task::block_in_place(|| run(name, root, link, monitor, shutdown));
    stopper.abort();
    tasks.close(GOODBYE).await;
    monitor.wire(wire.received(), wire.sent());
    result
}

enum Compare {
    Listing(Listing),
    End { complete: bool },
}

/// What connects a session with its channel.
struct Link {
    outbox: Outbox,
    inbox: Inbox,
    waker: Waker,
    wire: WireBytes,
}

fn run(
    name: &str,
    root: &Root,
    link: Link,
    monitor: &Monitor,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let Link { outbox, mut inbox, waker, wire } = link;
    let wire = &wire;
    let token = session_token()?;
    let mut deletes =
        Deletes::new(root, token).map_err(|source| Error::Volume { what: "prepare", source })?;
    outbox.send(&Message::Hello { version: VERSION, name: name.to_owned() }).unwrap_or_default();
    let (to_sign, sign_jobs) = crossbeam_channel::unbounded();
    let target = Target::new(root, outbox.clone(), waker, monitor, token, to_sign);
    let target = &target;
    let (to_compare, compare) = crossbeam_channel::unbounded();

    std::thread::scope(|scope| {
        for _ in 0..SIGNERS {
            let jobs = sign_jobs.clone();
            scope.spawn(move || sign(target, &jobs).unwrap_or_default());
        }
        let mut receivers = Vec::new();
        for _ in 0..RECEIVERS {
            let (work_in, work) = crossbeam_channel::bounded(WORK_AHEAD);
            receivers.push(work_in);
            // One that ends early has told the target why.
            scope.spawn(move || Receiver::new(target).run(&work).unwrap_or_default());
        }
        scope.spawn(move || {
            let mut generator = Generator::new(target, &mut deletes);
            let mut ended = None;
            for compare in compare {
                match compare {
                    Compare::Listing(listing) => {
                        if generator.listing(listing).is_err() {
                            return;
                        }
                    }
                    Compare::End { complete } => {
                        ended = Some(complete);
                        break;
                    }
                }
            }
            drop(generator);
            if let Some(complete) = ended {
                finish(target, deletes, complete, wire).unwrap_or_default();
            }
        });
        let mut router = Router { target, to_compare, receivers, next: 0 };
        let result = router.run(&mut inbox, shutdown);
        drop(router);
        target.end();
        target.stop_signing();
        if let Some(Failure { transient, at_once, message, hint }) = target.failure() {
            outbox.close();
            return Err(Error::Destination { transient, at_once, message, hint });
        }
        if let Err(Error::Protocol { message }) = &result {
            let problem = Message::Problem {
                transient: false,
                at_once: false,
                message: message.clone(),
                hint: String::new(),
            };
            outbox.send(&problem).unwrap_or_default();
        }
        drop(inbox);
        if result.is_err() {
            outbox.close();
        }
        result
    })
}

/// Everything behind the comparison: wait for the files, delete, set late attributes, flush, tell.
fn finish(
    target: &Target<'_>,
    deletes: Deletes,
    complete: bool,
    wire: &WireBytes,
) -> Result<(), Ended> {
    target.wait_until_closed()?;
    if complete {
        target.monitor.phase(Phase::Deleting);
        deletes.carry_out(target)?;
        if let Some(mut failure) = target.is_full() {
            let deleted = target.monitor.report(Outcome::Incomplete).counts.deleted;
            if deleted > 0 {
                failure.at_once = true;
                failure.message = format!(
                    "{}; {deleted} entries the source no longer has were deleted first",
                    failure.message
                );
            }
            target.fail(failure);
            return Err(Ended);
        }
    } else if let Some(failure) = target.is_full() {
        target.fail(failure);
        return Err(Ended);
    } else if deletes.count() > 0 {
        tracing::warn!(
            count = deletes.count(),
            "nothing is deleted, because the source could not be read completely"
        );
    }
    target.monitor.phase(Phase::Finishing);
    let late =
        std::mem::take(&mut *target.late.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    for (path, want) in late.iter().rev() {
        match target.root.dir(path) {
            Ok(dir) => target.settle(path, &dir, want)?,
            Err(error) => target.trouble(path, &error, "attributes not set")?,
        }
    }
    if let Err(error) = target.root.sync() {
        target.fail(Failure {
            transient: true,
            at_once: false,
            message: format!(
                "the destination volume cannot be flushed: {}",
                volsync_mover::io_reason(&error)
            ),
            hint: "check the volume's disk".to_owned(),
        });
        return Err(Ended);
    }
    target.monitor.wire(wire.received(), wire.sent());
    let outcome =
        if target.monitor.is_complete() { Outcome::Complete } else { Outcome::Incomplete };
    let report = target.monitor.report(outcome).to_json();
    target.session().finished();
    target.outbox.send(&Message::Finished { report })
}

struct Router<'a> {
    target: &'a Target<'a>,
    to_compare: Sender<Compare>,
    receivers: Vec<Sender<Work>>,
    next: usize,
}

impl Router<'_> {
    fn run(&mut self, inbox: &mut Inbox, shutdown: &Shutdown) -> Result<(), Error> {
        loop {
            if shutdown.is_requested() {
                return Err(Error::Interrupted);
            }
            let message = match inbox.receive() {
                Ok(Some(message)) => message,
                Ok(None) => return Err(Error::ConnectionLost { peer: "source" }),
                Err(LinkError::Stopped) => return Err(Error::Interrupted),
                Err(LinkError::Ssh(error)) => return Err(Error::Ssh(error)),
                Err(LinkError::Message(error)) => {
                    return Err(Error::Protocol { message: error.to_string() });
                }
            };
            let arrived = self
                .target
                .session()
                .take(message)
                .map_err(|error| Error::Protocol { message: error.to_string() })?;
            let handed_on = match arrived {
                Arrived::Greeting => Ok(()),
                Arrived::Listing(listing) => {
                    self.target.monitor.phase(Phase::Transferring);
                    let bytes = listing.entries.iter().map(|entry| entry.metadata.size).sum();
                    self.target.monitor.found(listing.entries.len() as u64, bytes);
                    self.to_compare.send(Compare::Listing(listing)).map_err(|_| Ended)
                }
                Arrived::End { total_bytes, complete, .. } => {
                    self.target.monitor.total_known(total_bytes);
                    self.to_compare.send(Compare::End { complete }).map_err(|_| Ended)
                }
                Arrived::Small(small, wanted) => {
                    self.next += 1;
                    self.hand(self.next as u64, Work::Small(small, wanted))
                }
                Arrived::Begin { id, request, size, mtime } => {
                    self.hand(id, Work::Begin { id, wanted: request, size, mtime })
                }
                Arrived::Data { id, offset, bytes } => {
                    self.hand(id, Work::Data { id, offset, bytes })
                }
                Arrived::Copies { id, ranges } => self.hand(id, Work::Copies { id, ranges }),
                Arrived::Commit { id, hash } => self.hand(id, Work::Commit { id, hash }),
                Arrived::Failed { id, request, vanished, why, .. } => {
                    self.hand(id, Work::Failed { id, wanted: request, vanished, why })
                }
                Arrived::Used(id) => {
                    if let Some(wanted) = self.target.session().request(id)
                        && let Some(basis) = &wanted.basis
                    {
                        basis.used();
                    }
                    Ok(())
                }
                Arrived::Skipped(path, why) => {
                    self.target.monitor.skipped(&path, &why);
                    Ok(())
                }
                Arrived::Bye => return Ok(()),
                Arrived::Problem { transient, at_once, message, hint } => {
                    return Err(Error::Peer { peer: "source", transient, at_once, message, hint });
                }
            };
            if handed_on.is_err() || self.target.failure().is_some() {
                // The thread that ended has told the target why.
                return Err(Error::ConnectionLost { peer: "source" });
            }
        }
    }

    fn hand(&self, to: u64, work: Work) -> Result<(), Ended> {
        match self.receivers.get(to as usize % self.receivers.len()) {
            Some(receiver) => receiver.send(work).map_err(|_| Ended),
            None => Err(Ended),
        }
    }
}

fn session_token() -> Result<u32, Error> {
    let mut token = [0; 4];
    rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| Error::Volume { what: "prepare", source: source.into() })?;
    Ok(u32::from_le_bytes(token))
}

#[cfg(test)]
mod tests;
