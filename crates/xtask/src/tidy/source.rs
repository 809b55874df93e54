//! Rules 10 to 12, sizes and headers, by the lines of the source.

use super::Problem;

/// A file of the repository.
#[derive(Debug)]
pub(super) struct Source {
    path: String,
    text: String,
}

impl Source {
    pub(super) const fn new(path: String, text: String) -> Self {
        Self { path, text }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Test code may be longer, read the environment and ask the time.
    fn is_test(&self) -> bool {
        let path = &self.path;
        path.starts_with("crates/testing/")
            || ["/tests/", "/benches/", "/fuzz/", "/examples/", "/fixtures/"]
                .iter()
                .any(|dir| path.contains(dir))
            || path.ends_with("/tests.rs")
    }

    /// How many lines there are above the unit tests.
    fn lines_above_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .position(|pair| {
                pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ")
            })
            .unwrap_or(lines.len())
    }

    /// The lines that are code and not tests, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .take(self.lines_above_tests())
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The one home of a foreign crate: what its name looks like in code, and where that may stand.
const HOMES: &[(&str, &[&str])] = &[
    ("russh", &["movers/rsync/src/ssh.rs", "movers/rsync/src/ssh/", SFTP, SFTP_PARTS]),
    ("russh_sftp", &[SFTP, SFTP_PARTS]),
    ("fast_rsync", &["movers/rsync/src/native/delta.rs"]),
    ("object_store", &["crates/bucket/src/cloud.rs"]),
    ("aws_sdk_s3", S3),
    ("aws_config", S3),
    ("aws_credential_types", S3),
    ("aws_smithy_http_client", S3),
    (
        "reqwest",
        &[
            "crates/bucket/src/http.rs",
            "crates/bucket/src/rest.rs",
            "crates/bucket/src/swift.rs",
            "crates/bucket/src/swift/",
        ],
    ),
    ("rustic_core", &["movers/restic/src/"]),
    ("notify", &["movers/syncthing/src/watch.rs"]),
    ("prometheus_client", &["crates/controller/src/metrics.rs"]),
    ("rcgen", &["crates/controller/src/certificate.rs"]),
    ("tokio_rustls", &["crates/controller/src/certificate.rs"]),
    (
        "indicatif",
        &[
            "crates/local/src/progress.rs",
            "crates/local/src/show.rs",
            "crates/local/src/terminal.rs",
        ],
    ),
    ("clap", &["/src/args.rs"]),
];

const SFTP: &str = "crates/bucket/src/sftp.rs";
const SFTP_PARTS: &str = "crates/bucket/src/sftp/";

const S3: &[&str] = &["crates/bucket/src/s3.rs", "crates/bucket/src/s3/"];

/// Names that say nothing, so that everything ends up in them.
const EMPTY_NAMES: &[&str] = &[
    "core", "common", "commons", "util", "utils", "helpers", "misc", "shared", "types", "manager",
];

/// What the decision may not do.
const IMPURE: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "kube::Client",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
];

const MAX_LINES: usize = 800;

/// Every breach in one file.
pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = machine_paths(source);
    if source.is_rust() {
        problems.extend(form(source));
        problems.extend(names(source));
        problems.extend(homes(source));
        problems.extend(purity(source));
        problems.extend(environment(source));
    }
    problems
}

fn at(source: &Source, line: usize) -> String {
    format!("{}:{line}", source.path)
}

fn form(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !source.text.starts_with("//! ") {
        problems.push(Problem::new(
            at(source, 1),
            "a file opens with one sentence that says what it is (//! …)",
        ));
    }
    let lines = source.lines_above_tests();
    if lines > MAX_LINES && !source.is_test() {
        problems.push(Problem::new(
            &source.path,
            format!("{lines} lines; split it before {MAX_LINES}"),
        ));
    }
    if source.path.ends_with("/mod.rs") && !source.path.contains("/tests/") {
        problems.push(Problem::new(&source.path, "foo.rs beside foo/, not foo/mod.rs"));
    }
    problems
}

fn names(source: &Source) -> Vec<Problem> {
    source
        .path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| EMPTY_NAMES.contains(part))
        .map(|part| {
            Problem::new(&source.path, format!("the name {part} says nothing; name the concept"))
        })
        .collect()
}

fn homes(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, places) in HOMES {
        if source.is_test() || places.iter().any(|place| lives(&source.path, place)) {
            continue;
        }
        for (line, code) in source.code() {
            if names_crate(code, name) {
                problems.push(Problem::new(
                    at(source, line),
                    format!("{name} lives in {} alone", places.join(" or ")),
                ));
            }
        }
    }
    problems
}

/// A place is a file, a directory ending in `/`, or (starting with `/`) the end of any path.
fn lives(path: &str, place: &str) -> bool {
    if place.starts_with('/') {
        path.ends_with(place)
    } else if place.ends_with('/') {
        path.starts_with(place)
    } else {
        path == place
    }
}

/// Whether a line names the crate in a path or an import, not as a part of another word.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = &code[start + name.len()..];
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let whole = !before.is_some_and(|c| word(c) || c == ':' || c == '"' || c == '.');
        let imported =
            code.trim_start().trim_start_matches("pub ").starts_with(&format!("use {name}"));
        whole && (after.starts_with("::") || imported && !after.starts_with(word))
    })
}

fn purity(source: &Source) -> Vec<Problem> {
    let pure = [
        "crates/replication/src/",
        "crates/volume/src/",
        "crates/contract/src/",
        "crates/api/src/",
    ];
    if !pure.iter().any(|dir| source.path.starts_with(dir)) || source.is_test() {
        return Vec::new();
    }
    breaches(source, IMPURE, "is for shells and movers; take a value instead")
}

fn environment(source: &Source) -> Vec<Problem> {
    if source.is_test() || source.path.ends_with("/src/args.rs") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if source.path != "crates/mover/src/harness.rs" {
        let reads = ["env::var(", "env::var_os(", "env::vars", "env::args"];
        problems.extend(breaches(source, &reads, "is for args.rs and the movers' harness.rs"));
        if source.path.starts_with("crates/") && !source.path.starts_with("crates/xtask/") {
            let clock = [
                "crates/local/src/reconcile.rs",
                "crates/local/src/clock.rs",
                "crates/local/src/check.rs",
                "crates/local/src/status_command.rs",
                "crates/controller/src/reconcile.rs",
                "crates/controller/src/lease.rs",
                "crates/controller/src/scrape.rs",
                "crates/controller/src/events.rs",
            ];
            if !clock.contains(&source.path.as_str()) {
                let asks = ["Timestamp::now", "Zoned::now", "SystemTime::now"];
                problems.extend(breaches(
                    source,
                    &asks,
                    "is for where a shell's command begins; take the time as a value",
                ));
            }
        }
    }
    problems
}

fn breaches(source: &Source, forbidden: &[&str], why: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, code) in source.code() {
        let code = without_texts(code);
        for what in forbidden.iter().filter(|what| code.contains(**what)) {
            problems.push(Problem::new(
                at(source, line),
                format!("{} {why}", what.trim_end_matches('(')),
            ));
        }
    }
    problems
}

/// A line without what stands in quotes.
fn without_texts(code: &str) -> String {
    code.split('"').step_by(2).collect::<Vec<_>>().join("\"")
}

/// Paths of somebody's machine.
fn machine_paths(source: &Source) -> Vec<Problem> {
    let mine =
        [["/wo", "rk/"].concat(), ["/ro", "ot/."].concat(), ["/var/tmp/", "volsync"].concat()];
    let mut problems = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for path in &mine {
            let names = line.match_indices(path.as_str()).any(|(start, _)| {
                !line[..start]
                    .chars()
                    .next_back()
                    .is_some_and(|c| c.is_alphanumeric() || "./_-}{*".contains(c))
            });
            // The home of root in a container image is a fact of the contract.
            if names && !line.contains("known_hosts") {
                problems.push(Problem::new(
                    at(source, number + 1),
                    format!("{path} is a path of one machine"),
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path.to_owned(), text.to_owned()))
            .into_iter()
            .map(|problem| problem.what)
            .collect()
    }

    const HEADER: &str = "//! What it is.\n";

    #[test]
    fn a_foreign_crate_has_one_home() {
        let text = format!("{HEADER}use russh::client;\n");
        assert!(whats("movers/rsync/src/ssh/client.rs", &text).is_empty());
        assert!(whats("movers/rsync/src/ssh.rs", &text).is_empty());
        assert_eq!(whats("movers/rsync/src/source.rs", &text).len(), 1);
        let clap = format!("{HEADER}use clap::Parser;\n");
        assert!(whats("crates/local/src/args.rs", &clap).is_empty());
        assert_eq!(whats("crates/local/src/main.rs", &clap).len(), 1);
    }

    #[test]
    fn a_word_that_only_contains_a_crates_name_is_no_import() {
        let text = format!(
            "{HEADER}fn f() {{ self.notify.notify_one(); notify(); \"russh::x\"; }}\n// russh::client\n"
        );
        assert!(whats("crates/local/src/clock.rs", &text).is_empty());
    }

    #[test]
    fn the_decision_asks_neither_clock_nor_disk() {
        for code in ["let now = Timestamp::now();", "use std::fs;", "std::env::var(\"TZ\");"] {
            assert!(
                !whats("crates/replication/src/machine.rs", &format!("{HEADER}{code}\n"))
                    .is_empty(),
                "{code}"
            );
        }
        let tests = format!("{HEADER}#[cfg(test)]\nmod tests {{\n    use std::fs;\n}}\n");
        assert!(whats("crates/replication/src/machine.rs", &tests).is_empty());
    }

    #[test]
    fn the_environment_is_read_in_two_places() {
        let text = format!("{HEADER}fn f() {{ std::env::var_os(\"X\"); }}\n");
        assert!(whats("crates/local/src/args.rs", &text).is_empty());
        assert!(whats("crates/mover/src/harness.rs", &text).is_empty());
        assert_eq!(whats("crates/local/src/claims.rs", &text).len(), 1);
        assert_eq!(whats("movers/rsync/src/config.rs", &text).len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for name in EMPTY_NAMES {
            assert_eq!(whats(&format!("crates/local/src/{name}.rs"), HEADER).len(), 1, "{name}");
            assert_eq!(whats(&format!("movers/rsync/src/{name}/a.rs"), HEADER).len(), 1, "{name}");
        }
    }

    #[test]
    fn long_files_headers_and_mod_rs_are_reported() {
        let long = format!("{HEADER}{}", "fn f() {}\n".repeat(MAX_LINES));
        assert_eq!(whats("crates/local/src/run.rs", &long).len(), 1);
        assert!(whats("crates/local/tests/cli.rs", &long).is_empty());
        assert_eq!(whats("crates/local/src/run.rs", "fn main() {}\n").len(), 1);
        assert_eq!(whats("crates/local/src/run/mod.rs", HEADER).len(), 1);
    }

    #[test]
    fn paths_of_somebodys_machine_are_reported() {
        let path = ["/wo", "rk/main"].concat();
        assert_eq!(whats("docs/a.md", &format!("see {path}\n")).len(), 1);
        assert!(whats("docs/a.md", &format!("see net{path} and a{path}\n")).is_empty());
    }
}
