//! The ServiceAccount of a mover, and what OpenShift needs with it.

use k8s_openapi::api::core::v1::{LocalObjectReference, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use volsync_replication::names;

use crate::build::secret::PULL_SECRET_PREFIX;
use crate::kind::Owner;

/// ServiceAccount, Role and RoleBinding of a mover, all of one name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Account {
    pub(crate) account: ServiceAccount,
    pub(crate) role: Role,
    pub(crate) binding: RoleBinding,
}

/// The account of a mover. One that is privileged may use the named SecurityContextConstraints, which
/// only matters where there are any; others may do nothing at all.
pub(crate) fn account(owner: &Owner, privileged: bool, scc_name: &str) -> Account {
    let name = names::service_account(owner.direction, &owner.name);
    let rule = PolicyRule {
        api_groups: Some(vec!["security.openshift.io".to_owned()]),
        resources: Some(vec!["securitycontextconstraints".to_owned()]),
        resource_names: Some(vec![scc_name.to_owned()]),
        verbs: vec!["use".to_owned()],
        non_resource_urls: None,
    };
    Account {
        account: ServiceAccount {
            metadata: owner.metadata(&name, false),
            ..ServiceAccount::default()
        },
        role: Role {
            metadata: owner.metadata(&name, false),
            rules: Some(if privileged { vec![rule] } else { Vec::new() }),
        },
        binding: RoleBinding {
            metadata: owner.metadata(&name, false),
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".to_owned()),
                kind: "Role".to_owned(),
                name: name.clone(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name,
                namespace: Some(owner.namespace.clone()),
                api_group: None,
            }]),
        },
    }
}

/// What images are pulled with: what others gave the account, and our copies that are there. Entries of
/// copies that are not wanted any more go.
pub(crate) fn pull_secrets(
    existing: Option<&ServiceAccount>,
    copies: &[String],
) -> Vec<LocalObjectReference> {
    let found = existing.and_then(|account| account.image_pull_secrets.clone());
    let mut entries = found.unwrap_or_default();
    entries.retain(|entry| {
        !entry.name.starts_with(PULL_SECRET_PREFIX) || copies.contains(&entry.name)
    });
    for name in copies {
        if entries.iter().all(|entry| entry.name != *name) {
            entries.push(LocalObjectReference { name: name.clone() });
        }
    }
    entries
}
