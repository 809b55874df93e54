//! Reads files or directories of YAML: both kinds, Secrets, ConfigMaps, volumes and their claims.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde::de::DeserializeOwned;
use serde_json::Value;
use volsync_api::{ReplicationDestination, ReplicationSource};
use volsync_replication::Problem;

use crate::error::{Origin, Problems};
use crate::schema;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub(crate) origin: Origin,
    pub(crate) object: T,
    /// What the user wrote, defaults supplied, without a status.
    pub(crate) written: Value,
}

/// The keys of a Secret or a ConfigMap. `Debug` names them and shows no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SecretData(pub(crate) BTreeMap<String, Vec<u8>>);

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

type Objects<T> = BTreeMap<ObjectName, Found<T>>;

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) sources: Objects<ReplicationSource>,
    pub(crate) destinations: Objects<ReplicationDestination>,
    pub(crate) secrets: Objects<SecretData>,
    pub(crate) config_maps: Objects<SecretData>,
    pub(crate) claims: Objects<PersistentVolumeClaim>,
    pub(crate) volumes: BTreeMap<String, Found<PersistentVolume>>,
    /// Kinds that mean nothing here, each with one place where it was found.
    pub(crate) ignored: BTreeMap<String, Origin>,
}

/// Reads what the user named. Whatever can be read is returned beside the problems.
pub(crate) fn load(paths: &[PathBuf]) -> (Manifests, Problems) {
    let (mut manifests, mut problems) = (Manifests::default(), Problems::default());
    for path in paths {
        let at = |file: &Path| Origin { file: file.to_owned(), document: None };
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => {
                problems.add(
                    &at(path),
                    "",
                    format!("cannot be read: {}", crate::words::io_reason(&error)),
                );
                continue;
            }
        };
        if files.is_empty() {
            problems.add(&at(path), "", "has no files that end in .yaml, .yml or .json");
        }
        for file in files {
            match read(&file) {
                Ok(text) => manifests.add_file(&file, &text, &mut problems),
                Err(error) => {
                    problems.add(
                        &at(&file),
                        "",
                        format!("cannot be read: {}", crate::words::io_reason(&error)),
                    );
                }
            }
        }
    }
    (manifests, problems)
}

/// When the manifests last changed, as far as their directory entries tell; `None` for standard input.
pub(crate) fn fingerprint(
    paths: &[PathBuf],
) -> Vec<(PathBuf, Option<(std::time::SystemTime, u64)>)> {
    let files = paths.iter().flat_map(|path| files(path).unwrap_or_else(|_| vec![path.clone()]));
    files
        .map(|file| {
            let seen = std::fs::metadata(&file).ok();
            let seen = seen.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            (file, seen)
        })
        .collect()
}

fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.as_os_str() == "-" || !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let known =
            file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// The documents of a file. A line that starts with `---` separates them, wherever it stands.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let marker = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        match (marker, documents.last_mut()) {
            (Some(rest), _) => documents.push(format!("{rest}\n")),
            (None, Some(document)) => {
                document.push_str(line);
                document.push('\n');
            }
            (None, None) => {}
        }
    }
    let comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    documents.retain(|document| !document.lines().all(comment));
    documents
}

impl Manifests {
    fn add_file(&mut self, file: &Path, text: &str, problems: &mut Problems) {
        for (index, document) in documents(text).iter().enumerate() {
            let origin = Origin { file: file.to_owned(), document: Some(index + 1) };
            match serde_saphyr::from_str::<Value>(document) {
                Ok(value) => self.add(&origin, value, problems),
                Err(error) => {
                    let message = error.without_snippet().to_string();
                    problems.add(
                        &origin,
                        "",
                        format!("is not YAML: {}", message.lines().next().unwrap_or_default()),
                    );
                }
            }
        }
    }

    fn add(&mut self, origin: &Origin, value: Value, problems: &mut Problems) {
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else {
            problems.add(origin, "", "is no manifest: it needs apiVersion and kind");
            return;
        };
        if kind == "List" {
            let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            items.into_iter().for_each(|item| self.add(origin, item, problems));
            return;
        }
        let ours = kind == "ReplicationSource" || kind == "ReplicationDestination";
        if ours && version != volsync_api::API_VERSION {
            let message = format!("is {version:?}, expected {}", volsync_api::API_VERSION);
            problems.add(origin, "apiVersion", message);
            return;
        }
        if !ours && version.starts_with("volsync.backube/") {
            let kinds = ["ReplicationSource", "ReplicationDestination"];
            let hint = schema::did_you_mean(&kind, kinds.into_iter());
            problems.add(origin, "kind", format!("{kind} is no kind of {version}{hint}"));
            return;
        }
        let Some(name) = text("/metadata/name").filter(|name| !name.is_empty()) else {
            problems.add(origin, "metadata.name", "is required");
            return;
        };
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        if ![&namespace, &name].into_iter().all(|name| is_name(name)) {
            problems.add(origin, "metadata.name", format!("{namespace}/{name} is no name: expected lower-case letters, digits, `-` and `.`"));
            return;
        }
        let name = ObjectName { namespace, name };
        let mut adding = Adding { origin, kind: &kind, name, value, problems };
        match (version.as_str(), kind.as_str()) {
            (_, "ReplicationSource") => adding.ours(&mut self.sources),
            (_, "ReplicationDestination") => adding.ours(&mut self.destinations),
            ("v1", "Secret") => adding.secret(&mut self.secrets),
            ("v1", "ConfigMap") => adding.config_map(&mut self.config_maps),
            ("v1", "PersistentVolumeClaim") => adding.theirs(&mut self.claims),
            ("v1", "PersistentVolume") => {
                let mut one = Objects::new();
                adding.theirs(&mut one);
                self.volumes.extend(one.into_iter().map(|(name, found)| (name.name, found)));
            }
            _ => {
                self.ignored.entry(kind).or_insert_with(|| origin.clone());
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let known = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    name.len() <= 253 && name.bytes().all(known) && !name.starts_with(['-', '.'])
}

/// One object on its way in.
struct Adding<'a> {
    origin: &'a Origin,
    kind: &'a str,
    name: ObjectName,
    value: Value,
    problems: &'a mut Problems,
}

impl Adding<'_> {
    fn insert<T>(&mut self, objects: &mut Objects<T>, object: T) {
        let found = Found { origin: self.origin.clone(), object, written: self.value.take() };
        if let Some(before) = objects.insert(self.name.clone(), found) {
            let document = before.origin.document.unwrap_or_default();
            let place = format!("{}, document {document}", before.origin.file.display());
            let message = format!("{} {} is there already, in {place}", self.kind, self.name);
            self.problems.add(self.origin, "metadata.name", message);
        }
    }

    fn ours<T: DeserializeOwned>(&mut self, objects: &mut Objects<T>) {
        // A status is not the user's to set; an API server drops it too.
        if let Some(object) = self.value.as_object_mut() {
            object.shift_remove("status");
            // Both kinds have no required field; what is missing is for validation to say.
            object.entry("spec").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        if let Some(schema) = schema::schema_of(self.kind) {
            for Problem { path, message } in schema::apply(schema, &mut self.value) {
                self.problems.add(self.origin, path, message);
            }
        }
        self.theirs(objects);
    }

    fn theirs<T: DeserializeOwned>(&mut self, objects: &mut Objects<T>) {
        match serde_json::from_value(self.value.clone()) {
            Ok(object) => self.insert(objects, object),
            Err(error) => {
                self.problems.add(self.origin, "", format!("is no {}: {error}", self.kind))
            }
        }
    }

    fn config_map(&mut self, objects: &mut Objects<SecretData>) {
        let members = self.value.get("data").and_then(Value::as_object).cloned();
        let mut data = SecretData::default();
        for (key, value) in members.unwrap_or_default() {
            match value.as_str() {
                Some(text) => {
                    data.0.insert(key, text.as_bytes().to_vec());
                }
                None => self.problems.add(self.origin, format!("data.{key}"), "is not a text"),
            }
        }
        self.insert(objects, data);
    }

    fn secret(&mut self, objects: &mut Objects<SecretData>) {
        let mut data = SecretData::default();
        let members =
            |field| self.value.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        for (key, value) in members("data") {
            match serde_json::from_value::<ByteString>(value) {
                Ok(bytes) => {
                    data.0.insert(key, bytes.0);
                }
                // The value itself is never shown.
                Err(_) => self.problems.add(self.origin, format!("data.{key}"), "is not base64"),
            }
        }
        for (key, value) in members("stringData") {
            match value.as_str() {
                Some(text) => {
                    data.0.insert(key, text.as_bytes().to_vec());
                }
                None => {
                    self.problems.add(self.origin, format!("stringData.{key}"), "is not a text")
                }
            }
        }
        self.value = Value::Null;
        self.insert(objects, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> (Manifests, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        let (manifests, problems) = load(&[directory.path().to_owned()]);
        let problems = problems.to_string().replace(&file.display().to_string(), "a.yaml");
        (manifests, problems)
    }

    #[test]
    fn an_indented_separator_is_text_and_comments_are_no_document() {
        let found = documents("# hello\n---\na: 1\n--- # next\nb: |\n  ---\n  x\n---\n");
        assert_eq!(found, ["\na: 1\n", " # next\nb: |\n  ---\n  x\n"]);
    }

    #[test]
    fn every_sample_in_deploy_is_valid_and_asks_for_something_possible() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
        let samples = files(&samples).unwrap();
        assert!(samples.len() > 10, "{samples:?}");
        let zone = jiff::tz::TimeZone::UTC;
        for sample in samples {
            let (manifests, problems) = load(std::slice::from_ref(&sample));
            assert_eq!(problems.to_string(), "");
            for found in manifests.sources.values() {
                let checked = volsync_replication::validate_source(&found.object, &zone);
                assert!(checked.is_ok(), "{}: {checked:?}", sample.display());
            }
            for found in manifests.destinations.values() {
                let checked = volsync_replication::validate_destination(&found.object, &zone);
                assert!(checked.is_ok(), "{}: {checked:?}", sample.display());
            }
        }
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        let (manifests, problems) = load_text(
            "a: [\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata: {a: aGk=, b: '*'}\nstringData: {c: text}\n---\nkind: Pod\n",
        );
        let keys = ObjectName { namespace: "default".into(), name: "keys".into() };
        assert_eq!(manifests.secrets[&keys].object.0["a"], b"hi");
        assert_eq!(manifests.secrets[&keys].object.0["c"], b"text");
        assert!(problems.contains("a.yaml: 3 problems\n  document 1: is not YAML: "), "{problems}");
        assert!(problems.contains("document 2, data.b: is not base64"), "{problems}");
        assert!(problems.contains("document 3: is no manifest"), "{problems}");
    }

    #[test]
    fn an_object_may_be_there_once() {
        let one =
            "apiVersion: volsync.backube/v1alpha1\nkind: ReplicationSource\nmetadata: {name: a}\n";
        let (_, problems) = load_text(&format!("{one}---\n{one}"));
        assert!(problems.contains("document 2, metadata.name: ReplicationSource default/a is there already, in a.yaml, document 1"), "{problems}");
    }

    #[test]
    fn a_wrong_version_or_kind_is_named() {
        let (_, problems) = load_text(
            "apiVersion: volsync.backube/v1\nkind: ReplicationSource\n---\napiVersion: volsync.backube/v1alpha1\nkind: ReplicationSrc\n",
        );
        assert!(problems.contains("document 1, apiVersion: is \"volsync.backube/v1\", expected volsync.backube/v1alpha1"), "{problems}");
        assert!(problems.contains("document 2, kind: ReplicationSrc is no kind of volsync.backube/v1alpha1; did you mean ReplicationSource?"), "{problems}");
    }
}
