//! One session of a source, from the first message to the last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use volsync_contract::Report;
use volsync_mover::{Monitor, Root, Shutdown};

use super::link::{self, Ended, Inbox, LinkError, Outbox, Waker};
use super::listing::{Credit, Walk, Walked};
use super::message::{Message, VERSION};
use super::sender::{Job, Sender};
use super::session::{Asked, SourceSession};
use crate::error::Error;
use crate::ssh;

/// Threads that read and send files.
const SENDERS: usize = 2;
/// How long the destination may take to note that all is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// Sends `root` over `stream`. Returns the destination's report, which covers both sides.
pub async fn send(
    name: &str,
    root: &Root,
    stream: ssh::Stream,
    monitor: &Monitor,
    shutdown: &Shutdown,
) -> Result<Report, Error> {
    let (outbox, inbox, waker, wire, tasks) = link::open(stream);
    let credit = Credit::new();
    let stopper = tokio::spawn(stop_on_request(shutdown.clone(), waker));
    let result =
        tokio::task::block_in_place(|| run(name, root, &credit, outbox, inbox, monitor, shutdown));
    stopper.abort();
    tasks.close(GOODBYE).await;
    monitor.wire(wire.sent(), wire.received());
    result
}

/// Wakes the session when a signal asks for a stop.
pub(super) async fn stop_on_request(shutdown: Shutdown, waker: Waker) {
    shutdown.requested().await;
    waker.stop();
}

fn run(
    name: &str,
    root: &Root,
    credit: &Credit,
    outbox: Outbox,
    mut inbox: Inbox,
    monitor: &Monitor,
    shutdown: &Shutdown,
) -> Result<Report, Error> {
    let session = Mutex::new(SourceSession::default());
    let (jobs_in, jobs) = crossbeam_channel::unbounded();
    outbox.send(&Message::Hello { version: VERSION, name: name.to_owned() }).unwrap_or_default();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            let sender = Sender::new(root, &outbox, &session, monitor);
            let jobs = jobs.clone();
            // A sender only ends early when the session has; the loop below says why.
            scope.spawn(move || sender.run(&jobs).unwrap_or_default());
        }
        let (session_of_walk, outbox_of_walk) = (&session, &outbox);
        scope.spawn(move || {
            let on_listing =
                || session_of_walk.lock().unwrap_or_else(PoisonError::into_inner).listed();
            let walk = Walk::new(root, outbox_of_walk, credit, monitor, &on_listing);
            walk_and_end(walk, session_of_walk, outbox_of_walk).unwrap_or_default();
        });
        let mut router = Router {
            session: &session,
            credit,
            monitor,
            jobs: Some(jobs_in),
            signatures: HashMap::new(),
        };
        let result = router.run(&mut inbox, shutdown);
        if let Err(Error::Protocol { message }) = &result {
            let problem = Message::Problem {
                transient: false,
                at_once: false,
                message: message.clone(),
                hint: String::new(),
            };
            outbox.send(&problem).unwrap_or_default();
        }
        credit.close();
        drop(router);
        // Frames no longer taken make every `send` of the threads above end.
        drop(inbox);
        if result.is_ok() {
            outbox.send(&Message::Bye).unwrap_or_default();
        } else {
            outbox.close();
        }
        result
    })
}

fn walk_and_end(
    walk: Walk<'_>,
    session: &Mutex<SourceSession>,
    outbox: &Outbox,
) -> Result<(), Ended> {
    let Walked { entries, total_bytes, complete } = walk.run()?;
    session.lock().unwrap_or_else(PoisonError::into_inner).ended();
    outbox.send(&Message::End { entries, total_bytes, complete })
}

struct Router<'a> {
    session: &'a Mutex<SourceSession>,
    credit: &'a Credit,
    monitor: &'a Monitor,
    jobs: Option<crossbeam_channel::Sender<Job>>,
    signatures: HashMap<u64, crossbeam_channel::Sender<super::message::SegmentSignature>>,
}

impl Router<'_> {
    fn run(&mut self, inbox: &mut Inbox, shutdown: &Shutdown) -> Result<Report, Error> {
        loop {
            if shutdown.is_requested() {
                return Err(Error::Interrupted);
            }
            let message = match inbox.receive() {
                Ok(Some(message)) => message,
                Ok(None) => return Err(Error::ConnectionLost { peer: "destination" }),
                Err(LinkError::Stopped) => return Err(Error::Interrupted),
                Err(LinkError::Ssh(error)) => return Err(Error::Ssh(error)),
                Err(LinkError::Message(error)) => {
                    return Err(Error::Protocol { message: error.to_string() });
                }
            };
            let asked = self
                .session
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(message)
                .map_err(|error| Error::Protocol { message: error.to_string() })?;
            match asked {
                Asked::Greeting => {}
                Asked::Credit { listings, files_compared, bytes_done } => {
                    self.monitor.peer_progress(files_compared, bytes_done);
                    self.credit.add(listings);
                }
                Asked::Want(want) => {
                    let signatures = (want.first_id..)
                        .zip(&want.files)
                        .map(|(id, (_, basis))| {
                            (*basis > 0).then(|| {
                                let (into, signatures) = crossbeam_channel::unbounded();
                                self.signatures.insert(id, into);
                                signatures
                            })
                        })
                        .collect();
                    if let Some(jobs) = &self.jobs {
                        jobs.send(Job { want, signatures }).unwrap_or_default();
                    }
                }
                Asked::Signature(signature) => {
                    let (id, last) = (signature.id, signature.last);
                    // A file that has been answered already needs no more signatures.
                    let taken =
                        self.signatures.get(&id).is_some_and(|into| into.send(signature).is_ok());
                    if last || !taken {
                        self.signatures.remove(&id);
                    }
                }
                Asked::Finished { report } => {
                    return Report::from_json(&report).map_err(|error| Error::Protocol {
                        message: format!("the destination's report is none: {error}"),
                    });
                }
                Asked::Problem { transient, at_once, message, hint } => {
                    return Err(Error::Peer {
                        peer: "destination",
                        transient,
                        at_once,
                        message,
                        hint,
                    });
                }
            }
        }
    }
}
