//! From a remote of rclone's configuration to the store that it is.
//!
//! A remote is configured by variables (rclone's manual, "Config file via environment"):
//! `RCLONE_CONFIG_REMOTE_OPTION`, where REMOTE is its name in capitals.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::location::Location;
use crate::settings::Settings;

/// What has a meaning in addresses, and none in rclone's paths.
const IN_PATHS: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// What rclone's manual ("Swift") says that the options are called in OpenStack's environment.
const SWIFT: [(&str, &str); 17] = [
    ("USER", "OS_USERNAME"),
    ("KEY", "OS_PASSWORD"),
    ("AUTH", "OS_AUTH_URL"),
    ("USER_ID", "OS_USER_ID"),
    ("DOMAIN", "OS_USER_DOMAIN_NAME"),
    ("TENANT", "OS_PROJECT_NAME"),
    ("TENANT_ID", "OS_TENANT_ID"),
    ("TENANT_DOMAIN", "OS_PROJECT_DOMAIN_NAME"),
    ("REGION", "OS_REGION_NAME"),
    ("STORAGE_URL", "OS_STORAGE_URL"),
    ("AUTH_TOKEN", "OS_AUTH_TOKEN"),
    ("APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_ID"),
    ("APPLICATION_CREDENTIAL_NAME", "OS_APPLICATION_CREDENTIAL_NAME"),
    ("APPLICATION_CREDENTIAL_SECRET", "OS_APPLICATION_CREDENTIAL_SECRET"),
    ("AUTH_VERSION", "ST_AUTH_VERSION"),
    ("ENDPOINT_TYPE", "OS_ENDPOINT_TYPE"),
    ("STORAGE_POLICY", "SWIFT_DEFAULT_CONTAINER_POLICY"),
];

/// A remote and a path on it as a location of its own, and what that location needs to know.
pub(crate) fn resolve(
    remote: &str,
    path: &str,
    settings: &Settings,
) -> Result<(Location, Settings), String> {
    let variable = |option: &str| format!("RCLONE_CONFIG_{}_{option}", remote.to_uppercase());
    let get = |option: &str| settings.get(&variable(option));
    let required = |option| get(option).ok_or_else(|| format!("{} is missing", variable(option)));
    // What the Secret says by restic's names is of another repository.
    let mut there = Settings::default();
    let mut take = |option: &str, name: &str| {
        if let Some(value) = get(option) {
            there.insert(name, value);
        }
    };
    let location = match required("TYPE")? {
        "s3" => {
            take("ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID");
            take("SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY");
            take("SESSION_TOKEN", "AWS_SESSION_TOKEN");
            take("REGION", "AWS_DEFAULT_REGION");
            take("PROFILE", "AWS_PROFILE");
            let endpoint = get("ENDPOINT").unwrap_or("s3.amazonaws.com").trim_end_matches('/');
            let path = path.trim_start_matches('/');
            if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
                format!("s3:{endpoint}/{}", utf8_percent_encode(path, IN_PATHS))
            } else {
                format!("s3:{endpoint}/{path}")
            }
        }
        "b2" => {
            take("ACCOUNT", "B2_ACCOUNT_ID");
            take("KEY", "B2_ACCOUNT_KEY");
            in_container("b2", path)
        }
        "azureblob" => {
            take("ACCOUNT", "AZURE_ACCOUNT_NAME");
            take("KEY", "AZURE_ACCOUNT_KEY");
            take("TENANT", "AZURE_TENANT_ID");
            take("CLIENT_ID", "AZURE_CLIENT_ID");
            if get("SAS_URL").is_some() {
                let instead = "write azure:CONTAINER:/PATH with AZURE_ACCOUNT_SAS instead";
                return Err(format!("{} is not understood: {instead}", variable("SAS_URL")));
            }
            if let Some(endpoint) = get("ENDPOINT") {
                let suffix = endpoint.strip_prefix("blob.").unwrap_or(endpoint);
                there.insert("AZURE_ENDPOINT_SUFFIX", suffix);
            }
            in_container("azure", path)
        }
        "google cloud storage" | "gcs" => {
            take("SERVICE_ACCOUNT_FILE", "GOOGLE_APPLICATION_CREDENTIALS");
            take("PROJECT_NUMBER", "GOOGLE_PROJECT_ID");
            in_container("gs", path)
        }
        "swift" => {
            if get("ENV_AUTH").is_some_and(|given| given != "false") {
                let instead = "write swift:CONTAINER:/PATH with OS_AUTH_URL and the like instead";
                return Err(format!("{} is not understood: {instead}", variable("ENV_AUTH")));
            }
            for (option, name) in SWIFT {
                take(option, name);
            }
            in_container("swift", path)
        }
        "sftp" => {
            take("KEY_PEM", "SFTP_PRIVATE_KEY");
            // rclone takes any key of a server unless it is given a file of known ones.
            for (name, value) in settings.starting_with("SFTP_") {
                there.insert(name, value);
            }
            let host = required("HOST")?;
            let port = match get("PORT") {
                None => None,
                Some(port) => {
                    let wrong = |_| format!("{} is no port", variable("PORT"));
                    Some(port.parse().map_err(wrong)?)
                }
            };
            let location = Location::Sftp {
                user: get("USER").map(str::to_owned),
                host: host.to_owned(),
                port,
                path: if path.is_empty() { ".".to_owned() } else { path.to_owned() },
            };
            return Ok((location, there));
        }
        other => {
            return Err(format!(
                "{} is {other:?}, and this release reaches remotes of the types s3, b2, azureblob, \
                 google cloud storage, swift and sftp (a directory is written as its path)",
                variable("TYPE")
            ));
        }
    };
    let location = Location::parse(&location).map_err(|error| error.to_string())?;
    Ok((location, there))
}

fn in_container(scheme: &str, path: &str) -> String {
    let path = path.trim_start_matches('/');
    let (container, below) = path.split_once('/').unwrap_or((path, ""));
    format!("{scheme}:{container}:/{below}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(path: &str, settings: &[(&str, &str)]) -> Result<(String, Settings), String> {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (location, there) = resolve("backup-1", path, &Settings::new(settings))?;
        Ok((location.to_string(), there))
    }

    #[test]
    fn a_remote_is_the_store_that_it_names() {
        let type_of = |kind| ("RCLONE_CONFIG_BACKUP-1_TYPE", kind);
        let (location, there) = resolved(
            "bucket/a/b",
            &[
                type_of("s3"),
                ("RCLONE_CONFIG_BACKUP-1_ENDPOINT", "http://minio:9000/"),
                ("RCLONE_CONFIG_BACKUP-1_ACCESS_KEY_ID", "id"),
                ("AWS_DEFAULT_REGION", "of another"),
            ],
        )
        .unwrap();
        assert_eq!(location, "s3:http://minio:9000/bucket/a/b");
        assert_eq!(there.get("AWS_ACCESS_KEY_ID"), Some("id"));
        assert_eq!(there.get("AWS_DEFAULT_REGION"), None);
        let (location, _) = resolved(
            "bucket/50%20?#",
            &[type_of("s3"), ("RCLONE_CONFIG_BACKUP-1_ENDPOINT", "http://minio:9000")],
        )
        .unwrap();
        assert_eq!(location, "s3:http://minio:9000/bucket/50%20?#");
        for (kind, path, expected) in [
            ("s3", "bucket", "s3:https://s3.amazonaws.com/bucket"),
            ("b2", "/bucket/a", "b2:bucket:a"),
            ("azureblob", "box/a", "azure:box:/a"),
            ("google cloud storage", "bucket", "gs:bucket:/"),
            ("swift", "/box/a/b", "swift:box:/a/b"),
        ] {
            assert_eq!(resolved(path, &[type_of(kind)]).unwrap().0, expected, "{kind}");
        }
        let sftp = [
            type_of("sftp"),
            ("RCLONE_CONFIG_BACKUP-1_HOST", "nas"),
            ("RCLONE_CONFIG_BACKUP-1_USER", "me"),
            ("RCLONE_CONFIG_BACKUP-1_PORT", "2222"),
            ("SFTP_KNOWN_HOSTS", "nas ssh-ed25519 AAAA"),
        ];
        let (location, there) = resolved("/srv/repo", &sftp).unwrap();
        assert_eq!(location, "sftp://me@nas:2222//srv/repo");
        assert!(there.get("SFTP_KNOWN_HOSTS").is_some());
    }

    #[test]
    fn a_remote_of_swift_is_opened_by_what_rclone_calls_it() {
        let remote = [
            ("RCLONE_CONFIG_BACKUP-1_TYPE", "swift"),
            ("RCLONE_CONFIG_BACKUP-1_ENV_AUTH", "false"),
            ("RCLONE_CONFIG_BACKUP-1_USER", "somebody"),
            ("RCLONE_CONFIG_BACKUP-1_TENANT_DOMAIN", "projects"),
            ("OS_USER_ID", "of another"),
        ];
        let (_, there) = resolved("box", &remote).unwrap();
        assert_eq!(there.get("OS_USERNAME"), Some("somebody"));
        assert_eq!(there.get("OS_PROJECT_DOMAIN_NAME"), Some("projects"));
        assert_eq!(there.get("OS_USER_ID"), None);
        let env = [remote[0], ("RCLONE_CONFIG_BACKUP-1_ENV_AUTH", "true")];
        let refused = resolved("box", &env).unwrap_err();
        assert!(refused.contains("ENV_AUTH is not understood: write swift:"), "{refused}");
    }

    #[test]
    fn a_remote_that_cannot_be_reached_is_refused_with_the_reason() {
        let missing = resolved("x", &[]).unwrap_err();
        assert_eq!(missing, "RCLONE_CONFIG_BACKUP-1_TYPE is missing");
        let drive = resolved("x", &[("RCLONE_CONFIG_BACKUP-1_TYPE", "drive")]).unwrap_err();
        assert!(drive.starts_with("RCLONE_CONFIG_BACKUP-1_TYPE is \"drive\", and this release"));
        let nowhere = resolved("", &[("RCLONE_CONFIG_BACKUP-1_TYPE", "s3")]).unwrap_err();
        assert!(nowhere.contains("the bucket or container is missing"), "{nowhere}");
    }
}
