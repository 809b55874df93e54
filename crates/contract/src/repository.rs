//! The keys of a repository's Secret that a restic mover is given, as environment variables of the
//! same names.

/// Where the repository is.
pub const REPOSITORY: &str = "RESTIC_REPOSITORY";
/// What it is opened with.
pub const PASSWORD: &str = "RESTIC_PASSWORD";
/// A key whose value is the content of a service account's file. The mover is given the file, at
/// [`paths::GOOGLE_CREDENTIALS`](crate::paths::GOOGLE_CREDENTIALS), and its path in a variable of this
/// name.
pub const GOOGLE_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// What the mover may be told besides [`REPOSITORY`] and [`PASSWORD`].
const OPTIONAL: [&str; 56] = [
    "RESTIC_COMPRESSION",
    "RESTIC_PACK_SIZE",
    "RESTIC_READ_CONCURRENCY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "RESTIC_AWS_ASSUME_ROLE_ARN",
    "RESTIC_AWS_ASSUME_ROLE_SESSION_NAME",
    "RESTIC_AWS_ASSUME_ROLE_EXTERNAL_ID",
    "RESTIC_AWS_ASSUME_ROLE_POLICY",
    "RESTIC_AWS_ASSUME_ROLE_REGION",
    "RESTIC_AWS_ASSUME_ROLE_STS_ENDPOINT",
    "ST_AUTH",
    "ST_USER",
    "ST_KEY",
    "OS_AUTH_URL",
    "OS_REGION_NAME",
    "OS_USERNAME",
    "OS_USER_ID",
    "OS_PASSWORD",
    "OS_TENANT_ID",
    "OS_TENANT_NAME",
    "OS_USER_DOMAIN_NAME",
    "OS_USER_DOMAIN_ID",
    "OS_PROJECT_NAME",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_PROJECT_DOMAIN_ID",
    "OS_TRUST_ID",
    "OS_APPLICATION_CREDENTIAL_ID",
    "OS_APPLICATION_CREDENTIAL_NAME",
    "OS_APPLICATION_CREDENTIAL_SECRET",
    "OS_STORAGE_URL",
    "OS_AUTH_TOKEN",
    "SWIFT_DEFAULT_CONTAINER_POLICY",
    // restic does not know these; OpenStack's and rclone's programs do.
    "OS_PROJECT_ID",
    "OS_ENDPOINT_TYPE",
    "ST_AUTH_VERSION",
    "B2_ACCOUNT_ID",
    "B2_ACCOUNT_KEY",
    "AZURE_ACCOUNT_NAME",
    "AZURE_ACCOUNT_KEY",
    "AZURE_ACCOUNT_SAS",
    "AZURE_ENDPOINT_SUFFIX",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_PROJECT_ID",
    "RESTIC_REST_USERNAME",
    "RESTIC_REST_PASSWORD",
    // restic leaves these to the ssh program; our mover has none.
    "SFTP_USER",
    "SFTP_PASSWORD",
    "SFTP_PRIVATE_KEY",
    "SFTP_PRIVATE_KEY_PASSPHRASE",
    "SFTP_KNOWN_HOSTS",
];

/// Whether a key of the Secret becomes a variable of the mover. Others, such as `PATH`, stay where
/// they are.
pub fn is_passed(key: &str) -> bool {
    key == REPOSITORY
        || key == PASSWORD
        || OPTIONAL.contains(&key)
        || key.starts_with("RCLONE_")
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_a_repository_is_passed_and_nothing_else() {
        for key in [REPOSITORY, PASSWORD, "AWS_ACCESS_KEY_ID", "RCLONE_CONFIG_NAS_TYPE"] {
            assert!(is_passed(key), "{key}");
        }
        for key in
            ["PATH", "LD_PRELOAD", "RCLONE_A-B", "AWS_SHARED_CREDENTIALS_FILE", GOOGLE_CREDENTIALS]
        {
            assert!(!is_passed(key), "{key}");
        }
    }
}
