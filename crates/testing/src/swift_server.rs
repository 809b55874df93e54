//! A real OpenStack Swift on loopback, stopped on drop.

use std::process::Command;

use crate::peers::installed;
use crate::servers::Server;

/// All of Swift's servers in one process (`swift_server.py`), with its own authentication (tempauth,
/// version 1).
#[derive(Debug)]
pub struct SwiftServer {
    server: Server,
}

/// An account and its user, and their key.
const USER: (&str, &str) = ("test:tester", "a-key-of-tests");

impl SwiftServer {
    /// With an account that has no containers.
    pub fn start() -> Self {
        let (user, key) = USER;
        let server = Server::start(|address, directory| {
            let mut command = Command::new(installed("swift/bin/python"));
            command
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/swift_server.py"))
                .args([address.ip().to_string(), address.port().to_string()])
                .arg(directory)
                .args([user, key]);
            command
        });
        Self { server }
    }

    /// Where a token is asked for.
    pub fn auth_url(&self) -> String {
        format!("http://{}/auth/v1.0", self.server.address())
    }

    /// Who asks for it, with the account.
    pub const fn user(&self) -> &'static str {
        USER.0
    }

    /// The user's key.
    pub const fn key(&self) -> &'static str {
        USER.1
    }
}
