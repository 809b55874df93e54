//! How restic's locations are understood.

use super::*;
use proptest::prelude::*;

fn s3(endpoint: &str, bucket: &str, path: &str) -> Location {
    Location::S3 { endpoint: endpoint.into(), bucket: bucket.into(), path: path.into() }
}

fn parsed(text: &str) -> Location {
    Location::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_location_of_the_documentation_is_understood() {
    for (text, location) in [
        (
            "s3:http://minio.minio.svc.cluster.local:9000/restic-repo",
            s3("http://minio.minio.svc.cluster.local:9000", "restic-repo", ""),
        ),
        (
            "s3:http://minio.minio.svc.cluster.local:9000/restic-repo/pvc-a-backup",
            s3("http://minio.minio.svc.cluster.local:9000", "restic-repo", "pvc-a-backup"),
        ),
        ("s3:s3.amazonaws.com/bucket_name", s3("https://s3.amazonaws.com", "bucket_name", "")),
        ("s3:s3.amazonaws.com/bucket/a/b/", s3("https://s3.amazonaws.com", "bucket", "a/b")),
        ("s3://s3.amazonaws.com/bucket//a", s3("https://s3.amazonaws.com", "bucket", "a")),
        ("s3:localhost:9000/bucket", s3("https://localhost:9000", "bucket", "")),
        ("s3:https://[::1]:9000/bucket/x", s3("https://[::1]:9000", "bucket", "x")),
        ("s3:https://host/bucket/a%20b", s3("https://host", "bucket", "a b")),
        ("/mnt/repo", Location::Directory { path: "/mnt/repo".into() }),
        ("local:/mnt/a:b/", Location::Directory { path: "/mnt/a:b".into() }),
        ("b2:bucket:a/b", Location::B2 { bucket: "bucket".into(), path: "a/b".into() }),
        ("b2:bucket", Location::B2 { bucket: "bucket".into(), path: String::new() }),
        ("azure:foo:/", Location::Azure { container: "foo".into(), path: String::new() }),
        ("azure:foo:/a", Location::Azure { container: "foo".into(), path: "a".into() }),
        ("gs:foo:/a/b", Location::Google { bucket: "foo".into(), path: "a/b".into() }),
        ("swift:foo:/a", Location::Swift { container: "foo".into(), path: "a".into() }),
        (
            "rclone:b2prod:yggdrasil/foo",
            Location::Rclone { remote: "b2prod".into(), path: "yggdrasil/foo".into() },
        ),
    ] {
        assert_eq!(parsed(text), location, "{text}");
    }
}

#[test]
fn a_server_by_ssh_is_written_in_two_ways() {
    let sftp = |user: Option<&str>, host: &str, port, path: &str| Location::Sftp {
        user: user.map(str::to_owned),
        host: host.into(),
        port,
        path: path.into(),
    };
    for (text, location) in [
        ("sftp:user@host:/srv/repo", sftp(Some("user"), "host", None, "/srv/repo")),
        ("sftp:host:repo", sftp(None, "host", None, "repo")),
        ("sftp://user@host:2222//srv/repo", sftp(Some("user"), "host", Some(2222), "/srv/repo")),
        ("sftp://user@host/repo", sftp(Some("user"), "host", None, "repo")),
        ("sftp://user@[::1]:22//srv", sftp(Some("user"), "::1", Some(22), "/srv")),
        ("sftp:u@domain@host:/srv", sftp(Some("u@domain"), "host", None, "/srv")),
    ] {
        assert_eq!(parsed(text), location, "{text}");
    }
}

#[test]
fn the_credentials_of_a_rest_server_stand_apart() {
    let location = parsed("rest:https://jo:p%40ss@host:8000/my_repo");
    let Location::Rest { url, credentials } = &location else { panic!("{location:?}") };
    assert_eq!(url.as_str(), "https://host:8000/my_repo/");
    let credentials = credentials.as_ref().unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("jo", "p@ss"));
    for shown in [location.to_string(), format!("{location:?}"), format!("{location:#?}")] {
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
    }
    let plain = parsed("rest:http://host:8000");
    assert_eq!(plain.to_string(), "rest:http://host:8000/");
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_form_it_should_have() {
    for (text, message) in [
        ("", "the repository's location is empty"),
        ("repo", "a repository in a directory needs its absolute path, such as /mnt/repo"),
        ("local:repo", "a repository in a directory needs its absolute path, such as /mnt/repo"),
        (
            "ftp:host/x",
            "no kind of repository is called ftp: (a directory with a colon is written local:/path)",
        ),
        (
            "s3:s3.amazonaws.com",
            "an s3: repository is written s3:https://HOST/BUCKET/PATH or s3:HOST/BUCKET/PATH: the bucket is missing",
        ),
        (
            "s3:https://host/",
            "an s3: repository is written s3:https://HOST/BUCKET/PATH or s3:HOST/BUCKET/PATH: the bucket or container is missing",
        ),
        (
            "azure:foo",
            "an azure: repository is written azure:CONTAINER:/PATH: there is no second colon",
        ),
        ("gs:foo:/../x", "a gs: repository is written gs:BUCKET:/PATH: the path leads out of it"),
        (
            "sftp:host:~/x",
            "an sftp: repository is written sftp:USER@HOST:/PATH or sftp://USER@HOST:PORT//PATH: a path that starts in a home is written without ~/",
        ),
    ] {
        assert_eq!(Location::parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn a_password_in_the_wrong_place_is_not_repeated() {
    for text in [
        "s3:https://AKIA:hunter22@host/bucket",
        "s3:AKIA:hunter22@host/bucket",
        "sftp://user:hunter22@host/x",
        "sftp:user:hunter22@host:/x",
        "rest:ftp://user:hunter22@host/",
        "https-hunter22://x",
        "rest:https://user:hunter22@/",
    ] {
        match Location::parse(text) {
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains("hunter22"), "{shown}");
            }
            Ok(location) => {
                let shown = format!("{location} {location:?}");
                assert!(!shown.contains("hunter22"), "{text} is {shown}");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_that_users_write_is_a_panic(text in "(s3|b2|azure|gs|swift|rest|sftp|rclone|local|x)?:?(//)?[ -~]{0,40}") {
        let _ = Location::parse(&text);
    }

    #[test]
    fn what_is_printed_is_understood_as_the_same_place(
        scheme in "s3:https://host:9000/b/|s3:host/b/|azure:c:/|gs:b:/|swift:c:/|b2:bucket:|rest:https://host/|sftp:u@h:/|sftp://h:22/x|rclone:r:|/",
        path in "[a-zA-Z0-9._-]{1,8}(/[a-zA-Z0-9_-]{1,8}){0,3}",
    ) {
        let location = parsed(&format!("{scheme}{path}"));
        prop_assert_eq!(parsed(&location.to_string()), location);
    }

    #[test]
    fn no_password_is_ever_printed(password in "[a-z]{12}") {
        let location = parsed(&format!("rest:https://user:{password}@host/x/"));
        let shown = format!("{} {:?}", location, location);
        prop_assert!(!shown.contains(&password));
    }
}
