//! The TCP stream below SSH, which goes on taking in what arrives while it cannot send.
//!
//! An SSH session either reads or writes. Two sessions that both write more than the kernels hold
//! would wait for each other for ever; here the arriving bytes are put aside instead. SSH's window
//! bounds how many they can be.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A well-behaved peer sends no more than its window before it is answered.
const PUT_ASIDE: usize = super::WINDOW as usize + (1 << 20);
const READ: usize = 256 << 10;

/// A TCP stream for a session.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    aside: BytesMut,
    /// The peer sends nothing more, so it takes nothing more: SSH knows no half-closed connections.
    closed: bool,
}

/// Ends a connection: both sides' reads end, and writes fail.
pub(crate) fn cut(socket: &TcpStream) {
    if let Err(error) = rustix::net::shutdown(socket, rustix::net::Shutdown::Both) {
        tracing::debug!(%error, "the connection had ended already");
    }
}

impl Wire {
    pub(crate) fn new(socket: Arc<TcpStream>) -> Self {
        Self { socket, aside: BytesMut::new(), closed: false }
    }

    fn put_aside(&mut self, cx: &mut Context<'_>) {
        while self.aside.len() < PUT_ASIDE {
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
            self.aside.reserve(READ);
            match self.socket.try_read_buf(&mut self.aside) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end and errors come up again at the next read.
                Ok(0) | Err(_) => {
                    self.closed = true;
                    return;
                }
                Ok(_) => {}
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.aside.is_empty() {
            let length = self.aside.len().min(buffer.remaining());
            buffer.put_slice(&self.aside[..length]);
            self.aside.advance(length);
            if self.aside.is_empty() {
                self.aside = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            std::task::ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Nothing more can be sent, but the peer's last words may still have to be read: the session
        // ends when it has read them, not here.
        while !self.closed {
            match self.socket.poll_write_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    self.put_aside(cx);
                    if self.closed {
                        break;
                    }
                    return Poll::Pending;
                }
            }
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
                done => return Poll::Ready(done),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that is broken already is no worse for it, and the session shall tell why.
        if let Err(error) = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Write) {
            tracing::debug!(%error, "the connection had ended already");
        }
        Poll::Ready(Ok(()))
    }
}
