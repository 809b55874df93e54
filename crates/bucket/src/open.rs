//! From a location and its settings to a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::directory::Directory;
use crate::error::{Error, Kind, Operation};
use crate::location::{Credentials, Location};
use crate::rest::Rest;
use crate::retry::{Patience, Retries, Retrying};
use crate::s3::{Connect, S3};
use crate::settings::Settings;
use crate::store::Store;

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
    let unsupported = |kind: &str| {
        let reason = format!("this release cannot reach {kind} repositories");
        Err(Error::new(Kind::Unsupported, Operation::Open, &shown, "", reason))
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
        Location::B2 { .. } => unsupported("b2:"),
        Location::Azure { .. } => unsupported("azure:"),
        Location::Google { .. } => unsupported("gs:"),
        Location::Swift { .. } => unsupported("swift:"),
        Location::Sftp { .. } => unsupported("sftp:"),
        Location::Rclone { .. } => unsupported("rclone:"),
    }
}
