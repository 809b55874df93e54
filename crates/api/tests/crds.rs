//! The generated definitions hold every published fact and equal the files in `deploy/crds`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};
use volsync_api::{crd_yaml, crds};

type Fields = BTreeMap<String, Map<String, Value>>;

/// Keys of a schema node that hold further nodes or prose instead of facts.
const NOT_FACTS: [&str; 3] = ["properties", "items", "description"];

fn published() -> Value {
    serde_json::from_str(include_str!("data/crd-fields.json")).expect("the facts are JSON")
}

fn generated() -> BTreeMap<String, Value> {
    crds()
        .into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            (kind, serde_json::to_value(crd).expect("plain data"))
        })
        .collect()
}

fn collect(schema: &Value, path: &str, fields: &mut Fields) {
    let node = schema.as_object().expect("a schema is an object");
    let mut facts: Map<String, Value> = node
        .iter()
        .filter(|(key, _)| !NOT_FACTS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), comparable(value)))
        .collect();
    if let Some(Value::Array(required)) = facts.get_mut("required") {
        required.sort_by_key(ToString::to_string);
    }
    if !path.is_empty() {
        fields.insert(path.to_owned(), facts);
    }
    for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(property, &below, fields);
    }
    if let Some(items) = node.get("items") {
        collect(items, &format!("{path}[]"), fields);
    }
}

/// `65535.0` and `65535` are the same bound; prose is no fact.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(values) => values.iter().map(comparable).collect(),
        Value::Object(node) => node
            .iter()
            .filter(|(key, _)| *key != "description")
            .map(|(key, value)| (key.clone(), comparable(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

fn fields_of(crd: &Value) -> Fields {
    let mut fields = Fields::new();
    collect(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut fields);
    fields
}

fn sorted(facts: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    facts.iter().collect()
}

#[test]
fn every_published_field_has_the_same_facts() {
    let generated = generated();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (kind, facts) in published().as_object().expect("kinds") {
        let ours = fields_of(&generated[kind]);
        for (path, wanted) in facts["fields"].as_object().expect("fields") {
            let Value::Object(mut wanted) = comparable(wanted) else {
                continue;
            };
            if let Some(Value::Array(required)) = wanted.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            compared += 1;
            match ours.get(path) {
                Some(found) if sorted(found) == sorted(&wanted) => {}
                Some(found) => wrong.push(format!(
                    "{kind} {path}:\n  ours      {}\n  published {}",
                    Value::Object(found.clone()),
                    Value::Object(wanted)
                )),
                None => wrong.push(format!("{kind} {path} is missing")),
            }
        }
    }
    assert!(compared > 1000, "only {compared} fields were compared");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_beyond_the_published_ones_are_optional() {
    let published = published();
    for (kind, crd) in generated() {
        let known = published[&kind]["fields"].as_object().expect("fields");
        let ours = fields_of(&crd);
        for path in ours.keys().filter(|path| !known.contains_key(*path)) {
            let Some((parent, name)) = path.rsplit_once('.') else {
                assert!(path.ends_with("[]"), "{kind} has a new section {path}");
                continue;
            };
            if !known.contains_key(parent) {
                continue;
            }
            let required = ours[parent].get("required").and_then(Value::as_array);
            assert!(
                !required.is_some_and(|names| names.iter().any(|one| one == name)),
                "{kind} {path} is ours and required"
            );
        }
    }
}

#[test]
fn names_scope_columns_and_subresources_are_the_published_ones() {
    let published = published();
    for (kind, crd) in generated() {
        let wanted = &published[&kind];
        let spec = &crd["spec"];
        assert_eq!(spec["group"], "volsync.backube");
        assert_eq!(spec["scope"], wanted["scope"]);
        assert_eq!(spec["names"]["kind"], wanted["names"]["kind"]);
        assert_eq!(spec["names"]["plural"], wanted["names"]["plural"]);
        assert_eq!(spec["names"]["singular"], wanted["names"]["singular"]);
        assert_eq!(spec["names"]["listKind"], wanted["names"]["listKind"]);
        for none in ["shortNames", "categories"] {
            let names = spec["names"][none].as_array();
            assert!(names.is_none_or(Vec::is_empty), "{kind} has {none}");
        }
        assert_eq!(spec["versions"].as_array().map(Vec::len), Some(1));
        let version = &spec["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["served"], true);
        assert_eq!(version["storage"], true);
        assert_eq!(version["additionalPrinterColumns"], wanted["printerColumns"]);
        assert_eq!(version["subresources"], wanted["subresources"]);
        let root = &version["schema"]["openAPIV3Schema"];
        assert_eq!(root["required"], Value::Null);
    }
}

#[test]
fn no_field_has_a_default_or_is_nullable() {
    for (kind, crd) in generated() {
        for (path, facts) in fields_of(&crd) {
            for never in ["default", "nullable", "allOf", "oneOf", "$ref"] {
                assert!(!facts.contains_key(never), "{kind} {path} has {never}");
            }
        }
    }
}

#[test]
fn the_files_in_deploy_and_in_the_chart_are_the_generated_definitions() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    for directory in ["deploy/crds", "charts/volsync/files/crds"] {
        let generated = crds();
        for ((name, content), crd) in crd_yaml().into_iter().zip(generated) {
            let file = std::fs::read_to_string(root.join(directory).join(name)).unwrap_or_default();
            assert!(file == content, "{directory}/{name} is out of date: run `cargo xtask crdgen`");
            let parsed: Value = serde_saphyr::from_str(&file).expect("the file is YAML");
            let plain = serde_json::to_value(crd).expect("plain data");
            assert_eq!(comparable(&parsed), comparable(&plain), "{name} says something else");
        }
    }
}
