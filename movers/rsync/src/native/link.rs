//! Between a session's threads and its SSH channel: frames out, frames in, compressed when it pays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};

use super::message::{self, Message, MessageError};
use crate::ssh;

/// How many frames of content may wait for the channel; a frame is about 256 KiB.
const DATA_FRAMES: usize = 8;
/// How many other frames may wait.
const CONTROL_FRAMES: usize = 64;
/// Small frames are sent together up to this size.
const GATHER: usize = 64 << 10;
/// Compression is reconsidered after this many bytes.
const SAMPLE_EVERY: u64 = 16 << 20;
const LEVEL: i32 = 1;

/// The other side, or this one, has ended the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

/// Where threads put messages for the peer. Content waits behind everything else.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    control: mpsc::Sender<Vec<u8>>,
    data: mpsc::Sender<Vec<u8>>,
    stop: Arc<Notify>,
}

impl Outbox {
    /// Ends the session from this side: what is urgent is still sent, the rest is not.
    pub(super) fn close(&self) {
        self.stop.notify_one();
    }

    /// Waits for room and puts the message there.
    pub(super) fn send(&self, message: &Message) -> Result<(), Ended> {
        let frame = message.encode();
        let lane = match message {
            Message::Small(_)
            | Message::Begin { .. }
            | Message::Data { .. }
            | Message::Copies { .. }
            | Message::Commit { .. }
            // A file that failed after `Begin` must not overtake its own pieces.
            | Message::Failed { .. } => &self.data,
            Message::Hello { .. }
            | Message::Listing(_)
            | Message::Skipped { .. }
            | Message::End { .. }
            | Message::Used { .. }
            | Message::Bye
            | Message::Credit { .. }
            | Message::Want(_)
            | Message::Signature(_)
            | Message::Finished { .. }
            | Message::Problem { .. } => &self.control,
        };
        lane.blocking_send(frame).map_err(|_| Ended)
    }
}

/// Where a session's main thread takes messages of the peer from.
#[derive(Debug)]
pub(super) struct Inbox {
    frames: mpsc::Receiver<Frame>,
}

/// A frame's type and body, the peer's end, or what went wrong.
type Frame = Result<Option<(u8, Bytes)>, LinkError>;

impl Inbox {
    /// The next message, or `None` when the peer has closed its side.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, LinkError> {
        match self.frames.blocking_recv() {
            Some(Ok(Some((tag, body)))) => Ok(Some(Message::decode(tag, body)?)),
            Some(Err(error)) => Err(error),
            Some(Ok(None)) | None => Ok(None),
        }
    }
}

/// Wakes whoever waits for the inbox.
#[derive(Debug, Clone)]
pub(super) struct Waker {
    frames: mpsc::Sender<Frame>,
}

impl Waker {
    /// Makes `receive` return [`LinkError::Stopped`] soon.
    pub(super) fn stop(&self) {
        // A full inbox means that it is being read: its reader looks for itself.
        self.frames.try_send(Err(LinkError::Stopped)).unwrap_or_default();
    }
}

/// The connection, or what came over it, is broken.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The channel failed.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// This side has stopped.
    #[error("stopped")]
    Stopped,
    /// The peer sent what is no message.
    #[error("the peer does not keep to the protocol: {0}")]
    Message(#[from] MessageError),
}

/// Bytes that went over the wire, before encryption and after compression.
#[derive(Debug, Clone, Default)]
pub(super) struct WireBytes {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl WireBytes {
    /// Sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Received so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Connects a channel to a session. Call within a tokio runtime.
pub(super) fn open(stream: ssh::Stream) -> (Outbox, Inbox, Waker, WireBytes, Tasks) {
    let wire = WireBytes::default();
    let (control, control_frames) = mpsc::channel(CONTROL_FRAMES);
    let (data, data_frames) = mpsc::channel(DATA_FRAMES);
    let (frames_in, frames) = mpsc::channel(DATA_FRAMES);
    let sent = wire.sent.clone();
    let stop = Arc::new(Notify::new());
    let writer =
        tokio::spawn(write(stream.sender, control_frames, data_frames, sent, stop.clone()));
    let reader = tokio::spawn(read(stream.receiver, frames_in.clone(), wire.received.clone()));
    let outbox = Outbox { control, data, stop };
    (outbox, Inbox { frames }, Waker { frames: frames_in }, wire, Tasks { writer, reader })
}

/// A link without a channel, for tests that play the other side.
#[cfg(test)]
pub(super) fn in_memory() -> (Outbox, Inbox, Waker, WireBytes, Peer) {
    let (control, control_out) = mpsc::channel(1 << 10);
    let (data, data_out) = mpsc::channel(1 << 10);
    let (frames_in, frames) = mpsc::channel(1 << 10);
    let outbox = Outbox { control, data, stop: Arc::default() };
    let peer = Peer { to: frames_in.clone(), control: control_out, _data: data_out };
    (outbox, Inbox { frames }, Waker { frames: frames_in }, WireBytes::default(), peer)
}

/// The other side of a link [`in_memory`].
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Peer {
    to: mpsc::Sender<Frame>,
    control: mpsc::Receiver<Vec<u8>>,
    _data: mpsc::Receiver<Vec<u8>>,
}

/// The connection ends with its other side.
#[cfg(test)]
impl Drop for Peer {
    fn drop(&mut self) {
        self.to.try_send(Ok(None)).unwrap_or_default();
    }
}

#[cfg(test)]
impl Peer {
    /// Sends a message; one that comes after the end is lost.
    pub(super) fn send(&self, message: &Message) {
        let mut frame = BytesMut::from(&message.encode()[..]);
        let frame = message::next_frame(&mut frame).unwrap();
        self.to.blocking_send(Ok(frame)).unwrap_or_default();
    }

    /// The next message of a destination; `None` once it has ended.
    pub(super) fn receive(&mut self) -> Option<Message> {
        let frame = self.control.blocking_recv()?;
        let mut frame = BytesMut::from(&frame[..]);
        let (tag, body) = message::next_frame(&mut frame).unwrap().unwrap();
        Some(Message::decode(tag, body).unwrap())
    }
}

/// The two tasks of a link.
#[derive(Debug)]
pub(super) struct Tasks {
    writer: tokio::task::JoinHandle<Result<(), ssh::Error>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Tasks {
    /// Waits until all that was put into the outbox (of which all clones are dropped) has been
    /// sent and the peer has closed, at most `patience`.
    pub(super) async fn close(self, patience: Duration) {
        let Self { mut writer, mut reader } = self;
        let both = async { (&mut writer).await.is_ok() && (&mut reader).await.is_ok() };
        if tokio::time::timeout(patience, both).await.is_err() {
            writer.abort();
            reader.abort();
        }
    }
}

async fn read(mut receiver: ssh::Receiver, frames: mpsc::Sender<Frame>, received: Arc<AtomicU64>) {
    let mut buffer = BytesMut::new();
    loop {
        let next = match message::next_frame(&mut buffer) {
            Ok(Some(frame)) => Ok(Some(frame)),
            Ok(None) => match receiver.receive().await {
                Ok(Some(bytes)) => {
                    received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    buffer.extend_from_slice(&bytes);
                    continue;
                }
                Ok(None) => Ok(None),
                Err(error) => Err(LinkError::from(error)),
            },
            Err(error) => Err(LinkError::from(error)),
        };
        let over = !matches!(next, Ok(Some(_)));
        if frames.send(next).await.is_err() {
            // Nobody wants to know any more; the peer may still have to read what we said last.
            while let Ok(Some(_)) = receiver.receive().await {}
            return;
        }
        if over {
            return;
        }
    }
}

async fn write(
    mut sender: ssh::Sender,
    mut control: mpsc::Receiver<Vec<u8>>,
    mut data: mpsc::Receiver<Vec<u8>>,
    sent: Arc<AtomicU64>,
    stop: Arc<Notify>,
) -> Result<(), ssh::Error> {
    let stopped = tokio::select! {
        biased;
        () = stop.notified() => true,
        done = write_all(&mut sender, &mut control, &mut data, &sent) => {
            done?;
            false
        }
    };
    if stopped {
        data.close();
        control.close();
        // A frame may have been cut off in its middle; then the peer learns from the closed
        // connection that the session has ended, and not why.
        while let Ok(frame) = control.try_recv() {
            sender.send(Bytes::from(frame)).await?;
        }
    }
    sender.close().await
}

async fn write_all(
    sender: &mut ssh::Sender,
    control: &mut mpsc::Receiver<Vec<u8>>,
    data: &mut mpsc::Receiver<Vec<u8>>,
    sent: &AtomicU64,
) -> Result<(), ssh::Error> {
    let mut pace = Pace::new();
    let mut open = (true, true);
    while open.0 || open.1 {
        let waiting = Instant::now();
        let (mut frame, content) = tokio::select! {
            biased;
            frame = control.recv(), if open.0 => match frame {
                Some(frame) => (frame, false),
                None => { open.0 = false; continue }
            },
            frame = data.recv(), if open.1 => match frame {
                Some(frame) => (frame, true),
                None => { open.1 = false; continue }
            },
        };
        pace.idle(waiting.elapsed());
        if !content {
            while frame.len() < GATHER {
                let Ok(next) = control.try_recv() else { break };
                frame.extend_from_slice(&next);
            }
            sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
            let started = Instant::now();
            let length = frame.len() as u64;
            sender.send(Bytes::from(frame)).await?;
            pace.busy(length, started.elapsed());
            continue;
        }
        let frame = pace.maybe_compress(frame);
        sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
        let started = Instant::now();
        let length = frame.len() as u64;
        sender.send(Bytes::from(frame)).await?;
        pace.busy(length, started.elapsed());
    }
    Ok(())
}

/// Decides whether compression pays: when the link is slower than the compressor, and the content
/// shrinks. Both are measured as the session goes, on one frame in [`SAMPLE_EVERY`] bytes.
#[derive(Debug)]
struct Pace {
    link_bytes: f64,
    link_seconds: f64,
    since_sample: u64,
    compressing: bool,
}

impl Pace {
    fn new() -> Self {
        Self {
            link_bytes: 0.0,
            link_seconds: 0.0,
            since_sample: SAMPLE_EVERY - (2 << 20),
            compressing: false,
        }
    }

    /// The link had nothing to carry: what it carried before says nothing about its speed now.
    fn idle(&mut self, waited: Duration) {
        if waited > Duration::from_millis(50) {
            self.link_bytes = 0.0;
            self.link_seconds = 0.0;
        }
    }

    fn busy(&mut self, bytes: u64, took: Duration) {
        // An old measurement fades: a link may change its mind.
        self.link_bytes = self.link_bytes * 0.97 + bytes as f64;
        self.link_seconds = self.link_seconds * 0.97 + took.as_secs_f64();
    }

    fn maybe_compress(&mut self, frame: Vec<u8>) -> Vec<u8> {
        self.since_sample += frame.len() as u64;
        if self.since_sample < SAMPLE_EVERY && !self.compressing {
            return frame;
        }
        let sample = self.since_sample >= SAMPLE_EVERY;
        let started = Instant::now();
        let packed = message::compress(&frame, LEVEL);
        if sample {
            self.since_sample = 0;
            let speed = frame.len() as f64 / started.elapsed().as_secs_f64().max(1e-9);
            let link = self.link_bytes / self.link_seconds.max(1e-9);
            let measured = self.link_bytes > f64::from(4 << 20);
            // The peer's processor pays too: only a link that is much slower is worth it.
            self.compressing = packed.is_some() && measured && link < speed * 0.4;
        }
        packed.unwrap_or(frame)
    }
}
