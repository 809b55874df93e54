//! `Keystone`: a stand-in for OpenStack's identity service (Identity API v2.0 and v3) in front of a Swift
//! that knows its users by itself.
//!
//! It knows one user with one project, and hands out the token that Swift gave to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The name of the user.
pub const USER: &str = "somebody";
/// The user's ID.
pub const USER_ID: &str = "5ad3b0b7";
/// What opens it.
pub const PASSWORD: &str = "a-password-of-tests";
/// The domain of the user, by name.
pub const DOMAIN: &str = "people";
/// The name of the project.
pub const PROJECT: &str = "backups";
/// The project's ID.
pub const PROJECT_ID: &str = "9c2fd1e4";
/// The domain of the project, by name.
pub const PROJECT_DOMAIN: &str = "projects";
/// A trust in the user for the project.
pub const TRUST: &str = "77e0a1cc";
/// The user's application credential for the project: ID, name and secret.
pub const CREDENTIAL: (&str, &str, &str) = ("c1b8d2f0", "mover", "a-secret-of-tests");
/// The region of the Swift; the catalog has another one before it.
pub const REGION: &str = "here";

/// A running service; stops accepting on drop.
#[derive(Debug)]
pub struct Keystone {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    storage: String,
    token: String,
    /// What is handed out once in place of the token.
    once: Mutex<Option<String>>,
    /// How long tokens are said to last, in seconds; less than an hour.
    lifetime: AtomicU64,
    asked: AtomicU64,
    stopped: AtomicBool,
}

impl Keystone {
    /// In front of the Swift that lets this user in at this address (`http://HOST:PORT/auth/v1.0`).
    pub fn start(auth_url: &str, user: &str, key: &str) -> Self {
        let (storage, token) = log_in(auth_url, user, key);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            storage,
            token,
            once: Mutex::default(),
            lifetime: AtomicU64::new(3000),
            asked: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&accepting);
                // Who breaks off hears nothing more.
                thread::spawn(move || drop(state.one_request(&client)));
            }
        });
        Self { address, state }
    }

    /// Where one of its versions is: `v2.0` or `v3`.
    pub fn url(&self, version: &str) -> String {
        format!("http://{}/{version}", self.address)
    }

    /// The address of the account in Swift, and the token that opens it.
    pub fn account(&self) -> (&str, &str) {
        (&self.state.storage, &self.state.token)
    }

    /// The next one who asks is given this token, which Swift knows nothing of.
    pub fn hand_out_once(&self, token: &str) {
        *self.state.once.lock().unwrap() = Some(token.to_owned());
    }

    /// Tokens are said to last so many seconds, less than an hour, from now on.
    pub fn hand_out_for(&self, seconds: u64) {
        self.state.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// How often it has been asked for a token.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    /// One request of each connection, which is closed then.
    fn one_request(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut from = BufReader::new(client);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mut body =
            vec![0; header(&head, "content-length:").map_or(0, |it| it.parse().unwrap())];
        from.read_exact(&mut body)?;
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, headers, answer) = match head.lines().next().unwrap_or_default() {
            "POST /v2.0/tokens HTTP/1.1" => self.version_2(&asked["auth"]),
            "POST /v3/auth/tokens HTTP/1.1" => self.version_3(&asked["auth"]),
            _ => (404, String::new(), json!({ "error": { "message": "not found" } })),
        };
        let answer = answer.to_string();
        let length = answer.len();
        let mut to = client;
        to.write_all(
            format!(
                "HTTP/1.1 {status} As Asked\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n{headers}Connection: close\r\n\r\n{answer}"
            )
            .as_bytes(),
        )
    }

    fn version_2(&self, auth: &Value) -> (u16, String, Value) {
        let credentials = &auth["passwordCredentials"];
        if credentials["username"] != USER || credentials["password"] != PASSWORD {
            return refused();
        }
        let storage = &self.storage;
        let catalog = match (auth["tenantId"].as_str(), auth["tenantName"].as_str()) {
            (None, None) => json!([]),
            (Some(PROJECT_ID), None) | (None, Some(PROJECT)) => json!([
                { "type": "object-store", "endpoints": [
                    { "region": "elsewhere", "publicURL": "http://127.0.0.1:1/v1/AUTH_none" },
                    { "region": REGION, "publicURL": storage, "internalURL": storage },
                ] },
            ]),
            _ => return refused(),
        };
        let (issued, expires) = self.times();
        // As it is written there, its beginning has no zone.
        let issued = issued.trim_end_matches('Z');
        let token = json!({ "id": self.token(), "issued_at": issued, "expires": expires });
        let access = json!({ "token": token, "serviceCatalog": catalog });
        (200, String::new(), json!({ "access": access }))
    }

    fn version_3(&self, auth: &Value) -> (u16, String, Value) {
        let identity = &auth["identity"];
        let is_user = |user: &Value| {
            user["id"] == USER_ID
                || user["name"] == USER && user["domain"] == json!({ "name": DOMAIN })
        };
        let project = json!({ "name": PROJECT, "domain": { "name": PROJECT_DOMAIN } });
        let is_scope = |scope: &Value| {
            *scope == json!({ "project": project })
                || *scope == json!({ "project": { "id": PROJECT_ID } })
                || *scope == json!({ "OS-TRUST:trust": { "id": TRUST } })
        };
        let scope = &auth["scope"];
        let (known, scoped) = if identity["methods"] == json!(["application_credential"]) {
            let (id, name, secret) = CREDENTIAL;
            let given = &identity["application_credential"];
            let is_it = given["id"] == id || given["name"] == name && is_user(&given["user"]);
            (is_it && given["secret"] == secret && scope.is_null(), true)
        } else {
            let user = &identity["password"]["user"];
            let known = identity["methods"] == json!(["password"]) && is_user(user);
            let unscoped = scope.is_null();
            (known && user["password"] == PASSWORD && (unscoped || is_scope(scope)), !unscoped)
        };
        if !known {
            return refused();
        }
        let (issued, expires) = self.times();
        let mut token = json!({ "issued_at": issued, "expires_at": expires });
        if scoped {
            let endpoint = |interface: &str, region: &str, url: &str| json!({ "interface": interface, "region": region, "region_id": region, "url": url });
            let nowhere = "http://127.0.0.1:1/v1/AUTH_none";
            token["catalog"] = json!([
                { "type": "compute", "endpoints": [endpoint("public", REGION, nowhere)] },
                { "type": "object-store", "endpoints": [
                    endpoint("public", "elsewhere", nowhere),
                    endpoint("admin", REGION, nowhere),
                    endpoint("public", REGION, &self.storage),
                ] },
            ]);
        }
        (201, format!("X-Subject-Token: {}\r\n", self.token()), json!({ "token": token }))
    }

    fn token(&self) -> String {
        self.once.lock().unwrap().take().unwrap_or_else(|| self.token.clone())
    }

    /// When a token begins and ends, by a clock that is wrong by years.
    fn times(&self) -> (String, String) {
        let seconds = self.lifetime.load(Ordering::SeqCst);
        let end = format!("2015-11-06T14:{:02}:{:02}.000000Z", seconds / 60, seconds % 60);
        ("2015-11-06T14:00:00.000000Z".to_owned(), end)
    }
}

fn refused() -> (u16, String, Value) {
    let message = "The request you have made requires authentication.";
    (401, String::new(), json!({ "error": { "code": 401, "message": message } }))
}

fn header(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The account's address and a token, as Swift itself gives them (API v1).
fn log_in(auth_url: &str, user: &str, key: &str) -> (String, String) {
    let (host, path) =
        auth_url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let mut swift = TcpStream::connect(host).unwrap();
    let asked = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nX-Auth-User: {user}\r\nX-Auth-Key: {key}\r\n\
         Connection: close\r\n\r\n"
    );
    swift.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    swift.read_to_string(&mut answer).unwrap();
    let storage = header(&answer, "x-storage-url:");
    let token = header(&answer, "x-auth-token:");
    storage.zip(token).unwrap_or_else(|| panic!("Swift lets nobody in: {answer}"))
}
