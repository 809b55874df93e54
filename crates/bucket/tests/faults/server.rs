//! A server of HTTP that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a body.
    Whole(u16, String),
    /// Less content than is promised.
    CutShort,
    /// The end of the connection.
    Reset,
    /// Nothing for longer than anybody waits.
    Silence,
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Whole(code, String::new())
}

pub(crate) fn with_body(code: u16, body: &str) -> Answer {
    Answer::Whole(code, body.to_owned())
}

/// A server on loopback; the last of its answers is given to all further requests.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        Self::serve(answers, None)
    }

    /// One that speaks TLS for `localhost`, and the certificate to trust.
    pub(crate) fn start_tls(answers: Vec<Answer>) -> (Self, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        (Self::serve(answers, Some(Arc::new(config))), cert.pem())
    }

    fn serve(answers: Vec<Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answers = Arc::new(Mutex::new(answers));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, tls) = (client.unwrap(), tls.clone());
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                thread::spawn(move || match tls {
                    None => talk(client, &seen, &answers),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        talk(StreamOwned::new(session, client), &seen, &answers);
                    }
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads one request after the other; ends with the connection.
fn talk<S: Read + Write>(stream: S, seen: &Mutex<Vec<String>>, answers: &Mutex<Vec<Answer>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(1..) => {}
                _ => return,
            }
        }
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let is_head = head.starts_with("HEAD");
        seen.lock().unwrap().push(head);
        let answer = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        };
        let text = match answer {
            Answer::Whole(code, body) => {
                let body = if is_head { String::new() } else { body };
                format!("HTTP/1.1 {code} Status\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            Answer::CutShort => {
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_owned()
            }
            Answer::Reset => return,
            Answer::Silence => {
                thread::sleep(Duration::from_secs(20));
                return;
            }
        };
        let cut = text.ends_with("only this");
        if stream.get_mut().write_all(text.as_bytes()).is_err()
            || stream.get_mut().flush().is_err()
            || cut
        {
            return;
        }
    }
}
