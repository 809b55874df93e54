//! The destination's end: accepts connections with a known key that ask for our subsystem, and
//! nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use russh::server::{self, Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::keys::DestinationKeys;
use super::{
    BUFFERED_PACKETS, Connection, End, Ending, Error, KEEPALIVES, PACKET, Pace, SUBSYSTEM, Stream,
    WINDOW, WriteHalf, preferred, wire,
};

/// Connections that may be on their way through the handshake at once.
const UNKNOWN_PEERS: usize = 16;
/// How long the handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Channels a connection may open, ever; one of them may become a stream.
const CHANNELS: usize = 4;

/// A listening destination.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Listens on `listen`. An unspecified IPv6 address takes IPv4 too.
    pub fn bind(listen: SocketAddr, keys: DestinationKeys) -> Result<Self, Error> {
        Self::bind_with(listen, keys, Pace::default())
    }

    /// [`Self::bind`], at another pace.
    pub fn bind_with(listen: SocketAddr, keys: DestinationKeys, pace: Pace) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: listen, source };
        let listener = match open(listen) {
            // A machine without IPv6 still has an IPv4 address.
            Err(error) if listen.ip() == std::net::Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
                open(SocketAddr::from(([0, 0, 0, 0], listen.port())))
            }
            other => other,
        }
        .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ready, streams) = mpsc::channel(1);
        let accepting = tokio::spawn(accept_all(listener, keys, pace, ready));
        Ok(Self { address, streams, accepting })
    }

    /// Where it listens, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next channel that a known peer has opened for our subsystem.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

fn is_no_ipv6(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn configuration(keys: &DestinationKeys, pace: Pace) -> Arc<server::Config> {
    Arc::new(server::Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![keys.own.clone()],
        auth_rejection_time: Duration::from_millis(500),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 3,
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: BUFFERED_PACKETS,
        preferred: preferred(),
        limits: pace.limits(),
        keepalive_interval: Some(pace.keepalive),
        keepalive_max: KEEPALIVES,
        inactivity_timeout: Some(pace.silence),
        nodelay: true,
        ..server::Config::default()
    })
}

async fn accept_all(
    listener: TcpListener,
    keys: DestinationKeys,
    pace: Pace,
    ready: mpsc::Sender<Stream>,
) {
    let mut config = configuration(&keys, pace);
    let mut keys = Arc::new(keys);
    // Whether a connection ended before its peer was known since the keys were read: they may have been
    // wrong, and somebody puts them right while we listen.
    let turned_away = Arc::new(AtomicBool::new(false));
    let unknown = Arc::new(Semaphore::new(UNKNOWN_PEERS));
    loop {
        let Ok(permit) = unknown.clone().acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if turned_away.swap(false, Ordering::Relaxed) {
            match keys.read_again() {
                Ok(now) => {
                    config = configuration(&now, pace);
                    keys = Arc::new(now);
                }
                Err(error) => tracing::warn!("{error}; going on with the keys read before"),
            }
        }
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %peer, "small packets may be delayed");
        }
        let socket = Arc::new(socket);
        let (known, mut is_known) = watch::channel(false);
        let (end, ending) = watch::channel(None);
        let gate = Gate {
            keys: keys.clone(),
            peer: peer.to_string(),
            silence: pace.silence,
            socket: Arc::downgrade(&socket),
            ending,
            channels: 0,
            taken: false,
            opened: HashMap::new(),
            ready: ready.clone(),
            known,
        };
        let config = config.clone();
        let turned_away = turned_away.clone();
        tokio::spawn(async move {
            let too_late = Instant::now() + HANDSHAKE;
            let watched = socket.clone();
            let was_known = is_known.clone();
            let watch = tokio::spawn(async move {
                let _permit = permit;
                if tokio::time::timeout_at(too_late, is_known.wait_for(|known| *known))
                    .await
                    .is_err()
                {
                    tracing::info!(%peer, "a connection took too long to say whose it is");
                    wire::cut(&watched);
                }
            });
            let session = match server::run_stream(config, wire::Wire::new(socket), gate).await {
                Ok(session) => session.await,
                Err(error) => Err(error),
            };
            if let Err(error) = session {
                tracing::info!(%peer, %error, "a connection ended");
                end.send_replace(Some(End::of(&error)));
            }
            if !*was_known.borrow() {
                turned_away.store(true, Ordering::Relaxed);
            }
            watch.abort();
        });
    }
}

/// What one connection may do.
struct Gate {
    keys: Arc<DestinationKeys>,
    peer: String,
    silence: Duration,
    socket: Weak<TcpStream>,
    ending: Ending,
    channels: usize,
    taken: bool,
    opened: HashMap<ChannelId, Channel<Msg>>,
    ready: mpsc::Sender<Stream>,
    known: watch::Sender<bool>,
}

impl Handler for Gate {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(if self.keys.allow(offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        if self.keys.allow(key.public_key) {
            self.known.send_replace(true);
            return Ok(Auth::Accept);
        }
        tracing::warn!(peer = %self.peer, "a peer's key is not the one in source.pub");
        Ok(Auth::reject())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels += 1;
        if self.channels <= CHANNELS {
            self.opened.insert(channel.id(), channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let fitting = name == SUBSYSTEM && !self.taken;
        let (Some(channel), Some(socket)) =
            (self.opened.remove(&id).filter(|_| fitting), self.socket.upgrade())
        else {
            tracing::warn!(peer = %self.peer, subsystem = name, "a subsystem that is not offered was asked for");
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let (read, write) = channel.split();
        self.taken = true;
        let connection =
            Connection { peer: self.peer.clone(), silence: self.silence, socket, client: None };
        let stream = Stream::new(connection, WriteHalf::Server(write), read, self.ending.clone());
        // One session at a time: a second source waits here, without holding this one up.
        let ready = self.ready.clone();
        tokio::spawn(async move {
            if ready.send(stream).await.is_err() {
                tracing::debug!("a source came too late");
            }
        });
        Ok(())
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("shell", id, session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("command", id, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.opened.remove(&id);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }
}

impl Gate {
    fn refuse(&self, what: &str, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        tracing::warn!(peer = %self.peer, what, "refused; this destination only runs {SUBSYSTEM}");
        session.channel_failure(id)?;
        session.close(id)
    }
}
