//! What an API server does with an object: defaults, then validation. Unknown fields are refused.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use volsync_replication::Problem;

/// The OpenAPI schema of a kind of ours.
pub(crate) fn schema_of(kind: &str) -> Option<&'static Value> {
    static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
        volsync_api::crds()
            .iter()
            .filter_map(|crd| {
                let crd = serde_json::to_value(crd).ok()?;
                let kind = crd.pointer("/spec/names/kind")?.as_str()?.to_owned();
                let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone();
                Some((kind, schema))
            })
            .collect()
    });
    SCHEMAS.iter().find(|(name, _)| name == kind).map(|(_, schema)| schema)
}

/// Supplies defaults and finds every problem. What has a problem is removed from `value`, so that
/// the rest can still be read and judged.
pub(crate) fn apply(schema: &Value, value: &mut Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    object(schema, value, "", &mut problems);
    problems
}

/// Checks one value; `false` means it has to go.
fn check(schema: &Value, value: &mut Value, path: &str, problems: &mut Vec<Problem>) -> bool {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return int_or_string(schema, value, path, problems);
    }
    let expected = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let fits = match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        problems.push(Problem::new(
            path,
            format!("is {}, expected {}", describe(value), article(expected)),
        ));
        return false;
    }
    match value {
        Value::Object(_) => object(schema, value, path, problems),
        Value::Array(items) => array(schema, items, path, problems),
        Value::String(text) => return string(schema, text, path, problems),
        Value::Number(number) => return number_in_range(schema, number, path, problems),
        Value::Bool(_) | Value::Null => {}
    }
    true
}

fn object(schema: &Value, value: &mut Value, path: &str, problems: &mut Vec<Problem>) {
    let Some(members) = value.as_object_mut() else { return };
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let properties = schema.get("properties").and_then(Value::as_object);
    drop_nulls(schema, properties, members);
    for (name, property) in properties.into_iter().flatten() {
        if let (None, Some(default)) = (members.get(name), property.get("default")) {
            members.insert(name.clone(), default.clone());
        }
    }
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !members.contains_key(name) {
            problems.push(Problem::new(at(name), "is required"));
        }
    }
    let additional = schema.get("additionalProperties");
    let open = properties.is_none() && additional.is_none()
        || schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let mut remove = Vec::new();
    for (name, member) in members.iter_mut() {
        let keep = if let Some(property) = properties.and_then(|known| known.get(name)) {
            check(property, member, &at(name), problems)
        } else if let Some(additional) = additional.filter(|schema| schema.is_object()) {
            check(additional, member, &at(name), problems)
        } else if open
            || path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
        {
            true
        } else {
            let known = properties.into_iter().flatten().map(|(known, _)| known.as_str());
            problems.push(Problem::new(
                at(name),
                format!("no such field{}", did_you_mean(name, known)),
            ));
            false
        };
        if !keep {
            remove.push(name.clone());
        }
    }
    for name in remove {
        members.shift_remove(&name);
    }
}

/// An API server prunes a null where the field may not be null, then supplies the default.
fn drop_nulls(
    schema: &Value,
    properties: Option<&Map<String, Value>>,
    members: &mut Map<String, Value>,
) {
    members.retain(|name, member| {
        let property = properties
            .and_then(|known| known.get(name))
            .or_else(|| schema.get("additionalProperties"));
        !member.is_null()
            || property.is_none()
            || property.and_then(|property| property.get("nullable")) == Some(&Value::Bool(true))
    });
}

fn array(schema: &Value, items: &mut Vec<Value>, path: &str, problems: &mut Vec<Problem>) {
    let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
    if (items.len() as u64) < least {
        problems.push(Problem::new(
            path,
            format!("has {} items, expected at least {least}", items.len()),
        ));
    }
    let Some(item_schema) = schema.get("items") else { return };
    let mut index = 0;
    items.retain_mut(|item| {
        let keep = check(item_schema, item, &format!("{path}[{index}]"), problems);
        index += 1;
        keep
    });
}

fn string(schema: &Value, text: &str, path: &str, problems: &mut Vec<Problem>) -> bool {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        if !allowed.contains(&text) {
            problems.push(Problem::new(
                path,
                format!("is {text:?}, expected one of {}", allowed.join(", ")),
            ));
            return false;
        }
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && regex_lite::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        problems.push(Problem::new(path, format!("{text:?} {}", shape(path))));
        return false;
    }
    if schema.get("format").and_then(Value::as_str) == Some("date-time")
        && (!text.contains('T') || text.parse::<jiff::Timestamp>().is_err())
    {
        problems
            .push(Problem::new(path, format!("{text:?} is no time such as 2026-01-31T12:00:00Z")));
        return false;
    }
    true
}

/// What a text should have looked like, in words; patterns are for machines.
fn shape(path: &str) -> &'static str {
    if path.ends_with(".schedule") {
        "is no schedule: expected five fields such as `0 3 * * *`, or one of @hourly, @daily, @weekly, @monthly, @yearly, @annually"
    } else if path.to_ascii_lowercase().ends_with("capacity") {
        "is no size such as 10Gi"
    } else {
        "does not have the form this field must have"
    }
}

fn number_in_range(
    schema: &Value,
    number: &serde_json::Number,
    path: &str,
    problems: &mut Vec<Problem>,
) -> bool {
    let Some(value) = number.as_f64() else { return true };
    let int32 = schema.get("format").and_then(Value::as_str) == Some("int32");
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| int32.then_some(f64::from(i32::MIN)));
    let most = bound("maximum").or_else(|| int32.then_some(f64::from(i32::MAX)));
    if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
        let text = |bound: Option<f64>| {
            bound.map_or_else(|| "any number".to_owned(), |bound| bound.to_string())
        };
        problems.push(Problem::new(
            path,
            format!("is {number}, expected {} to {}", text(least), text(most)),
        ));
        return false;
    }
    true
}

fn int_or_string(
    schema: &Value,
    value: &mut Value,
    path: &str,
    problems: &mut Vec<Problem>,
) -> bool {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            // Quantities are texts to everyone who reads them later.
            *value = Value::String(number.to_string());
            true
        }
        Value::String(text) => string(schema, text, path, problems),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            problems.push(Problem::new(
                path,
                format!("is {}, expected an integer or a string", describe(value)),
            ));
            false
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn article(expected: &str) -> &'static str {
    match expected {
        "object" => "a mapping",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "a text (put it in quotes)",
    }
}

/// `; did you mean X?` when one of `known` is close to `name`.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = name.to_lowercase();
    known
        .map(|known| (strsim::osa_distance(&lower, &known.to_lowercase()), known))
        .filter(|&(distance, known)| distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| format!("; did you mean {known}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(mut value: Value) -> Vec<String> {
        let schema = schema_of("ReplicationSource").unwrap();
        apply(schema, &mut value).iter().map(ToString::to_string).collect()
    }

    fn source(spec: &Value) -> Value {
        json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_path() {
        let found = problems(source(&json!({
            "sourcePVC": 7,
            "trigger": {"schedule": "every day"},
            "rsync": {"copyMethd": "Direct", "copyMethod": "Copy", "port": 70000, "accessModes": []},
        })));
        assert_eq!(
            found,
            [
                "spec.sourcePVC: is 7, expected a text (put it in quotes)",
                "spec.trigger.schedule: \"every day\" is no schedule: expected five fields such as `0 3 * * *`, or one of @hourly, @daily, @weekly, @monthly, @yearly, @annually",
                "spec.rsync.copyMethd: no such field; did you mean copyMethod?",
                "spec.rsync.copyMethod: is \"Copy\", expected one of Direct, None, Clone, Snapshot",
                "spec.rsync.port: is 70000, expected 0 to 65535",
                "spec.rsync.accessModes: has 0 items, expected at least 1",
            ]
        );
    }

    #[test]
    fn a_good_manifest_has_no_problem() {
        let spec = json!({
            "sourcePVC": "photos",
            "trigger": {"schedule": "*/5 * * * *"},
            "rsync": {"copyMethod": "Direct", "capacity": 5, "moverPodLabels": {"a": "b"}, "sshKeys": null},
        });
        assert_eq!(problems(source(&spec)), Vec::<String>::new());
    }

    #[test]
    fn a_field_far_from_any_other_gets_no_suggestion() {
        assert_eq!(problems(source(&json!({"zzzzzzz": 1}))), ["spec.zzzzzzz: no such field"]);
    }
}
