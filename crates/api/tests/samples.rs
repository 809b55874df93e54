//! Every sample manifest of the published documentation survives a round trip unchanged.
//!
//! Each file holds one document. Indentation that the printed documentation has lost is restored,
//! comments are dropped, and what it elides (`# ... omitted ...`) is an empty object. Not taken:
//! - an `ownerReferences` entry, which names a kind but is no manifest;
//! - the two sketches of the restic proposal: the first has the API group `volsync` that was never
//!   published, and both consist of keys without values;
//! - `deviceName` of a Syncthing peer, a slip of the documentation: the field is `name`.

#![allow(
    clippy::panic,
    reason = "a test that cannot read its samples names the one it cannot read"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use volsync_api::{ReplicationDestination, ReplicationSource, crds};

fn samples() -> BTreeMap<String, Value> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
    std::fs::read_dir(directory)
        .expect("the samples exist")
        .map(|entry| {
            let path = entry.expect("readable").path();
            let text = std::fs::read_to_string(&path).expect("readable");
            let value = serde_saphyr::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.display().to_string(), value)
        })
        .collect()
}

fn through<T: Serialize + DeserializeOwned>(name: &str, value: &Value) -> Value {
    let typed: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::to_value(typed).expect("plain data")
}

fn round_trip(name: &str, value: &Value) -> Value {
    match value["kind"].as_str() {
        Some("ReplicationSource") => through::<ReplicationSource>(name, value),
        Some("ReplicationDestination") => through::<ReplicationDestination>(name, value),
        other => panic!("{name} has the kind {other:?}"),
    }
}

/// The paths of a manifest that the schema does not know.
fn unknown(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(node) => {
            for (key, inner) in node {
                let below = format!("{path}.{key}");
                let known = &schema["properties"][key];
                if known.is_object() {
                    unknown(inner, known, &below, found);
                } else if schema["additionalProperties"].is_null() && path != ".metadata" {
                    found.push(below);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                unknown(item, &schema["items"], &format!("{path}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_published_sample_survives_a_round_trip_unchanged() {
    let samples = samples();
    assert_eq!(samples.len(), 31, "a sample is missing");
    for (name, before) in samples {
        assert_eq!(round_trip(&name, &before), before, "{name}");
    }
}

#[test]
fn every_field_of_a_published_sample_is_in_the_schema() {
    let schemas: BTreeMap<String, Value> = crds()
        .into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            let crd = serde_json::to_value(crd).expect("plain data");
            (kind, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
        })
        .collect();
    for (name, sample) in samples() {
        let kind = sample["kind"].as_str().expect("a kind");
        let mut found = Vec::new();
        unknown(&sample, &schemas[kind], "", &mut found);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

/// A value for every property of a schema.
fn filled(schema: &Value, name: &str) -> Value {
    if schema["x-kubernetes-int-or-string"] == true {
        return json!("1Gi");
    }
    match schema["type"].as_str() {
        Some("object") => {
            if let Some(properties) = schema["properties"].as_object() {
                let filled =
                    properties.iter().map(|(key, inner)| (key.clone(), filled(inner, key)));
                Value::Object(filled.collect())
            } else if schema["additionalProperties"].is_object() {
                json!({"key": filled(&schema["additionalProperties"], "")})
            } else {
                json!({"name": "all"})
            }
        }
        Some("array") => json!([filled(&schema["items"], "")]),
        Some("integer") => json!(7),
        Some("boolean") => json!(true),
        Some("string") if schema["format"] == "date-time" => json!("2026-01-02T03:04:05Z"),
        Some("string") if schema["enum"].is_array() => schema["enum"][0].clone(),
        Some("string") if name == "result" => json!("Successful"),
        Some("string") => json!("text"),
        other => panic!("{name} has the type {other:?}"),
    }
}

#[test]
fn a_manifest_with_every_field_of_the_schema_survives_a_round_trip_unchanged() {
    for crd in crds() {
        let kind = crd.spec.names.kind.clone();
        let crd = serde_json::to_value(crd).expect("plain data");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut before = filled(schema, "");
        before["apiVersion"] = json!("volsync.backube/v1alpha1");
        before["kind"] = json!(kind);
        assert_eq!(round_trip(&kind, &before), before, "{kind}");
    }
}

#[test]
fn a_capacity_may_be_a_plain_number() {
    let manifest = json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationSource",
        "metadata": {"name": "photos"},
        "spec": {"rsync": {"capacity": 1_073_741_824, "moverResources": {"limits": {"cpu": 1}}}},
    });
    let source: ReplicationSource = serde_json::from_value(manifest).expect("valid");
    let rsync = source.spec.rsync.expect("given");
    assert_eq!(rsync.volume.capacity.expect("given").0, "1073741824");
    let limits = rsync.mover.mover_resources.and_then(|resources| resources.limits);
    assert_eq!(limits.expect("given")["cpu"].0, "1");
}

#[test]
fn an_empty_api_group_of_an_image_is_kept() {
    let image = json!({"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "data"});
    let before = json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationDestination",
        "metadata": {"name": "photos"},
        "spec": {"rsync": {"serviceAnnotations": {}}},
        "status": {"latestImage": image, "latestMoverStatus": {}},
    });
    assert_eq!(round_trip("image", &before), before);
}

#[test]
fn a_time_to_restore_keeps_its_zone() {
    let before = json!({
        "apiVersion": "volsync.backube/v1alpha1",
        "kind": "ReplicationDestination",
        "metadata": {"name": "photos"},
        "spec": {"restic": {"restoreAsOf": "2022-08-10T20:01:03-04:00", "previous": 2}},
    });
    assert_eq!(round_trip("restore", &before), before);
}
