//! `Location`: where a repository is, as restic writes it, with its credentials apart.
//!
//! The forms are those of restic's manual ("Preparing a new repository"):
//!
//! ```text
//!   /path                 local:/path             s3:https://host:port/bucket/path
//!   s3:host/bucket/path   s3://host/bucket/path   b2:bucket:path
//!   azure:container:/path gs:bucket:/path         swift:container:/path
//!   rest:https://user:password@host:port/path/    rclone:remote:path
//!   sftp:user@host:path   sftp://user@host:port/path (relative)  sftp://user@host//path (absolute)
//! ```

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

/// Where a repository is. Printing it never prints a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local directory.
    Directory {
        /// Its absolute path.
        path: PathBuf,
    },
    /// Amazon S3, or a server that speaks it.
    S3 {
        /// Scheme, host and port: `https://host:port`.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// Where in it; may be empty.
        path: String,
    },
    /// Backblaze B2.
    B2 {
        /// The bucket.
        bucket: String,
        /// Where in it; may be empty.
        path: String,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// Where in it; may be empty.
        path: String,
    },
    /// Google Cloud Storage.
    Google {
        /// The bucket.
        bucket: String,
        /// Where in it; may be empty.
        path: String,
    },
    /// OpenStack Swift.
    Swift {
        /// The container.
        container: String,
        /// Where in it; may be empty.
        path: String,
    },
    /// A server that speaks restic's REST protocol.
    Rest {
        /// Its address, which ends with a slash and has no credentials.
        url: Url,
        /// Those that stood in the address.
        credentials: Option<Credentials>,
    },
    /// A directory on a server that is reached by SSH.
    Sftp {
        /// Who to log in as, if it says.
        user: Option<String>,
        /// The server.
        host: String,
        /// Its port, if it says.
        port: Option<u16>,
        /// Where on it; relative to the user's home unless it starts with a slash.
        path: String,
    },
    /// A remote of rclone's configuration.
    Rclone {
        /// The remote's name.
        remote: String,
        /// Where on it.
        path: String,
    },
}

/// A name and a password. Neither printing nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why a location cannot be understood. It never repeats the location, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// There is nothing.
    #[error("the repository's location is empty")]
    Empty,
    /// Nobody knows what stands before the colon.
    #[error(
        "no kind of repository is called {scheme}: (a directory with a colon is written local:/path)"
    )]
    UnknownScheme {
        /// What stands there.
        scheme: String,
    },
    /// A directory that is relative to nothing.
    #[error("a repository in a directory needs its absolute path, such as /mnt/repo")]
    RelativeDirectory,
    /// It is not of the form that its kind has.
    #[error("{} repository is written {form}: {problem}", article(scheme))]
    Malformed {
        /// Its kind.
        scheme: &'static str,
        /// How it is written.
        form: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

fn article(scheme: &str) -> String {
    let article = if matches!(scheme, "s3" | "azure" | "rclone" | "sftp") { "an" } else { "a" };
    format!("{article} {scheme}:")
}

const S3: &str = "s3:https://HOST/BUCKET/PATH or s3:HOST/BUCKET/PATH";
const B2: &str = "b2:BUCKET:PATH";
const AZURE: &str = "azure:CONTAINER:/PATH";
const GOOGLE: &str = "gs:BUCKET:/PATH";
const SWIFT: &str = "swift:CONTAINER:/PATH";
const REST: &str = "rest:https://USER:PASSWORD@HOST:PORT/PATH/";
const SFTP: &str = "sftp:USER@HOST:/PATH or sftp://USER@HOST:PORT//PATH";
const RCLONE: &str = "rclone:REMOTE:PATH";

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        Self::parse(text)
    }
}

impl Location {
    /// Understands a location as restic does. A relative directory is refused: a mover has no
    /// directory of its own that it could be relative to.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        if text.starts_with('/') {
            return directory(text);
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(LocationError::RelativeDirectory);
        };
        match scheme {
            "local" => directory(rest),
            "s3" => s3(rest),
            "b2" => {
                let (bucket, path) = rest.split_once(':').unwrap_or((rest, ""));
                let (bucket, path) = container("b2", B2, bucket, path)?;
                Ok(Self::B2 { bucket, path })
            }
            "azure" => {
                let (container, path) = container_and_path("azure", AZURE, rest)?;
                Ok(Self::Azure { container, path })
            }
            "gs" => {
                let (bucket, path) = container_and_path("gs", GOOGLE, rest)?;
                Ok(Self::Google { bucket, path })
            }
            "swift" => {
                let (container, path) = container_and_path("swift", SWIFT, rest)?;
                Ok(Self::Swift { container, path })
            }
            "rest" => self::rest(rest),
            "sftp" => sftp(rest),
            "rclone" => {
                let malformed = |problem| malformed("rclone", RCLONE, problem);
                let (remote, path) =
                    rest.split_once(':').ok_or_else(|| malformed("there is no second colon"))?;
                if remote.is_empty() {
                    return Err(malformed("the remote is missing"));
                }
                Ok(Self::Rclone { remote: remote.to_owned(), path: path.to_owned() })
            }
            _ => Err(LocationError::UnknownScheme { scheme: printable(scheme) }),
        }
    }
}

/// What is shown of a scheme that nobody knows: it may be a mistyped line with a password.
fn printable(scheme: &str) -> String {
    if scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        scheme.to_owned()
    } else {
        "that".to_owned()
    }
}

const fn malformed(
    scheme: &'static str,
    form: &'static str,
    problem: &'static str,
) -> LocationError {
    LocationError::Malformed { scheme, form, problem }
}

fn directory(path: &str) -> Result<Location, LocationError> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(LocationError::RelativeDirectory);
    }
    // `..` stays: what it leads to depends on links. A slash at the end and `.` say nothing.
    let path = path.components().filter(|part| *part != Component::CurDir).collect();
    Ok(Location::Directory { path })
}

fn s3(rest: &str) -> Result<Location, LocationError> {
    let malformed = |problem| malformed("s3", S3, problem);
    let (endpoint, path) = if rest.starts_with("http:") || rest.starts_with("https:") {
        let url = http_url(rest).ok_or_else(|| malformed("the address is not one of http"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed(
                "credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        (origin(&url), decoded(url.path()).ok_or_else(|| malformed("the path is not UTF-8"))?)
    } else {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (host, path) =
            rest.split_once('/').ok_or_else(|| malformed("the bucket is missing"))?;
        if host.contains('@') {
            return Err(malformed(
                "credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        let url = http_url(&format!("https://{host}"))
            .ok_or_else(|| malformed("the host cannot be one"))?;
        (origin(&url), path.to_owned())
    };
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, path) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, path) = container("s3", S3, bucket, path)?;
    Ok(Location::S3 { endpoint, bucket, path })
}

fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    (usable && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

fn container_and_path(
    scheme: &'static str,
    form: &'static str,
    rest: &str,
) -> Result<(String, String), LocationError> {
    let (name, path) =
        rest.split_once(':').ok_or_else(|| malformed(scheme, form, "there is no second colon"))?;
    container(scheme, form, name, path)
}

/// A bucket's name and the path in it without anything that says nothing, as restic cleans it.
fn container(
    scheme: &'static str,
    form: &'static str,
    name: &str,
    path: &str,
) -> Result<(String, String), LocationError> {
    if name.is_empty() {
        return Err(malformed(scheme, form, "the bucket or container is missing"));
    }
    if name.contains(['/', '@', '?', '#', ' ']) {
        return Err(malformed(scheme, form, "no bucket or container is called so"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| malformed(scheme, form, "the path leads out of it"))?;
            }
            _ => parts.push(part),
        }
    }
    Ok((name.to_owned(), parts.join("/")))
}

fn rest(rest: &str) -> Result<Location, LocationError> {
    let malformed = |problem| malformed("rest", REST, problem);
    let mut url = http_url(rest).ok_or_else(|| malformed("the address is not one of http"))?;
    let user = decoded(url.username()).ok_or_else(|| malformed("the user is not UTF-8"))?;
    let password = decoded(url.password().unwrap_or_default())
        .ok_or_else(|| malformed("the password is not UTF-8"))?;
    let credentials =
        (!user.is_empty() || !password.is_empty()).then_some(Credentials { user, password });
    let removed = url.set_username("").and_then(|()| url.set_password(None));
    removed.map_err(|()| malformed("the address is not one of http"))?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(Location::Rest { url, credentials })
}

fn sftp(rest: &str) -> Result<Location, LocationError> {
    let malformed = |problem| malformed("sftp", SFTP, problem);
    let (user_and_host, port, path) = if let Some(rest) = rest.strip_prefix("//") {
        let (authority, path) =
            rest.split_once('/').ok_or_else(|| malformed("the path is missing"))?;
        let end_of_user = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, server) = authority.split_at(end_of_user);
        // The colons of an IPv6 address stand in brackets.
        let end_of_host = server.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match server[end_of_host..].split_once(':') {
            Some((more, port)) => (
                &server[..end_of_host + more.len()],
                Some(port.parse().map_err(|_| malformed("the port is not a number"))?),
            ),
            None => (server, None),
        };
        let path = decoded(path).ok_or_else(|| malformed("the path is not UTF-8"))?;
        (format!("{user}{}", host.trim_start_matches('[').trim_end_matches(']')), port, path)
    } else {
        let (authority, path) =
            rest.split_once(':').ok_or_else(|| malformed("there is no second colon"))?;
        if path.split_once('@').is_some_and(|(_, rest)| rest.contains(':')) {
            return Err(malformed("a password is no part of it"));
        }
        (authority.to_owned(), None, path.to_owned())
    };
    let (user, host) = match user_and_host.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host.to_owned()),
        None => (None, user_and_host),
    };
    if host.is_empty() {
        return Err(malformed("the host is missing"));
    }
    if user.as_deref().is_some_and(|user| user.is_empty() || user.contains(':')) {
        return Err(malformed("the user cannot be one (a password is no part of it)"));
    }
    if path.is_empty() {
        return Err(malformed("the path is missing"));
    }
    if path.starts_with('~') {
        return Err(malformed("a path that starts in a home is written without ~/"));
    }
    Ok(Location::Sftp { user, host, port, path })
}

impl fmt::Display for Location {
    /// As restic writes it, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path } => write!(f, "{}", path.display()),
            Self::S3 { endpoint, bucket, path } if path.is_empty() => {
                write!(f, "s3:{endpoint}/{bucket}")
            }
            Self::S3 { endpoint, bucket, path } => write!(f, "s3:{endpoint}/{bucket}/{path}"),
            Self::B2 { bucket, path } => write!(f, "b2:{bucket}:{path}"),
            Self::Azure { container, path } => write!(f, "azure:{container}:/{path}"),
            Self::Google { bucket, path } => write!(f, "gs:{bucket}:/{path}"),
            Self::Swift { container, path } => write!(f, "swift:{container}:/{path}"),
            Self::Rest { url, .. } => write!(f, "rest:{url}"),
            Self::Sftp { user, host, port, path } => {
                f.write_str("sftp://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                write!(f, "/{path}")
            }
            Self::Rclone { remote, path } => write!(f, "rclone:{remote}:{path}"),
        }
    }
}

#[cfg(test)]
mod tests;
