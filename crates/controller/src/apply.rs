//! Reading, making and removing objects.

use std::fmt::Debug;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Asked, Error};

/// Who we are in the managed fields of what we write.
pub(crate) const FIELD_MANAGER: &str = "volsync-controller";

/// An object that lives in a namespace and is known at compile time.
pub(crate) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<T> Object for T where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// `Job photos/volsync-rsync-src-photos`.
pub(crate) fn named<T: Object>(object: &T) -> String {
    format!("{} {}/{}", T::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// The object of this name, if there is one.
pub(crate) async fn get<T: Object>(api: &Api<T>, name: &str) -> Result<Option<T>, Error> {
    match api.get(name).await {
        Ok(found) => Ok(Some(found)),
        // Of a kind that is not served there is nothing either, which is said otherwise.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error).asked(|| format!("read {} {name}", T::kind(&()))),
    }
}

/// All objects with these labels. None where the cluster does not know the kind.
pub(crate) async fn list<T: Object>(api: &Api<T>, labels: &str) -> Result<Vec<T>, Error> {
    match api.list(&ListParams::default().labels(labels)).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(source) => {
            Err(Error::Api { action: format!("list {}s labelled {labels}", T::kind(&())), source })
        }
    }
}

/// Makes a new object.
pub(crate) async fn create<T: Object>(api: &Api<T>, object: &T) -> Result<T, Error> {
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, object).await.asked(|| format!("create {}", named(object)))
}

/// Makes an object say what `desired` says, which is all that is ours of it. Nothing is written if
/// it says so already, or if somebody else's object has the name.
pub(crate) async fn apply<T: Object>(api: &Api<T>, desired: &T) -> Result<T, Error> {
    let existing = get(api, &desired.name_any()).await?;
    apply_onto(api, existing, desired).await
}

/// [`apply`], to what was read before.
///
/// What others wrote of it goes where it says otherwise, whoever they were: server-side apply would
/// keep a port or a rule that another release wrote beside ours.
pub(crate) async fn apply_onto<T: Object>(
    api: &Api<T>,
    existing: Option<T>,
    desired: &T,
) -> Result<T, Error> {
    let Some(existing) = existing else { return create(api, desired).await };
    let owner = desired.owner_references().iter().find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner.filter(|owner| !is_owned_by(&existing, &owner.uid)) {
        return Err(Error::Foreign { what: named(&existing), owner: owner.kind.clone() });
    }
    match lacking(&json(&existing)?, &json(desired)?) {
        Value::Object(nothing) if nothing.is_empty() => Ok(existing),
        patch => merge(api, &existing, patch).await,
    }
}

/// Changes what `patch` names, provided the object is still the version that was read.
pub(crate) async fn merge<T: Object>(
    api: &Api<T>,
    object: &T,
    mut patch: Value,
) -> Result<T, Error> {
    patch["metadata"]["resourceVersion"] = object.resource_version().into();
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    let patched = api.patch(&object.name_any(), &params, &Patch::Merge(patch)).await;
    if let Err(kube::Error::Api(status)) = &patched
        && status.code == 404
    {
        // It was there a moment ago.
        return Err(Error::Changed { what: named(object) });
    }
    patched.asked(|| format!("change {}", named(object)))
}

/// Removes exactly this object, and in the background what it owns. One that is gone is fine.
pub(crate) async fn delete<T: Object>(api: &Api<T>, object: &T) -> Result<(), Error> {
    let same = Preconditions { uid: object.uid(), resource_version: None };
    remove(api, object, same).await
}

/// Removes exactly this version of this object, so that nobody's change to it is overlooked.
pub(crate) async fn delete_unchanged<T: Object>(api: &Api<T>, object: &T) -> Result<(), Error> {
    let same = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
    remove(api, object, same).await
}

async fn remove<T: Object>(api: &Api<T>, object: &T, same: Preconditions) -> Result<(), Error> {
    let params = DeleteParams::background().preconditions(same);
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).asked(|| format!("delete {}", named(object))),
    }
}

pub(crate) fn json<T: Serialize>(object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Json { what: "an object", source })
}

/// Whether `existing` says everything that `desired` says. Lists have to be as long, as an entry too
/// many may be one that was taken out; only owners may be more than ours.
pub(crate) fn covers(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => {
            desired.iter().all(|(key, value)| says(existing.get(key), key, value))
        }
        (Value::Array(existing), Value::Array(desired)) => {
            existing.len() == desired.len()
                && existing.iter().zip(desired).all(|(found, value)| covers(found, value))
        }
        (existing, desired) => existing == desired,
    }
}

/// Whether the field `key`, if there is one, says what `desired` says.
fn says(existing: Option<&Value>, key: &str, desired: &Value) -> bool {
    match (existing, desired) {
        (None, Value::Array(list)) => list.is_empty(),
        (None, _) => false,
        (Some(Value::Array(found)), Value::Array(owners)) if key == OWNERS => {
            owners.iter().all(|owner| found.iter().any(|one| covers(one, owner)))
        }
        (Some(found), desired) => covers(found, desired),
    }
}

const OWNERS: &str = "ownerReferences";

/// The merge patch (RFC 7386) after which `existing` covers `desired`; it replaces lists, but for
/// owners, which are added.
fn lacking(existing: &Value, desired: &Value) -> Value {
    let (Value::Object(existing), Value::Object(desired)) = (existing, desired) else {
        return desired.clone();
    };
    let mut patch = Map::new();
    for (key, value) in desired {
        let found = existing.get(key);
        if says(found, key, value) {
            continue;
        }
        let change = match (found, value) {
            (Some(Value::Array(found)), Value::Array(ours)) if key == OWNERS => {
                let others =
                    found.iter().filter(|one| ours.iter().all(|our| our["uid"] != one["uid"]));
                others.chain(ours).cloned().collect()
            }
            (Some(found), value) => lacking(found, value),
            (None, value) => value.clone(),
        };
        patch.insert(key.clone(), change);
    }
    Value::Object(patch)
}

/// Whether the object is being removed.
pub(crate) fn is_terminating<T: Resource>(object: &T) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether the object belongs to the one with this UID.
pub(crate) fn is_owned_by<T: Resource>(object: &T, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_added_does_not_count() {
        let existing = json!({"a": {"b": 1, "c": 2}, "list": [{"x": 1, "y": 2}]});
        assert!(covers(&existing, &json!({"a": {"b": 1}, "list": [{"x": 1}]})));
        assert!(!covers(&existing, &json!({"a": {"b": 2}})));
        assert!(!covers(&existing, &json!({"d": 1})));
        assert!(!covers(&existing, &json!({"list": []})));
    }

    #[test]
    fn a_role_that_may_nothing_any_more_loses_its_rule() {
        let privileged = json!({"rules": [{"verbs": ["use"]}], "metadata": {"name": "a"}});
        let wanted = json!({"rules": [], "metadata": {"name": "a"}});
        assert_eq!(lacking(&privileged, &wanted), json!({"rules": []}));
        // The API server leaves an empty list out.
        assert_eq!(lacking(&json!({"metadata": {"name": "a"}}), &wanted), json!({}));
    }

    #[test]
    fn a_port_that_another_release_wrote_is_replaced_and_its_annotations_stay() {
        let existing = json!({
            "metadata": {"annotations": {"left": "by another"}, "labels": {"by": "volsync"}},
            "spec": {"type": "NodePort", "ports": [{"name": "ssh", "port": 22, "nodePort": 30022}]},
        });
        let wanted = |port| {
            json!({
                "metadata": {"labels": {"by": "volsync"}},
                "spec": {"type": "NodePort", "ports": [{"name": "ssh", "port": port}]},
            })
        };
        assert_eq!(lacking(&existing, &wanted(22)), json!({}));
        assert_eq!(
            lacking(&existing, &wanted(2222)),
            json!({"spec": {"ports": [{"name": "ssh", "port": 2222}]}})
        );
    }

    #[test]
    fn owners_are_added_and_none_is_taken_away() {
        let owned = |owners| json!({"metadata": {"ownerReferences": owners}});
        let both = owned(json!([{"uid": "1", "name": "a"}, {"uid": "2"}]));
        assert_eq!(
            lacking(&owned(json!([{"uid": "1", "name": "a"}])), &owned(json!([{"uid": "2"}]))),
            both
        );
        assert_eq!(lacking(&both, &owned(json!([{"uid": "2"}]))), json!({}));
    }
}
