//! `HttpProxy`: a proxy on loopback in front of a server of HTTP, which fails now and then.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::seed::Seed;

/// How long a slow answer takes longer.
const SLOW: Duration = Duration::from_millis(300);

/// A running proxy; stops accepting on drop.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    seed: Mutex<Seed>,
    /// How many of a thousand requests fail.
    failing: AtomicU64,
    failed: AtomicU64,
    /// How many requests are let through before all are refused.
    left: AtomicU64,
    stopped: AtomicBool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Passes,
    /// The server never hears of it; this is the answer.
    Answered(u16),
    /// The connection is closed before the server hears of it.
    Reset,
    /// The server hears of it, and nobody of the answer.
    AnswerLost,
    /// Half of the answer comes.
    AnswerCut,
    Slow,
}

impl HttpProxy {
    /// A proxy that lets everything through so far; `seed` decides what fails how.
    pub fn start(to: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            to,
            seed: Mutex::new(Seed::new(seed)),
            failing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&accepting);
                thread::spawn(move || {
                    // Who breaks off hears nothing more.
                    drop(one_request(&client, &state));
                });
            }
        });
        Self { address, state }
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// So many of a thousand requests fail from now on: with status 500, 503 or 429, by a connection
    /// that is closed before or after the server has heard of them, by half an answer, or slowly.
    pub fn fail(&self, of_a_thousand: u64) {
        self.state.failing.store(of_a_thousand, Ordering::SeqCst);
    }

    /// How many have failed.
    pub fn failed(&self) -> u64 {
        self.state.failed.load(Ordering::SeqCst)
    }

    /// After so many further requests all are answered with status 403.
    pub fn refuse_after(&self, requests: u64) {
        self.state.left.store(requests, Ordering::SeqCst);
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn fate(&self) -> Fate {
        let spend =
            |left: u64| left.checked_sub(1).map(|less| if left == u64::MAX { left } else { less });
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_err() {
            return Fate::Answered(403);
        }
        let mut seed = self.seed.lock().unwrap();
        if seed.below(1000) >= self.failing.load(Ordering::SeqCst) {
            return Fate::Passes;
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        match seed.below(8) {
            0 => Fate::Answered(500),
            1 => Fate::Answered(503),
            2 => Fate::Answered(429),
            3 => Fate::Reset,
            4 => Fate::AnswerLost,
            5 | 6 => Fate::AnswerCut,
            _ => Fate::Slow,
        }
    }
}

/// One request of each connection, which is closed then.
fn one_request(client: &TcpStream, state: &State) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut from = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut to = client;
    if header("expect:").is_some() {
        to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    assert!(header("transfer-encoding:").is_none(), "no length: {head}");
    let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let fate = state.fate();
    match fate {
        Fate::Answered(status) => {
            let answer = format!(
                "HTTP/1.1 {status} As Asked\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return to.write_all(answer.as_bytes());
        }
        Fate::Reset => return Ok(()),
        Fate::Slow => thread::sleep(SLOW),
        Fate::Passes | Fate::AnswerLost | Fate::AnswerCut => {}
    }
    let mut server = TcpStream::connect(state.to)?;
    for line in head.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = name.to_lowercase();
        // A token that is empty is none; s3s takes it for a bad signature.
        let no_token = name == "authorization" && value.trim() == "Bearer";
        if name != "connection" && name != "expect" && !no_token {
            server.write_all(line.as_bytes())?;
            server.write_all(b"\r\n")?;
        }
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fate {
        Fate::AnswerLost => Ok(()),
        Fate::AnswerCut => to.write_all(&answer[..answer.len() / 2]),
        _ => to.write_all(&answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr) -> String {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut answer = String::new();
        drop(client.read_to_string(&mut answer));
        answer
    }

    #[test]
    fn requests_pass_or_fail_as_often_as_is_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut line = String::new();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                while reader.read_line(&mut line).unwrap() > 2 {}
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").unwrap();
            }
        });
        let proxy = HttpProxy::start(to, 1);
        assert!(ask(proxy.address()).ends_with("good"));
        proxy.fail(1000);
        let whole = (0..60).filter(|_| ask(proxy.address()).ends_with("good")).count();
        assert!(proxy.failed() == 60 && whole < 30, "{whole}");
        proxy.fail(0);
        proxy.refuse_after(1);
        assert!(ask(proxy.address()).ends_with("good"));
        assert!(ask(proxy.address()).starts_with("HTTP/1.1 403 "));
    }
}
