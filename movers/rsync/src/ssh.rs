//! SSH transport of a native session: one channel that runs our subsystem, keys pinned both ways.
//! This folder is the only place that names `russh`.

pub mod client;
pub mod keys;
pub mod server;
mod wire;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use volsync_contract::Retry;

/// The subsystem of a native session; the only thing a destination runs.
pub const SUBSYSTEM: &str = "volsync-rsync-1";
/// The user name a source gives. Upstream's sources are root; the name has no meaning here.
pub(crate) const USER: &str = "root";
/// Packets that are asked for no answer before the connection is given up, beyond the silence.
const KEEPALIVES: usize = 8;
/// What a channel may have in flight, in bytes. Its product with 1/RTT bounds the speed: 16 MiB
/// carry 320 MiB/s over 50 ms.
const WINDOW: u32 = 16 << 20;
const PACKET: u32 = 65_535;
/// Packets that wait for the session before TCP is throttled.
const BUFFERED_PACKETS: usize = 32;

/// Algorithms with acceleration first, and no old ones. russh leaves AES-128-GCM out by default.
pub(crate) fn preferred() -> russh::Preferred {
    russh::Preferred {
        cipher: Cow::Borrowed(&[
            russh::cipher::AES_128_GCM,
            russh::cipher::AES_256_GCM,
            russh::cipher::CHACHA20_POLY1305,
        ]),
        compression: Cow::Borrowed(&[russh::compression::NONE]),
        ..russh::Preferred::default()
    }
}

/// Times and limits of a connection; the defaults are meant for everything but tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long each address of the peer is given to accept a connection.
    pub connect: Duration,
    /// After so long without a word the peer is asked whether it still lives.
    pub keepalive: Duration,
    /// After so long without a word the peer is gone.
    pub silence: Duration,
    /// Bytes after which new session keys are agreed on; `None` for SSH's gigabyte.
    pub rekey_bytes: Option<usize>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            keepalive: Duration::from_secs(30),
            silence: Duration::from_secs(120),
            rekey_bytes: None,
        }
    }
}

impl Pace {
    fn limits(&self) -> russh::Limits {
        let limits = russh::Limits::default();
        match self.rekey_bytes {
            Some(bytes) => {
                russh::Limits { rekey_write_limit: bytes, rekey_read_limit: bytes, ..limits }
            }
            None => limits,
        }
    }
}

/// One channel to the peer. The connection ends once both halves have been dropped.
pub struct Stream {
    /// The peer's address.
    pub peer: String,
    /// Towards the peer.
    pub sender: Sender,
    /// From the peer.
    pub receiver: Receiver,
}

/// The sending half of a channel, of either side's message type.
enum WriteHalf {
    Client(russh::ChannelWriteHalf<russh::client::Msg>),
    Server(russh::ChannelWriteHalf<russh::server::Msg>),
}

/// Towards the peer.
pub struct Sender {
    half: WriteHalf,
    connection: Arc<Connection>,
    ending: Ending,
}

/// From the peer.
///
/// Receiving must go on while something is sent: what is not received holds up everything else on
/// the connection, sending included.
pub struct Receiver {
    half: ChannelReadHalf,
    ending: Ending,
    connection: Arc<Connection>,
    ended: bool,
}

/// What both halves share; the last one to go closes the connection.
pub(crate) struct Connection {
    peer: String,
    silence: Duration,
    socket: Arc<TcpStream>,
    client: Option<russh::client::Handle<client::Pinned>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        wire::cut(&self.socket);
    }
}

/// Why a session is over, as its own task tells it; no sender any more: nobody knows.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Silent,
    Broken(String),
}

impl End {
    pub(crate) fn of(error: &russh::Error) -> Self {
        match error {
            russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => Self::Silent,
            other => Self::Broken(other.to_string()),
        }
    }
}

type EndSender = watch::Sender<Option<End>>;
type Ending = watch::Receiver<Option<End>>;

/// Waits until the session is over, and says why.
async fn over(ending: &mut Ending, connection: &Connection) -> Error {
    let end = match ending.wait_for(Option::is_some).await {
        Ok(end) => end.clone(),
        Err(_) => None,
    };
    let peer = connection.peer.clone();
    match end {
        Some(End::Silent) => Error::Silent { peer, seconds: connection.silence.as_secs() },
        Some(End::Broken(why)) => Error::Lost { peer, why },
        None => Error::Lost { peer, why: "the peer has closed it".to_owned() },
    }
}

impl Stream {
    fn new(connection: Connection, half: WriteHalf, read: ChannelReadHalf, ending: Ending) -> Self {
        let connection = Arc::new(connection);
        Self {
            peer: connection.peer.clone(),
            sender: Sender { half, connection: connection.clone(), ending: ending.clone() },
            receiver: Receiver { half: read, ending, connection, ended: false },
        }
    }
}

impl Sender {
    /// Sends bytes, waiting for the peer's window.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        let Self { half, connection, ending } = self;
        let sending = async {
            match half {
                WriteHalf::Client(half) => half.data_bytes(bytes).await,
                WriteHalf::Server(half) => half.data_bytes(bytes).await,
            }
        };
        // A window that nobody will ever open again must not be waited for.
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            error = over(ending, connection) => return Err(error),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(_) => Err(over(ending, connection).await),
        }
    }

    /// Says that nothing more comes. A source returns once the peer has taken all that was sent; a
    /// destination once it is queued, and should then receive until its source has closed, too.
    pub async fn close(self) -> Result<(), Error> {
        let Self { half, connection, mut ending } = self;
        let closing = async {
            match &half {
                WriteHalf::Client(half) => half.eof().await?,
                WriteHalf::Server(half) => half.eof().await?,
            }
            match &connection.client {
                Some(handle) => handle.send_ping().await,
                None => Ok(()),
            }
        };
        let closed = tokio::select! {
            biased;
            closed = closing => closed,
            error = over(&mut ending, &connection) => return Err(error),
        };
        match closed {
            Ok(()) => Ok(()),
            Err(_) => Err(over(&mut ending, &connection).await),
        }
    }
}

impl Receiver {
    /// The next bytes; `None` when the peer has said that nothing more comes.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        loop {
            match self.half.wait().await {
                Some(ChannelMsg::Data { data }) => return Ok(Some(data)),
                Some(ChannelMsg::Eof | ChannelMsg::Close) => {
                    self.ended = true;
                    return Ok(None);
                }
                Some(ChannelMsg::Failure) => {
                    return Err(Error::NotOurs { peer: self.connection.peer.clone() });
                }
                Some(_) => {}
                None => return Err(over(&mut self.ending, &self.connection).await),
            }
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("peer", &self.connection.peer).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("peer", &self.connection.peer).finish_non_exhaustive()
    }
}

/// What can be wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key file is missing or unreadable.
    #[error("the key file {} cannot be read: {}", path.display(), volsync_mover::io_reason(source))]
    ReadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file holds no key that can be used.
    #[error("the key file {} holds no usable key: {why}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The name has no address.
    #[error(
        "the destination address {address} cannot be resolved: {}",
        volsync_mover::io_reason(source)
    )]
    Resolve {
        /// The name.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "cannot connect to the destination {address}:{port}: {}",
        volsync_mover::io_reason(source)
    )]
    Connect {
        /// The name or address.
        address: String,
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The SSH handshake failed.
    #[error("the SSH handshake with {peer} failed: {source}")]
    Handshake {
        /// The peer.
        peer: String,
        /// Why.
        source: russh::Error,
    },
    /// The destination is not the one whose key we have.
    #[error("the destination's host key is not the one in destination.pub (at {peer})")]
    HostKey {
        /// The peer.
        peer: String,
    },
    /// The destination does not know our key.
    #[error("the destination {peer} does not accept the source's key")]
    Authentication {
        /// The peer.
        peer: String,
    },
    /// The peer is an SSH server that knows nothing of us.
    #[error("{peer} does not offer the subsystem {SUBSYSTEM}")]
    NotOurs {
        /// The peer.
        peer: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", volsync_mover::io_reason(source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {peer} was lost: {why}")]
    Lost {
        /// The peer.
        peer: String,
        /// How it showed.
        why: String,
    },
    /// The peer has not answered for too long.
    #[error("{peer} has been silent for {seconds} seconds")]
    Silent {
        /// The peer.
        peer: String,
        /// How long.
        seconds: u64,
    },
}

impl Error {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::ReadKey { .. }
            | Self::BadKey { .. }
            | Self::HostKey { .. }
            | Self::Authentication { .. }
            | Self::NotOurs { .. }
            | Self::Listen { .. } => Retry::Permanent,
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Lost { .. }
            | Self::Silent { .. } => Retry::Transient,
        }
    }

    /// What helps, or nothing.
    pub fn hint(&self) -> String {
        match self {
            Self::ReadKey { .. } => {
                "is the key Secret complete (source: source, destination.pub; destination: destination, source.pub), and readable by the mover's user?"
            }
            Self::BadKey { .. } => "give an RSA or ed25519 key without a passphrase, as ssh-keygen writes it",
            Self::Resolve { .. } => "check the address in the ReplicationSource",
            Self::Connect { .. } => "is the ReplicationDestination waiting, and is its address reachable from here?",
            Self::Handshake { .. } => "is there really a destination mover at this address?",
            Self::HostKey { .. } => {
                "copy the destination's published Secret again; if it has not changed, somebody stands between"
            }
            Self::Authentication { .. } => "both sides must use keys of one set: copy the destination's published Secret again",
            Self::NotOurs { .. } => "the destination must be a volsync mover of this version",
            Self::Listen { .. } => "choose another port, or end what uses it",
            Self::Lost { .. } | Self::Silent { .. } => "what has arrived is kept; the next attempt goes on from there",
        }
        .to_owned()
    }
}
