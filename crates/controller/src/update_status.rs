//! Recording the status: only what changed, and only onto the version that was read.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use volsync_api::v1alpha1::RsyncStatus;
use volsync_replication::Status;

use crate::apply::{FIELD_MANAGER, named};
use crate::context::Context;
use crate::error::{Asked, Error};
use crate::kind::Kind;

/// Records a status. Nothing is written if nothing changed. Returns the object as it is now.
pub(crate) async fn update_status<K: Kind>(
    ctx: &Context,
    object: &K,
    status: &Status,
    published: &RsyncStatus,
) -> Result<K, Error> {
    let changes = difference(&object.unwritten()?, &object.written(status, published)?);
    if changes.as_object().is_some_and(Map::is_empty) {
        return Ok(object.clone());
    }
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version()},
        "status": changes,
    });
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    let api = ctx.api::<K>(&object.namespace().unwrap_or_default());
    let patched = api.patch_status(&object.name_any(), &params, &Patch::Merge(patch)).await;
    patched.asked(|| format!("record the status of {}", named(object)))
}

/// The merge patch (RFC 7386) that makes `new` of `old`.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(was) if was == value => {}
            Some(was) => {
                patch.insert(key.clone(), difference(was, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_has_what_changed_and_nulls_for_what_went() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        let new = json!({"a": 1, "b": {"c": 4}, "e": [1, 2]});
        assert_eq!(difference(&old, &new), json!({"b": {"c": 4, "d": null}, "e": [1, 2]}));
        assert_eq!(difference(&old, &old), json!({}));
    }
}
