//! The scenario runner: one readable folder per promise, run against a whole `volsync`.
//!
//! A scenario is a directory with `00-given.yaml`, `10-when.yaml`, `20-then.yaml` and whatever
//! further `NN-verb.yaml` it needs, carried out in the order of their names. Each document is a
//! manifest of the product, which is applied, or one of three verbs; `test-e2e/README.md` describes
//! them for people, [`Step`] for machines.

mod cluster;
mod local;
mod volume;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::servers::{REST_USER, SecureServer};

pub use cluster::Cluster;
pub use local::Local;

/// One document of a scenario.
#[derive(Debug, Clone)]
pub enum Step {
    /// A manifest to apply; it replaces an earlier one of the same kind and name.
    Apply(Value),
    /// Makes or changes what is in a volume.
    Tree(Tree),
    /// Waits for something, or makes it happen.
    Wait(Wait),
    /// Checks something; it must hold at once.
    Expect(Expect),
    /// `kubectl` with these arguments. Only in a cluster.
    Kubectl(Vec<String>),
    /// Starts a server, which is there until the scenario ends.
    Serve(Serve),
}

/// What is served.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Serve {
    /// restic's REST protocol, with a certificate of an authority of its own.
    Restic,
}

/// What becomes of a volume; the first mention makes it. Names are of its claim.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tree {
    /// The claim.
    pub volume: String,
    /// At its first mention: it holds no more than so many bytes.
    pub size: Option<u64>,
    /// Files with their content; missing directories are made.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// The same for content that is no text.
    #[serde(default)]
    pub base64: BTreeMap<String, String>,
    /// A random tree.
    pub random: Option<Random>,
    /// Random changes.
    pub mutate: Option<Random>,
    /// Files of so many bytes that do not compress.
    #[serde(default)]
    pub noise: BTreeMap<String, usize>,
    /// Bytes that replace others, by file and offset.
    #[serde(default)]
    pub patch: BTreeMap<String, BTreeMap<u64, String>>,
    /// Files or directories that go.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Files that nobody may read.
    #[serde(default)]
    pub close: Vec<String>,
    /// Files that their owner may read again.
    #[serde(default)]
    pub open: Vec<String>,
}

/// Something random that is the same in every run.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Random {
    /// Where it starts.
    pub seed: u64,
    /// How many entries or changes.
    pub count: usize,
}

/// What to wait for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Wait {
    /// One sync of everything, now, whatever the triggers say, with this result.
    Sync(Outcome),
    /// The replications are left to their triggers until a status is as it should be.
    Until(Status),
    /// The replications are left to their triggers for so many seconds.
    Seconds(f64),
    /// The replications are left to their triggers until a volume holds this.
    Files(Files),
    /// So many objects of each kind are left, as `VolumeSnapshot: 1`. Only in a cluster.
    Count(BTreeMap<String, usize>),
    /// Some object has these fields. Only in a cluster.
    Object(Object),
}

/// What some object must say.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// The kind of the object.
    pub kind: String,
    /// Fields with their values; others may be there too.
    pub has: Value,
}

/// How a sync of everything ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// All replications succeeded.
    Succeeds,
    /// Not all did.
    Fails,
}

/// What a status must say.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Status {
    /// Whose, as `ReplicationSource/photos`.
    pub of: String,
    /// Fields with their values; others may be there too.
    #[serde(default)]
    pub has: serde_json::Map<String, Value>,
    /// Fields that are there, whatever their value.
    #[serde(default)]
    pub set: Vec<String>,
    /// Fields that are not there.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// How many seconds `wait` waits at most.
    #[serde(default = "two_minutes")]
    pub timeout: u64,
}

const fn two_minutes() -> u64 {
    120
}

/// What must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Expect {
    /// A real rsync finds nothing to do between two volumes.
    Same([String; 2]),
    /// The same but for the volumes' own attributes, which no backup holds.
    SameBelow([String; 2]),
    /// A volume is the same as one of several, wholly.
    SameAsOne {
        /// Its claim.
        volume: String,
        /// The claims of the others.
        of: Vec<String>,
    },
    /// Nothing in a volume was written to by the last `wait`.
    Untouched(String),
    /// Files of a volume.
    Files(Files),
    /// A status.
    Status(Status),
    /// The product's last output has all these words.
    Said(Vec<String>),
}

/// What a volume must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Files {
    /// The claim.
    pub volume: String,
    /// Files and their content.
    #[serde(default)]
    pub present: BTreeMap<String, String>,
    /// Names that nothing has.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// Carries steps out against one form of the product.
pub trait Driver {
    /// Applies a manifest.
    fn apply(&mut self, manifest: &Value) -> Result<()>;
    /// Makes or changes a volume.
    fn tree(&mut self, tree: &Tree) -> Result<()>;
    /// Waits.
    fn wait(&mut self, wait: &Wait) -> Result<()>;
    /// Checks.
    fn expect(&mut self, expect: &Expect) -> Result<()>;
    /// Runs `kubectl`.
    fn kubectl(&mut self, arguments: &[String]) -> Result<()>;
    /// Where movers find a server of this machine.
    fn address(&self) -> Result<IpAddr>;
}

/// A scenario as read.
#[derive(Debug)]
pub struct Scenario {
    /// The name of its folder.
    pub name: String,
    steps: Vec<(String, Step)>,
}

impl Scenario {
    /// Reads a folder.
    pub fn read(dir: &Path) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .with_context(|| format!("scenario {name}"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        let mut steps = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file)?;
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (index, document) in documents(&text).into_iter().enumerate() {
                let place = format!("{name}/{file}, document {}", index + 1);
                let step = step(&document).with_context(|| place.clone())?;
                steps.push((place, step));
            }
        }
        ensure!(!steps.is_empty(), "scenario {name} has no steps");
        Ok(Self { name, steps })
    }

    /// Carries it out.
    pub fn run(&self, driver: &mut dyn Driver) -> Result<()> {
        let mut served = None;
        for (place, step) in &self.steps {
            match step {
                Step::Apply(manifest) => driver.apply(&filled(manifest, served.as_ref())),
                Step::Serve(Serve::Restic) => driver.address().map(|address| {
                    served = Some(SecureServer::rest(address));
                }),
                Step::Tree(tree) => driver.tree(tree),
                Step::Wait(wait) => driver.wait(wait),
                Step::Expect(expect) => driver.expect(expect),
                Step::Kubectl(arguments) => driver.kubectl(arguments),
            }
            .with_context(|| place.clone())?;
        }
        Ok(())
    }
}

/// The documents of a file, without those that are only comments.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    documents.retain(|document| !document.lines().all(comment));
    documents
}

fn step(document: &str) -> Result<Step> {
    let value: Value = serde_saphyr::from_str(document)?;
    if value.get("apiVersion").is_some() {
        return Ok(Step::Apply(value));
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    enum Verb {
        Tree(Tree),
        Wait(Wait),
        Expect(Expect),
        Kubectl(Vec<String>),
        Serve(Serve),
    }
    Ok(
        match serde_json::from_value(value)
            .context("neither a manifest nor tree, wait, expect, kubectl or serve")?
        {
            Verb::Tree(tree) => Step::Tree(tree),
            Verb::Wait(wait) => Step::Wait(wait),
            Verb::Expect(expect) => Step::Expect(expect),
            Verb::Kubectl(arguments) => Step::Kubectl(arguments),
            Verb::Serve(what) => Step::Serve(what),
        },
    )
}

/// A manifest that knows where the server is, by whose word it can be trusted and who may use it.
fn filled(manifest: &Value, served: Option<&SecureServer>) -> Value {
    let Some(served) = served else { return manifest.clone() };
    match manifest {
        Value::String(text) => Value::String(
            text.replace("${server}", &served.address().to_string())
                .replace("${authority}", served.authority())
                .replace("${user}", REST_USER.0)
                .replace("${password}", REST_USER.1),
        ),
        Value::Array(items) => items.iter().map(|item| filled(item, Some(served))).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.map(|(name, value)| (name.clone(), filled(value, Some(served)))).collect()
        }
        other => other.clone(),
    }
}

/// What in `status` is not as `wanted`; empty when all is.
fn unmet(status: &Value, wanted: &Status) -> Vec<String> {
    let mut unmet = Vec::new();
    for (field, value) in &wanted.has {
        let is = status.get(field).unwrap_or(&Value::Null);
        if !contains(is, value) {
            unmet.push(format!("{field} is {is}, not {value}"));
        }
    }
    unmet.extend(
        wanted
            .set
            .iter()
            .filter(|field| status.get(field).is_none())
            .map(|field| format!("{field} is not set")),
    );
    unmet.extend(
        wanted
            .lacks
            .iter()
            .filter_map(|field| status.get(field).map(|is| format!("{field} is {is}"))),
    );
    unmet
}

/// All these words are in a text, in whatever case.
fn said(text: &str, words: &[String]) -> Result<()> {
    let lower = text.to_lowercase();
    for word in words {
        ensure!(lower.contains(&word.to_lowercase()), "{word:?} was not said:\n{text}");
    }
    Ok(())
}

/// Whether `is` has everything that `wanted` has. Every item of a wanted list must be somewhere.
fn contains(is: &Value, wanted: &Value) -> bool {
    match (is, wanted) {
        (Value::Object(is), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| is.get(field).is_some_and(|is| contains(is, value)))
        }
        (Value::Array(is), Value::Array(wanted)) => {
            wanted.iter().all(|value| is.iter().any(|is| contains(is, value)))
        }
        _ => is == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_a_manifest_or_a_verb_and_a_typing_error_is_named() {
        assert!(matches!(step("apiVersion: v1\nkind: Secret\n").unwrap(), Step::Apply(_)));
        assert!(matches!(step("tree: {volume: photos, files: {a: b}}").unwrap(), Step::Tree(_)));
        assert!(matches!(
            step("wait: {sync: succeeds}").unwrap(),
            Step::Wait(Wait::Sync(Outcome::Succeeds))
        ));
        assert!(matches!(step("expect: {same: [a, b]}").unwrap(), Step::Expect(Expect::Same(_))));
        let error = format!("{:#}", step("tree: {volume: a, flies: {}}").unwrap_err());
        assert!(error.contains("flies"), "{error}");
        assert_eq!(documents("# only words\n---\na: 1\n---\n---\nb: 2\n").len(), 2);
    }

    #[test]
    fn every_scenario_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-e2e/scenarios");
        for entry in fs::read_dir(folder).unwrap() {
            if let Err(error) = Scenario::read(&entry.unwrap().path()) {
                panic!("{error:#}");
            }
        }
    }

    #[test]
    fn a_status_is_compared_field_by_field() {
        let status = json!({"lastManualSync": "one", "conditions": [{"type": "Synchronizing", "status": "False"}]});
        let wanted = |has: Value, set: &[&str], lacks: &[&str]| Status {
            of: String::new(),
            has: has.as_object().cloned().unwrap_or_default(),
            set: set.iter().map(|field| (*field).to_owned()).collect(),
            lacks: lacks.iter().map(|field| (*field).to_owned()).collect(),
            timeout: 1,
        };
        let met = wanted(
            json!({"conditions": [{"status": "False"}]}),
            &["lastManualSync"],
            &["lastSyncTime"],
        );
        assert!(unmet(&status, &met).is_empty());
        let not = wanted(json!({"lastManualSync": "two"}), &["lastSyncTime"], &["conditions"]);
        assert_eq!(unmet(&status, &not).len(), 3);
    }
}
