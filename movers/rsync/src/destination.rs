//! The whole destination side: open the volume, listen, receive until one source is content.

use volsync_contract::{Event, Outcome, Report, RsyncDestination, Task};
use volsync_mover::{Context, Root};

use crate::error::Error;
use crate::native;
use crate::ssh::keys::DestinationKeys;
use crate::ssh::server::Server;

/// Receives the volume. A source whose connection breaks may come again; one whose sync ends in
/// an error of its own, too. Only a failure of this volume ends the wait.
pub async fn run(
    task: &Task,
    destination: &RsyncDestination,
    context: &Context,
) -> Result<Report, Error> {
    let keys = DestinationKeys::read(&destination.keys)?;
    let root = Root::open(&task.data)?;
    let mut server = Server::bind(destination.listen, keys)?;
    let address = server.local_address();
    tracing::info!(%address, "waiting for a source");
    context.events.send(&Event::Listening { address });
    loop {
        let stream = tokio::select! {
            stream = server.accept() => stream,
            () = context.shutdown.requested() => return Err(Error::Interrupted),
        };
        let Some(stream) = stream else { return Err(Error::ConnectionLost { peer: "source" }) };
        let peer = stream.peer.clone();
        tracing::info!(peer, "a source has connected");
        context.monitor.begin_again();
        let monitor = &context.monitor;
        match native::receive(&task.name, &root, stream, monitor, &context.shutdown).await {
            Ok(()) => {
                let outcome =
                    if monitor.is_complete() { Outcome::Complete } else { Outcome::Incomplete };
                return Ok(monitor.report(outcome));
            }
            Err(error @ Error::Destination { at_once: true, .. }) => {
                tracing::warn!(peer, "{error}; waiting for the source to come again");
            }
            Err(
                error @ (Error::Destination { .. }
                | Error::Volume { .. }
                | Error::Interrupted
                | Error::Mover(_)),
            ) => {
                return Err(error);
            }
            Err(
                error @ (Error::Ssh(_)
                | Error::ConnectionLost { .. }
                | Error::Protocol { .. }
                | Error::Peer { .. }
                | Error::Attempts { .. }),
            ) => tracing::warn!(peer, "{error}; waiting for the source to come again"),
        }
    }
}
