//! From a location and its settings to a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cloud::Cloud;
use crate::directory::Directory;
use crate::error::{Error, Kind, Operation};
use crate::location::{Credentials, Location};
use crate::rclone;
use crate::rest::Rest;
use crate::retry::{Patience, Retries, Retrying};
use crate::s3::{Connect, S3};
use crate::settings::Settings;
use crate::sftp::Sftp;
use crate::store::Store;
use crate::swift::Swift;

/// The store at a location. `ca` is a file of certificates (PEM) that are trusted besides the
/// system's. Nothing is asked of the store yet.
pub fn open(
    location: &Location,
    settings: &Settings,
    ca: Option<PathBuf>,
) -> Result<Arc<dyn Store>, Error> {
    open_with(location, settings, ca, Patience::default())
}

/// The same with another patience.
pub fn open_with(
    location: &Location,
    settings: &Settings,
    ca: Option<PathBuf>,
    patience: Patience,
) -> Result<Arc<dyn Store>, Error> {
    let shown = location.to_string();
    let mut secrets = settings.clone();
    if let Location::Rest { credentials: Some(credentials), .. } = location {
        secrets.insert("RESTIC_REST_PASSWORD", &credentials.password);
    }
    let retries = Retries::new(patience, shown.clone(), secrets);
    let refused = |kind, reason: String| Error::new(kind, Operation::Open, &shown, "", reason);
    let remote;
    let (location, settings) = match location {
        Location::Rclone { remote: name, path } => {
            remote = rclone::resolve(name, path, settings)
                .map_err(|reason| refused(Kind::Unsupported, settings.redact(&reason)))?;
            (&remote.0, &remote.1)
        }
        _ => (location, settings),
    };
    let credentials = |of_location: &Option<Credentials>| {
        of_location.clone().or_else(|| {
            Some(Credentials {
                user: settings.get("RESTIC_REST_USERNAME")?.to_owned(),
                password: settings.get("RESTIC_REST_PASSWORD").unwrap_or_default().to_owned(),
            })
        })
    };
    match location {
        Location::Directory { path } => Ok(Arc::new(Retrying::new(Directory::new(path), retries))),
        Location::S3 { endpoint, bucket, path } => {
            let connect = Connect::new(endpoint.clone(), settings.clone(), ca);
            let s3 = S3::new(bucket.clone(), path.clone(), connect, retries.clone());
            Ok(Arc::new(Retrying::new(s3, retries)))
        }
        Location::Rest { url, credentials: of_location } => {
            let rest = Rest::new(url.clone(), credentials(of_location), ca, retries.clone())?;
            Ok(Arc::new(Retrying::new(rest, retries)))
        }
        Location::B2 { bucket, path } => {
            let connect = Connect::backblaze(None, settings.clone(), ca);
            let s3 = S3::new(bucket.clone(), path.clone(), connect, retries.clone());
            Ok(Arc::new(Retrying::new(s3, retries)))
        }
        Location::Azure { container, path } => {
            let (container, path) = (container.clone(), path.clone());
            let azure = Cloud::azure(container, path, settings, ca.as_deref(), retries.clone())?;
            Ok(Arc::new(Retrying::new(azure, retries)))
        }
        Location::Google { bucket, path } => {
            let (bucket, path) = (bucket.clone(), path.clone());
            let google = Cloud::google(bucket, path, settings, ca.as_deref(), retries.clone())?;
            Ok(Arc::new(Retrying::new(google, retries)))
        }
        Location::Sftp { user, host, port, path } => {
            let (user, host, path) = (user.clone(), host.clone(), path.clone());
            let sftp = Sftp::new(user, host, *port, path, settings, retries.clone())?;
            Ok(Arc::new(Retrying::new(sftp, retries)))
        }
        Location::Swift { container, path } => {
            let (path, ca) = (path.clone(), ca.as_deref());
            let swift = Swift::new(container, path, settings, ca, retries.clone())?;
            Ok(Arc::new(Retrying::new(swift, retries)))
        }
        Location::Rclone { .. } => {
            let reason = "it is a remote of rclone's on another";
            Err(refused(Kind::Unsupported, reason.to_owned()))
        }
    }
}
