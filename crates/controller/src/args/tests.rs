//! Every way a flag may be given.

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use super::*;

/// As if the environment were empty.
fn parsed(args: &[&str]) -> Result<Args, clap::Error> {
    let args = std::iter::once("volsync-controller").chain(args.iter().copied());
    let command = Args::command().mut_args(|arg| arg.env(Resettable::Reset));
    let matches = command.try_get_matches_from(long_flags(args.map(OsString::from)))?;
    Args::from_arg_matches(&matches)
}

fn asked(args: &[&str]) -> Invocation {
    parsed(args).unwrap().invocation().unwrap()
}

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn every_flag_of_upstream_is_accepted() {
    let flags = [
        "--metrics-bind-address=:8443",
        "--metrics-secure=true",
        "--metrics-require-rbac=false",
        "--metrics-cert-path=/certs",
        "--metrics-cert-name=tls.crt",
        "--metrics-cert-key=tls.key",
        "--health-probe-bind-address=:8081",
        "--leader-elect",
        "--scc-name=volsync-privileged-mover",
        "--mover-image-pull-secrets=one,two",
        "--enable-http2",
        "--rclone-container-image=image",
        "--restic-container-image=image",
        "--rsync-container-image=image",
        "--rsync-tls-container-image=image",
        "--syncthing-container-image=image",
        "--kubeconfig=/config",
        "--kubeconfig=",
        "--metrics-cert-path=",
        "--mover-image-pull-secrets=",
        "--zap-devel=false",
        "--zap-encoder=json",
        "--zap-log-level=info",
        "--zap-stacktrace-level=error",
        "--zap-time-encoding=rfc3339",
    ];
    for flag in flags {
        asked(&[flag]);
        asked(&[&flag[1..]]);
        if let Some((name, value)) = flag.split_once('=')
            && go_bool(value).is_err()
        {
            asked(&[name, value]);
            asked(&[&name[1..], value]);
        }
    }
    asked(&flags);
}

#[test]
fn a_switch_is_turned_on_by_its_name_and_off_by_false() {
    for (args, on) in [
        (&[][..], false),
        (&["--leader-elect"], true),
        (&["-leader-elect"], true),
        (&["--leader-elect=1"], true),
        (&["--leader-elect=false"], false),
        (&["--leader-elect", "--leader-elect=f"], false),
        (&["--leader-elect", "--scc-name", "name"], true),
    ] {
        assert_eq!(asked(args).leader_elect, on, "{args:?}");
    }
}

#[test]
fn what_is_not_a_flag_or_not_its_value_is_an_error_with_code_2() {
    for (args, kind) in [
        (&["--no-such-flag"][..], ErrorKind::UnknownArgument),
        (&["-no-such-flag"], ErrorKind::UnknownArgument),
        (&["something"], ErrorKind::UnknownArgument),
        (&["--leader-elect=maybe"], ErrorKind::ValueValidation),
        (&["--zap-log-level=loud"], ErrorKind::ValueValidation),
        (&["--zap-encoder=xml"], ErrorKind::InvalidValue),
    ] {
        let error = parsed(args).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{args:?}");
    }
    let error = parsed(&["--metrics-bind-address=8443"]).unwrap().invocation().unwrap_err();
    assert_eq!(error, "\"8443\" is no address such as :8081 or 127.0.0.1:8081");
}

#[test]
fn metrics_are_served_nowhere_unless_asked_for() {
    assert!(asked(&[]).scrape.is_none());
    assert!(asked(&["--metrics-bind-address=0"]).scrape.is_none());
    let scrape = asked(&["--metrics-bind-address=:8443"]).scrape.unwrap();
    assert_eq!(scrape.address, "[::]:8443");
    for address in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081"] {
        let scrape = asked(&["--metrics-bind-address", address]).scrape.unwrap();
        assert_eq!(scrape.address, address);
    }
    assert!(scrape.secure && scrape.require_rbac && scrape.certificate.is_none());
}

#[test]
fn a_certificate_is_two_files_in_a_directory() {
    let flags = ["--metrics-bind-address=:8443", "--metrics-cert-path=/certs"];
    let files = asked(&flags).scrape.unwrap().certificate.unwrap();
    assert_eq!(files.certificate, PathBuf::from("/certs/tls.crt"));
    assert_eq!(files.key, PathBuf::from("/certs/tls.key"));
}

#[test]
fn zap_flags_say_what_is_logged_and_how_unless_log_does() {
    for (args, filter, json) in [
        (&[][..], "info", false),
        (&["--zap-log-level=debug"], "info,volsync_controller=debug", false),
        (&["--zap-log-level", "1"], "info,volsync_controller=debug", false),
        (&["--zap-log-level=5"], "debug", false),
        (&["--zap-log-level=error", "--zap-encoder=json"], "error", true),
        (&["--zap-log-level=error", "--log=warn"], "warn", false),
    ] {
        let expected = Logging { filter: filter.to_owned(), json };
        assert_eq!(asked(args).logging, expected, "{args:?}");
    }
}

#[test]
fn images_and_pull_secrets_reach_the_settings() {
    let settings = asked(&[
        "--rsync-container-image=registry/rsync:1",
        "--mover-image-pull-secrets=one, two,",
    ])
    .settings;
    assert_eq!(settings.rsync_image, "registry/rsync:1");
    assert_eq!(settings.pull_secrets, ["one", "two"]);
    assert_eq!(asked(&["--rsync-container-image="]).settings.rsync_image, RSYNC_IMAGE);
    assert_eq!(asked(&[]).settings.restic_image, RESTIC_IMAGE);
}

#[test]
fn proxies_are_passed_on_spelt_both_ways() {
    let proxies = asked(&["--https-proxy=http://proxy:3128", "--no-proxy=.svc"]).settings.proxies;
    let proxies: Vec<_> = proxies.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        proxies,
        [
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("https_proxy", "http://proxy:3128"),
            ("NO_PROXY", ".svc"),
            ("no_proxy", ".svc"),
        ]
    );
}

#[test]
fn lists_are_separated_by_commas_and_may_be_empty() {
    let none = asked(&["--watch-namespace=", "--mover-image-pull-secrets="]);
    assert!(none.watch_namespaces.is_empty() && none.settings.pull_secrets.is_empty());
    let two = asked(&["--watch-namespace=home,away, home"]);
    assert_eq!(two.watch_namespaces, ["away", "home"]);
}

#[test]
fn what_is_kept_of_a_movers_words_may_be_limited() {
    for (value, limit) in [("", None), ("1024", Some(1024)), ("0", Some(0)), ("-1", Some(0))] {
        let settings = asked(&["--mover-log-max-bytes", value]).settings;
        assert_eq!(settings.mover_log_bytes, limit, "{value:?}");
    }
    assert!(parsed(&["--mover-log-max-bytes=1k"]).unwrap().invocation().is_err());
}

#[test]
fn the_environment_names_images_too() {
    let command = Args::command();
    for (flag, variable) in [
        ("rsync-container-image", "RELATED_IMAGE_RSYNC_CONTAINER"),
        ("rclone-container-image", "RELATED_IMAGE_RCLONE_CONTAINER"),
        ("restic-container-image", "RELATED_IMAGE_RESTIC_CONTAINER"),
        ("rsync-tls-container-image", "RELATED_IMAGE_RSYNC_TLS_CONTAINER"),
        ("syncthing-container-image", "RELATED_IMAGE_SYNCTHING_CONTAINER"),
    ] {
        let argument = command.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
        assert_eq!(argument.get_env().unwrap(), variable);
    }
}
