//! `Proxy`: a TCP proxy on loopback that is slow, counts, cuts, freezes or corrupts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Never: the value of a trigger that is not set.
const NEVER: u64 = u64::MAX;

/// A running proxy; stops accepting on drop. Offsets count what clients sent over all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    delay: Duration,
    sent: AtomicU64,
    received: AtomicU64,
    delivered: AtomicU64,
    connections: AtomicU64,
    cut_at: AtomicU64,
    flip_at: AtomicU64,
    frozen: AtomicBool,
    refusing: AtomicBool,
    stopped: AtomicBool,
}

impl Proxy {
    /// A proxy in front of `to` that holds every byte back for `delay`, each way.
    pub fn start(to: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            to,
            delay,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            cut_at: AtomicU64::new(NEVER),
            flip_at: AtomicU64::new(NEVER),
            frozen: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, state }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients have sent.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Bytes of clients that were handed on to the server.
    pub fn delivered(&self) -> u64 {
        self.state.delivered.load(Ordering::SeqCst)
    }

    /// Bytes that clients have received.
    pub fn received(&self) -> u64 {
        self.state.received.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection, once, when clients have sent so many bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.state.cut_at.store(bytes, Ordering::SeqCst);
    }

    /// Flips one bit of the byte at this offset of what clients send.
    pub fn flip_bit_at(&self, offset: u64) {
        self.state.flip_at.store(offset, Ordering::SeqCst);
    }

    /// Stops (or again lets) anything through, without closing a connection.
    pub fn freeze(&self, frozen: bool) {
        self.state.frozen.store(frozen, Ordering::SeqCst);
    }

    /// Closes new connections at once (or no longer).
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        state.connections.fetch_add(1, Ordering::SeqCst);
        if state.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(server) = TcpStream::connect(state.to) else {
            continue;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            continue;
        };
        let (outward, inward) = (Arc::clone(state), Arc::clone(state));
        thread::spawn(move || forward(client, server, &outward, true));
        thread::spawn(move || forward(server_too, client_too, &inward, false));
    }
}

/// Moves bytes one way: this thread reads and stamps them, another sends each when its time comes.
fn forward(mut from: TcpStream, to: TcpStream, state: &Arc<State>, outward: bool) {
    let (queue, queued) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    let sender = thread::spawn({
        let (state, mut to) = (Arc::clone(state), to.try_clone().unwrap());
        move || {
            for (due, bytes) in queued {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                while state.frozen.load(Ordering::SeqCst) && !state.stopped.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                if to.write_all(&bytes).is_err() {
                    break;
                }
                if outward {
                    state.delivered.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        let counter = if outward { &state.sent } else { &state.received };
        let start = counter.fetch_add(length as u64, Ordering::SeqCst);
        let end = start + length as u64;
        if outward {
            let flip = state.flip_at.load(Ordering::SeqCst);
            if (start..end).contains(&flip) {
                bytes[(flip - start) as usize] ^= 0x10;
            }
            if state.cut_at.load(Ordering::SeqCst) < end {
                state.cut_at.store(NEVER, Ordering::SeqCst);
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                break;
            }
        }
        if queue.send((Instant::now() + state.delay, bytes.to_vec())).is_err() {
            break;
        }
    }
    drop(queue);
    let _ = sender.join();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it is sent.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut back = client.try_clone().unwrap();
                thread::spawn(move || std::io::copy(&mut client, &mut back));
            }
        });
        address
    }

    #[test]
    fn bytes_come_back_after_twice_the_delay_and_are_counted() {
        let proxy = Proxy::start(echo(), Duration::from_millis(30));
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        let started = Instant::now();
        client.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        assert!(started.elapsed() >= Duration::from_millis(60));
        assert_eq!((proxy.sent(), proxy.received(), proxy.connections()), (5, 5, 1));
    }

    #[test]
    fn a_bit_is_flipped_and_a_connection_is_cut_where_asked() {
        let proxy = Proxy::start(echo(), Duration::ZERO);
        proxy.flip_bit_at(2);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(&[0, 0, 0, 0]).unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [0, 0, 0x10, 0]);
        proxy.cut_after(6);
        client.write_all(&[0; 10]).unwrap();
        assert_eq!(client.read(&mut back).unwrap_or(0), 0);
    }

    #[test]
    fn a_frozen_proxy_is_silent_until_it_thaws() {
        let proxy = Proxy::start(echo(), Duration::ZERO);
        proxy.freeze(true);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        client.write_all(b"x").unwrap();
        let mut back = [0; 1];
        client.read_exact(&mut back).unwrap_err();
        proxy.freeze(false);
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.read_exact(&mut back).unwrap();
    }
}
