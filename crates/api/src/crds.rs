//! The definitions of both kinds as a cluster wants them, made from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::v1alpha1::{ReplicationDestination, ReplicationSource};

/// The names of the files that hold the definitions, in the order of [`crds`].
pub const CRD_FILES: [&str; 2] =
    ["volsync.backube_replicationsources.yaml", "volsync.backube_replicationdestinations.yaml"];

const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
const SCHEDULE: &str = r"^(@(annually|yearly|monthly|weekly|daily|hourly))|((((\d+,)*\d+|(\d+(\/|-)\d+)|\*(\/\d+)?)\s?){5})$";
const CONDITION_TYPE: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
const CONDITION_REASON: &str = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

/// The definitions of `ReplicationSource` and `ReplicationDestination`.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [ReplicationSource::crd(), ReplicationDestination::crd()].into_iter().map(finished).collect()
}

/// The same as files: name and content.
pub fn crd_yaml() -> [(&'static str, String); 2] {
    let [source, destination] =
        [ReplicationSource::crd(), ReplicationDestination::crd()].map(|crd| as_yaml(finished(crd)));
    let [source_file, destination_file] = CRD_FILES;
    [(source_file, source), (destination_file, destination)]
}

fn as_yaml(crd: CustomResourceDefinition) -> String {
    #[allow(
        clippy::expect_used,
        reason = "a definition is plain data with string keys, which YAML can always hold"
    )]
    let yaml = serde_saphyr::to_string(&crd).expect("a definition serialises");
    format!("---\n# Generated from crates/api by `cargo xtask crdgen`; do not edit.\n{yaml}")
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
    for version in &mut crd.spec.versions {
        let Some(schema) =
            version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        // Both directions are between a plain data structure and its own JSON form.
        let Ok(Value::Object(mut root)) = serde_json::to_value(&*schema) else {
            continue;
        };
        root.remove("required");
        object_meta(&mut root);
        finish(&mut root, &mut Vec::new());
        if let Ok(complete) = serde_json::from_value(Value::Object(root)) {
            *schema = complete;
        }
    }
    crd
}

/// The three properties every resource has.
fn object_meta(root: &mut Map<String, Value>) {
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        properties.insert("apiVersion".into(), json!({"type": "string"}));
        properties.insert("kind".into(), json!({"type": "string"}));
        properties.insert("metadata".into(), json!({"type": "object"}));
    }
}

/// Whether the path leads into a type that Kubernetes defines, not we.
fn is_embedded(path: &[String]) -> bool {
    path.iter().any(|name| {
        matches!(
            name.as_str(),
            "moverAffinity" | "moverSecurityContext" | "moverResources" | "volumeSource"
        )
    })
}

/// Completes a schema and everything below it with what the Rust types cannot say.
fn finish(schema: &mut Map<String, Value>, path: &mut Vec<String>) {
    schema.remove("nullable");
    schema.remove("default");
    if path.len() > 3 && is_embedded(&path[..path.len() - 1]) {
        schema.remove("description");
    }
    validate(schema, path);
    kubernetes(schema, path);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, property) in properties.iter_mut() {
            if let Value::Object(property) = property {
                path.push(name.clone());
                finish(property, path);
                path.pop();
            }
        }
    }
    for (key, name) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(Value::Object(inner)) = schema.get_mut(key) {
            path.push(name.to_owned());
            finish(inner, path);
            path.pop();
        }
    }
}

/// Patterns, bounds, formats and enums.
fn validate(schema: &mut Map<String, Value>, path: &[String]) {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let facts = match names.as_slice() {
        ["spec", _, "capacity" | "cacheCapacity" | "configCapacity"]
        | [.., "moverResources", "limits" | "requests", "{}"] => {
            schema.remove("type");
            json!({
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": QUANTITY,
                "x-kubernetes-int-or-string": true,
            })
        }
        ["spec", _, "accessModes"] => json!({"minItems": 1}),
        ["spec", _, "port"] => json!({"minimum": 0.0, "maximum": 65535.0}),
        ["spec", _, "restoreAsOf"] => json!({"format": "date-time"}),
        ["spec", "trigger", "schedule"] => json!({"pattern": SCHEDULE}),
        // The API does not limit what an older or a newer mover may report.
        ["status", "latestMoverStatus", "result"] => {
            schema.remove("enum");
            return;
        }
        ["status", "conditions", "[]", field] => match *field {
            "status" => json!({"enum": ["True", "False", "Unknown"]}),
            "type" => json!({"pattern": CONDITION_TYPE, "maxLength": 316}),
            "reason" => json!({"pattern": CONDITION_REASON, "minLength": 1, "maxLength": 1024}),
            "message" => json!({"maxLength": 32768}),
            "observedGeneration" => json!({"minimum": 0.0}),
            _ => return,
        },
        _ => return,
    };
    add(schema, facts);
}

/// How servers merge lists and maps.
fn kubernetes(schema: &mut Map<String, Value>, path: &[String]) {
    let is_array = schema.get("type").is_some_and(|kind| kind == "array");
    let last = path.last().map(String::as_str);
    if is_array && path.iter().any(|name| name == "moverResources") {
        add(
            schema,
            json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
        );
    } else if is_array && is_embedded(path) {
        add(schema, json!({"x-kubernetes-list-type": "atomic"}));
    }
    let in_affinity = path.iter().any(|name| name == "moverAffinity");
    let is_selector = match last {
        Some("preference" | "labelSelector" | "namespaceSelector") => in_affinity,
        Some("requiredDuringSchedulingIgnoredDuringExecution") => in_affinity && !is_array,
        Some("[]") => path.iter().rev().nth(1).is_some_and(|name| name == "nodeSelectorTerms"),
        Some("latestImage") => true,
        Some(_) | None => false,
    };
    if is_selector {
        add(schema, json!({"x-kubernetes-map-type": "atomic"}));
    }
}

fn add(schema: &mut Map<String, Value>, facts: Value) {
    if let Value::Object(facts) = facts {
        schema.extend(facts);
    }
}
