//! `KnownHosts`: which keys a server may have, as `ssh-keyscan` and OpenSSH's `known_hosts` say it.
//!
//! The form is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Lines about other hosts are read and
//! forgotten.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// SSH's own port, which names in `known_hosts` leave out.
const SSH: u16 = 22;

/// The keys of one server.
#[derive(Debug)]
pub(super) struct KnownHosts {
    trusted: Vec<HostKey>,
    revoked: Vec<HostKey>,
}

/// A key as it goes over the wire.
#[derive(Debug, PartialEq, Eq)]
struct HostKey {
    /// Its type, such as `ssh-ed25519`.
    kind: String,
    blob: Vec<u8>,
}

/// What a key is known as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server's.
    Trusted,
    /// One that must not be believed any more.
    Revoked,
    /// None that is known.
    Unknown,
}

impl KnownHosts {
    /// The keys that belong to a host and port. What is wrong with a line is said by its number,
    /// never by what stands in it.
    pub(super) fn parse(text: &str, host: &str, port: u16) -> Result<Self, String> {
        let names = names(host, port);
        let mut known = Self { trusted: Vec::new(), revoked: Vec::new() };
        let mut empty = true;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            empty = false;
            known.add(line, &names).map_err(|problem| format!("in line {number} {problem}"))?;
        }
        if empty { Err("there is no key".to_owned()) } else { Ok(known) }
    }

    fn add(&mut self, line: &str, names: &[String]) -> Result<(), &'static str> {
        let mut fields = line.split_ascii_whitespace().peekable();
        let keys = match fields.next_if(|field| field.starts_with('@')) {
            None => &mut self.trusted,
            Some("@revoked") => &mut self.revoked,
            // No certificate is asked for, so none is presented.
            Some("@cert-authority") => return Ok(()),
            Some(_) => return Err("the marker is none that is known"),
        };
        let (Some(hosts), Some(kind), Some(key)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err("stands no HOST TYPE KEY");
        };
        let blob = STANDARD.decode(key).map_err(|_| "the key is not base64")?;
        if !is_of_kind(&blob, kind) {
            return Err("the key is not of the type that it says");
        }
        if matches(hosts, names)? {
            keys.push(HostKey { kind: kind.to_owned(), blob });
        }
        Ok(())
    }

    /// What a key is known as that a server presents.
    pub(super) fn judge(&self, blob: &[u8]) -> Verdict {
        let is_among = |keys: &[HostKey]| keys.iter().any(|key| key.blob == blob);
        if is_among(&self.revoked) {
            Verdict::Revoked
        } else if is_among(&self.trusted) {
            Verdict::Trusted
        } else {
            Verdict::Unknown
        }
    }

    /// Whether a key of this type is known. A server has several, and presents one of a type that
    /// it is asked for.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.trusted.iter().any(|key| key.kind == kind)
    }
}

/// What a server is called there. Lines without a port count for all ports, as for `ssh`.
fn names(host: &str, port: u16) -> Vec<String> {
    let host = host.to_lowercase();
    let with_port = format!("[{host}]:{port}");
    if port == SSH { vec![host] } else { vec![with_port, host] }
}

/// A key on the wire begins with its type (RFC 4253, section 6.6).
fn is_of_kind(blob: &[u8], kind: &str) -> bool {
    let Ok(length) = u32::try_from(kind.len()) else { return false };
    let start = blob.strip_prefix(&length.to_be_bytes());
    start.is_some_and(|rest| rest.starts_with(kind.as_bytes()))
}

/// Whether one of the names is meant by a list of patterns. One that is excluded is not, whatever
/// else the list says.
fn matches(patterns: &str, names: &[String]) -> Result<bool, &'static str> {
    let mut meant = false;
    for pattern in patterns.split(',') {
        let (excluded, pattern) =
            pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        let hit = match pattern.strip_prefix("|1|") {
            Some(hashed) => is_hash_of_one(hashed, names)?,
            None if pattern.starts_with('|') => return Err("the hash is of an unknown kind"),
            None => {
                let pattern = pattern.to_lowercase();
                names.iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
            }
        };
        if hit && excluded {
            return Ok(false);
        }
        meant |= hit;
    }
    Ok(meant)
}

/// A hashed name is `SALT|HASH`: HMAC-SHA1 of the name, keyed with the salt.
fn is_hash_of_one(hashed: &str, names: &[String]) -> Result<bool, &'static str> {
    let (salt, hash) = hashed.split_once('|').ok_or("the hash is cut short")?;
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else {
        return Err("the hash is not base64");
    };
    let salt = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Ok(names.iter().any(|name| hmac::verify(&salt, name.as_bytes(), &hash).is_ok()))
}

/// Whether a name is of a pattern, in which `*` is anything and `?` any one byte.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| glob(rest, &name[skipped..])),
        Some((b'?', rest)) => name.split_first().is_some_and(|(_, left)| glob(rest, left)),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, left)| first == byte && glob(rest, left))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn judge(text: &str, host: &str, port: u16) -> Verdict {
        let known = KnownHosts::parse(text, host, port).unwrap();
        known.judge(&STANDARD.decode(KEY).unwrap())
    }

    #[test]
    fn a_key_is_that_of_the_hosts_of_its_line() {
        for (hosts, host, port, verdict) in [
            ("nas", "nas", 22, Verdict::Trusted),
            ("NAS.example.org", "nas.Example.org", 22, Verdict::Trusted),
            ("nas,192.0.2.1", "192.0.2.1", 22, Verdict::Trusted),
            ("nas", "nas.example.org", 22, Verdict::Unknown),
            ("[nas]:2222", "nas", 2222, Verdict::Trusted),
            ("[nas]:2222", "nas", 2223, Verdict::Unknown),
            ("[nas]:2222", "nas", 22, Verdict::Unknown),
            ("nas", "nas", 2222, Verdict::Trusted),
            ("[::1]:2222", "::1", 2222, Verdict::Trusted),
            ("*.example.org", "nas.example.org", 22, Verdict::Trusted),
            ("*.example.org,!nas.example.org", "nas.example.org", 22, Verdict::Unknown),
            ("n?s", "nas", 22, Verdict::Trusted),
            ("n?s", "ns", 22, Verdict::Unknown),
        ] {
            let text = format!("# a comment\n\n{hosts} ssh-ed25519 {KEY} root@nas\r\n");
            assert_eq!(judge(&text, host, port), verdict, "{hosts} {host} {port}");
        }
        let other = format!("nas ssh-ed25519 {OTHER}");
        assert_eq!(judge(&other, "nas", 22), Verdict::Unknown);
        let both = format!("{other}\nnas\tssh-ed25519\t{KEY}");
        assert_eq!(judge(&both, "nas", 22), Verdict::Trusted);
    }

    #[test]
    fn hashed_names_are_known() {
        let hashed = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";
        let text = format!("{hashed} ssh-ed25519 {KEY}");
        assert_eq!(judge(&text, "example.com", 22), Verdict::Trusted);
        assert_eq!(judge(&text, "Example.com", 2222), Verdict::Trusted);
        assert_eq!(judge(&text, "example.org", 22), Verdict::Unknown);
        let with_port = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|ZrAozJuS4zkalR2A/kzcLcOHrss=";
        let text = format!("{with_port} ssh-ed25519 {KEY}");
        assert_eq!(judge(&text, "nas", 2222), Verdict::Trusted);
        assert_eq!(judge(&text, "nas", 22), Verdict::Unknown);
    }

    #[test]
    fn a_revoked_key_is_believed_nowhere() {
        let text = format!("nas ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}");
        assert_eq!(judge(&text, "nas", 22), Verdict::Revoked);
        let text = format!("@cert-authority * ssh-ed25519 {KEY}");
        assert_eq!(judge(&text, "nas", 22), Verdict::Unknown);
    }

    #[test]
    fn the_types_of_the_known_keys_are_said() {
        let text = format!("nas ssh-ed25519 {KEY}\nelsewhere ssh-ed25519 {OTHER}");
        assert!(KnownHosts::parse(&text, "nas", 22).unwrap().has("ssh-ed25519"));
        assert!(!KnownHosts::parse(&text, "nowhere", 22).unwrap().has("ssh-ed25519"));
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_shown() {
        for line in [
            "sesame",
            "sesame ssh-ed25519",
            "sesame ssh-ed25519 sesame!",
            "sesame ssh-ed25519 AAAA",
            "sesame ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF",
            "@sesame * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF",
            "|1|sesame ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF",
            "|1|sesame!|sesame ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF",
            "|2|sesame ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF",
        ] {
            let text = format!("# nas\nnas ssh-ed25519 {KEY}\n{line}");
            let problem = KnownHosts::parse(&text, "nas", 22).unwrap_err();
            assert!(problem.starts_with("in line 3 "), "{line}: {problem}");
            assert!(!problem.contains("sesame"), "{problem}");
        }
        assert!(KnownHosts::parse("# nothing\n", "nas", 22).is_err());
    }
}
