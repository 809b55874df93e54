//! The source's end: connects, checks the host key, authenticates, asks for our subsystem.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::client::{self, Handler};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKey};

use super::keys::SourceKeys;
use super::{
    BUFFERED_PACKETS, Connection, End, EndSender, Error, KEEPALIVES, PACKET, Pace, SUBSYSTEM,
    Stream, USER, WINDOW, WriteHalf, preferred, wire,
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the destination is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// Accepts one host key.
pub(crate) struct Pinned {
    expected: PublicKey,
    refused: Arc<AtomicBool>,
    end: EndSender,
}

impl Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let same = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                key.key_data() == self.expected.key_data()
            }
            PublicKeyOrCertificate::Certificate(_) => false,
        };
        self.refused.store(!same, Ordering::SeqCst);
        Ok(same)
    }

    async fn disconnected(
        &mut self,
        reason: client::DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        match reason {
            client::DisconnectReason::ReceivedDisconnect(info) => {
                self.end.send_replace(Some(End::Broken(format!(
                    "the peer has ended it: {}",
                    info.message
                ))));
                Ok(())
            }
            client::DisconnectReason::Error(error) => {
                self.end.send_replace(Some(End::of(&error)));
                Err(error)
            }
        }
    }
}

/// Connects to the first address of the destination that answers.
pub async fn connect(target: &Target, keys: &SourceKeys) -> Result<Stream, Error> {
    connect_with(target, keys, Pace::default()).await
}

/// [`connect`], at another pace.
pub async fn connect_with(target: &Target, keys: &SourceKeys, pace: Pace) -> Result<Stream, Error> {
    let Target { address, port } = target;
    let addresses: Vec<_> = tokio::net::lookup_host((address.trim_matches(['[', ']']), *port))
        .await
        .map_err(|source| Error::Resolve { address: address.clone(), source })?
        .collect();
    let no_answer = |source| Error::Connect { address: address.clone(), port: *port, source };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for candidate in addresses {
        let connecting = tokio::net::TcpStream::connect(candidate);
        match tokio::time::timeout(pace.connect, connecting).await {
            Ok(Ok(socket)) => return handshake(socket, candidate.to_string(), keys, pace).await,
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(no_answer(last))
}

async fn handshake(
    socket: tokio::net::TcpStream,
    peer: String,
    keys: &SourceKeys,
    pace: Pace,
) -> Result<Stream, Error> {
    let failed = |source| Error::Handshake { peer: peer.clone(), source };
    socket.set_nodelay(true).map_err(|error| failed(error.into()))?;
    let config = Arc::new(client::Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: BUFFERED_PACKETS,
        preferred: preferred(),
        limits: pace.limits(),
        inactivity_timeout: Some(pace.silence),
        keepalive_interval: Some(pace.keepalive),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        ..client::Config::default()
    });
    let refused = Arc::new(AtomicBool::new(false));
    let (end, ending) = tokio::sync::watch::channel(None);
    let pinned = Pinned { expected: keys.destination.clone(), refused: refused.clone(), end };
    let socket = Arc::new(socket);
    let opening = async {
        let mut handle =
            match client::connect_stream(config, wire::Wire::new(socket.clone()), pinned).await {
                Ok(handle) => handle,
                Err(_) if refused.load(Ordering::SeqCst) => {
                    return Err(Error::HostKey { peer: peer.clone() });
                }
                Err(error) => return Err(failed(error)),
            };
        let key = PrivateKeyWithHashAlg::new(keys.own.clone(), Some(HashAlg::Sha256));
        let authenticated = handle.authenticate_publickey(USER, key).await.map_err(failed)?;
        if !authenticated.success() {
            return Err(Error::Authentication { peer: peer.clone() });
        }
        let channel = handle.channel_open_session().await.map_err(failed)?;
        // The answer is not waited for: a refusal shows as the first thing received.
        channel.request_subsystem(true, SUBSYSTEM).await.map_err(failed)?;
        Ok((handle, channel))
    };
    let (handle, channel) = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening)
        .await
        .map_err(|_| failed(russh::Error::ConnectionTimeout))??;
    let (read, write) = channel.split();
    let connection = Connection { peer, silence: pace.silence, socket, client: Some(handle) };
    Ok(Stream::new(connection, WriteHalf::Client(write), read, ending))
}
