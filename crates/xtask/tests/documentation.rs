//! What the documentation says is there, and is right.
#![allow(clippy::unwrap_used, reason = "what is missing ends the test")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use volsync_api::{ReplicationDestination, ReplicationSource};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn markdown(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with(".git") {
            markdown(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn the_manifests_of_the_readme_are_those_of_the_demo() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let demo = fs::read_to_string(root().join("docs/usage/mirror.yaml")).unwrap();
    assert_eq!(documents(yaml), documents(&demo));
}

#[test]
fn the_manifests_of_the_usage_pages_come_back_unchanged() {
    let mut files = Vec::new();
    usage(&root().join("docs/usage"), &mut files);
    let mut held = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let parts = match file.extension().unwrap().to_str() {
            Some("md") => blocks(&text),
            _ => vec![text.as_str()],
        };
        for manifest in parts.into_iter().flat_map(documents) {
            let again = match manifest["kind"].as_str() {
                Some("ReplicationSource") => {
                    let read: ReplicationSource = serde_json::from_value(manifest.clone()).unwrap();
                    serde_json::to_value(&read).unwrap()
                }
                Some("ReplicationDestination") => {
                    let read: ReplicationDestination =
                        serde_json::from_value(manifest.clone()).unwrap();
                    serde_json::to_value(&read).unwrap()
                }
                _ => continue,
            };
            assert_eq!(again, manifest, "{}", file.display());
            held += 1;
        }
    }
    assert!(held > 4, "only {held} manifests were found");
}

fn usage(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { usage(&path, found) } else { found.push(path) }
    }
}

/// What stands in a page as YAML.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let mut files = Vec::new();
    markdown(&root(), &mut files);
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split([')', '#']).next().unwrap();
            let outside =
                target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !outside && !file.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_architecture_fits_on_a_few_pages() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    assert!(text.lines().count() <= 300);
}
