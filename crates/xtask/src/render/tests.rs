//! The Helm chart as users render it, and what is rendered from it.

use std::process::Output;

use serde_json::{Value, json};

use super::*;

fn chart() -> PathBuf {
    repository::root().join("charts/volsync")
}

/// Runs `helm template` with these values, each given as JSON.
fn template_with(values: &[(&str, Value)], arguments: &[&str]) -> Output {
    let mut command = template(&repository::root()).unwrap();
    for (key, value) in values {
        command.args(["--set-json", &format!("{key}={value}")]);
    }
    command.args(arguments).output().unwrap()
}

/// What `helm template` makes of these values.
struct Rendered(Vec<Value>);

impl Rendered {
    fn new(values: &[(&str, Value)]) -> Self {
        Self::with(values, &[])
    }

    fn with(values: &[(&str, Value)], arguments: &[&str]) -> Self {
        let output = template_with(values, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::read(&String::from_utf8(output.stdout).unwrap())
    }

    fn read(text: &str) -> Self {
        let documents = text.split("---\n").filter(|document| document.contains("kind:"));
        Self(documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect())
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.all(kind).into_iter().find(|object| object["metadata"]["name"] == name)
    }

    fn deployment(&self) -> &Value {
        self.find("Deployment", "volsync").unwrap()
    }

    fn pod(&self) -> &Value {
        &self.deployment()["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    fn flags(&self) -> Vec<&str> {
        let flags = self.container()["args"].as_array().unwrap();
        flags.iter().map(|flag| flag.as_str().unwrap()).collect()
    }

    /// Every rule of every role that the operator is bound to.
    fn rules(&self) -> Vec<&Value> {
        let roles = self.all("ClusterRole").into_iter().chain(self.all("Role"));
        let bound = roles.filter(|role| {
            let name = role["metadata"]["name"].as_str().unwrap();
            !["volsync-edit", "volsync-view", "volsync-metrics-reader"].contains(&name)
        });
        bound.flat_map(|role| role["rules"].as_array().unwrap()).collect()
    }
}

fn has(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == text))
}

fn refusal(values: &[(&str, Value)]) -> String {
    let output = template_with(values, &[]);
    assert!(!output.status.success(), "helm accepts {values:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_operator_is_told_what_the_values_say() {
    let plain = Rendered::new(&[]);
    assert_eq!(
        plain.flags(),
        [
            "--health-probe-bind-address=:8081",
            "--metrics-bind-address=:8443",
            "--leader-elect",
            "--restic-container-image=localhost/volsync-mover-restic:dev",
            "--rsync-container-image=localhost/volsync-mover-rsync:dev",
            "--scc-name=volsync-privileged-mover",
        ]
    );
    let rich = Rendered::new(&[
        ("metrics", json!({"disableAuth": true, "certSecret": "certs"})),
        ("leaderElection", json!(false)),
        ("rsync", json!({"image": "example.org/rsync@sha256:0a"})),
        ("rclone", json!({"repository": "example.org/rclone"})),
        ("rsync-tls", json!({"repository": "example.org/tls", "tag": "2"})),
        ("imagePullSecrets", json!([{"name": "a"}, {"name": "b"}])),
        ("watchNamespaces", json!(["home", "away"])),
        ("timezone", json!("Europe/Berlin")),
        ("env", json!([{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}])),
        ("extraArgs", json!(["--log=debug"])),
    ]);
    assert_eq!(
        rich.flags(),
        [
            "--health-probe-bind-address=:8081",
            "--metrics-bind-address=:8443",
            "--metrics-require-rbac=false",
            "--metrics-cert-path=/metrics-certs",
            "--rclone-container-image=example.org/rclone:0.1.0",
            "--restic-container-image=localhost/volsync-mover-restic:dev",
            "--rsync-container-image=example.org/rsync@sha256:0a",
            "--rsync-tls-container-image=example.org/tls:2",
            "--scc-name=volsync-privileged-mover",
            "--mover-image-pull-secrets=a,b",
            "--watch-namespace=home,away",
            "--log=debug",
        ]
    );
    assert_eq!(rich.container()["env"][1], json!({"name": "TZ", "value": "Europe/Berlin"}));
    assert_eq!(rich.container()["env"][2]["name"], "HTTPS_PROXY");
    assert_eq!(rich.pod()["imagePullSecrets"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(rich.pod()["volumes"][0]["secret"]["secretName"], "certs");
    assert_eq!(rich.deployment()["spec"]["strategy"]["type"], "Recreate");
    assert!(rich.find("Role", "volsync-leader-election").is_none());
}

#[test]
fn the_operators_pod_is_let_into_a_restricted_namespace() {
    let rendered = Rendered::new(&[("metrics", json!({"certSecret": "certs"}))]);
    let (pod, container) = (rendered.pod(), rendered.container());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    for never in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod[never], Value::Null);
    }
    let openshift = ["--api-versions", "security.openshift.io/v1/SecurityContextConstraints"];
    let rendered = Rendered::with(&[], &openshift);
    assert_eq!(rendered.pod()["securityContext"]["runAsUser"], Value::Null);
}

#[test]
fn secrets_are_never_listed_and_nothing_is_granted_by_wildcard() {
    for watched in [json!([]), json!(["home"])] {
        let rendered = Rendered::new(&[
            ("watchNamespaces", watched),
            ("imagePullSecrets", json!([{"name": "a"}])),
        ]);
        let rules = rendered.rules();
        assert!(rules.iter().any(|rule| has(&rule["resources"], "secrets")));
        for rule in rules {
            for verb in ["list", "watch", "delete", "deletecollection"] {
                assert!(
                    !(has(&rule["resources"], "secrets") && has(&rule["verbs"], verb)),
                    "{rule}"
                );
            }
            for all in ["apiGroups", "resources", "verbs"] {
                assert!(!has(&rule[all], "*"), "{rule}");
            }
        }
    }
}

#[test]
fn watched_namespaces_get_a_role_each_in_place_of_the_cluster_roles_rules() {
    let everywhere = Rendered::new(&[]);
    let named = Rendered::new(&[
        ("watchNamespaces", json!(["home", "away"])),
        ("imagePullSecrets", json!([{"name": "a"}])),
    ]);
    let jobs = |rendered: &Rendered| {
        let role = rendered.find("ClusterRole", "volsync-manager").unwrap();
        role["rules"].as_array().unwrap().iter().any(|rule| has(&rule["resources"], "jobs"))
    };
    assert!(jobs(&everywhere) && !jobs(&named));
    assert!(everywhere.find("Role", "volsync-manager").is_none());
    for kind in ["Role", "RoleBinding"] {
        let managers = named.all(kind).into_iter();
        let places = managers.filter(|role| role["metadata"]["name"] == "volsync-manager");
        let places: Vec<_> = places.map(|role| &role["metadata"]["namespace"]).collect();
        assert_eq!(places, ["home", "away"]);
    }
    // What no Role can grant is all that is left.
    for rule in named.find("ClusterRole", "volsync-manager").unwrap()["rules"].as_array().unwrap() {
        let namespaced = ["secrets", "pods", "persistentvolumeclaims", "replicationsources"];
        assert!(!namespaced.iter().any(|resource| has(&rule["resources"], resource)), "{rule}");
    }
    let pull = named.find("Role", "volsync-pull-secrets").unwrap();
    assert_eq!(pull["metadata"]["namespace"], "volsync-system");
    assert_eq!(pull["rules"][0]["resourceNames"], json!(["a"]));
}

#[test]
fn metrics_are_scraped_by_an_account_that_may_read_them() {
    let served = ["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"];
    assert!(Rendered::new(&[]).all("ServiceMonitor").is_empty());
    let rendered = Rendered::with(&[], &served);
    let endpoint = &rendered.find("ServiceMonitor", "volsync").unwrap()["spec"]["endpoints"][0];
    let token = &endpoint["authorization"]["credentials"];
    assert_eq!(*token, json!({"name": "volsync-metrics-reader", "key": "token"}));
    assert_eq!(endpoint["tlsConfig"], json!({"insecureSkipVerify": true}));
    let secret = rendered.find("Secret", "volsync-metrics-reader").unwrap();
    assert_eq!(secret["type"], "kubernetes.io/service-account-token");
    let binding = rendered.find("ClusterRoleBinding", "volsync-metrics-reader").unwrap();
    assert_eq!(binding["roleRef"]["name"], "volsync-metrics-reader");
    assert_eq!(binding["subjects"][0]["name"], "volsync-metrics-reader");
    let service = rendered.find("Service", "volsync-metrics").unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], 8443);

    let verified =
        [("metrics", json!({"certSecret": "certs"})), ("serviceMonitor", json!({"enabled": true}))];
    let rendered = Rendered::new(&verified);
    let endpoint = &rendered.all("ServiceMonitor")[0]["spec"]["endpoints"][0];
    assert_eq!(endpoint["tlsConfig"]["serverName"], "volsync-metrics.volsync-system.svc");
    assert_eq!(endpoint["tlsConfig"]["ca"]["secret"]["name"], "certs");

    let open = Rendered::with(&[("metrics", json!({"disableAuth": true}))], &served);
    assert_eq!(open.all("ServiceMonitor")[0]["spec"]["endpoints"][0]["authorization"], Value::Null);
    assert!(open.all("Secret").is_empty());
    assert!(open.find("ClusterRole", "volsync-metrics-auth-role").is_none());
    let off = Rendered::with(&[("serviceMonitor", json!({"enabled": false}))], &served);
    assert!(off.all("ServiceMonitor").is_empty());
}

#[test]
fn the_options_of_large_installations_are_rendered() {
    let rendered = Rendered::new(&[
        ("replicaCount", json!(2)),
        ("priorityClassName", json!("system-cluster-critical")),
        ("podDisruptionBudget", json!({"enabled": true})),
        ("networkPolicy", json!({"enabled": true})),
        ("service", json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]})),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
        ),
    ]);
    let labels = &rendered.deployment()["spec"]["selector"];
    let spread = &rendered.pod()["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"], *labels);
    assert_eq!(spread["topologyKey"], "zone");
    assert_eq!(rendered.pod()["priorityClassName"], "system-cluster-critical");
    assert_eq!(rendered.all("PodDisruptionBudget")[0]["spec"]["selector"], *labels);
    let service = &rendered.find("Service", "volsync-metrics").unwrap()["spec"];
    assert_eq!(service["ipFamilies"], json!(["IPv6", "IPv4"]));
    let policy = &rendered.all("NetworkPolicy")[0]["spec"];
    assert_eq!(policy["podSelector"], *labels);
    let scrapers = &policy["ingress"][1];
    assert_eq!(
        scrapers["from"][0]["namespaceSelector"]["matchLabels"],
        json!({"metrics": "enabled"})
    );
    assert_eq!(scrapers["ports"][0]["port"], "https");
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (key, value) in [
        ("replicaCout", json!(2)),
        ("metrics", json!({"disableauth": true})),
        ("image", json!({"pullPolicy": "Sometimes"})),
        ("watchNamespaces", json!("home")),
        ("imagePullSecrets", json!(["a"])),
        ("serviceMonitor", json!({"enabled": "yes"})),
    ] {
        let said = refusal(&[(key, value)]);
        assert!(said.contains("don't meet the specifications of the schema"), "{said}");
        assert!(said.contains(key), "{said}");
    }
    let said = refusal(&[("replicaCount", json!(2)), ("leaderElection", json!(false))]);
    assert!(said.contains("needs leaderElection"), "{said}");
}

#[test]
fn crds_are_kept_when_the_release_goes() {
    let rendered = Rendered::new(&[]);
    let crds = rendered.all("CustomResourceDefinition");
    assert_eq!(crds.len(), 2);
    for crd in crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(
        Rendered::new(&[("manageCRDs", json!(false))]).all("CustomResourceDefinition").is_empty()
    );
}

/// `metrics.certSecret` and so on; what is empty by default counts as one value.
fn keys(values: &Value, path: &str, found: &mut Vec<String>) {
    match values.as_object() {
        Some(values) if !values.is_empty() => {
            for (key, value) in values {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys(value, &path, found);
            }
        }
        Some(_) | None => found.push(path.to_owned()),
    }
}

#[test]
fn every_value_is_in_the_table_and_in_the_schema() {
    let read = |name: &str| fs::read_to_string(chart().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let readme = read("README.md");
    let mut found = Vec::new();
    keys(&values, "", &mut found);
    for key in found {
        let mut names = key.split('.');
        let section = names.next().unwrap();
        assert!(schema["properties"][section].is_object(), "{section} is not in the schema");
        let told = readme.contains(&format!("`{key}`")) || readme.contains(&format!("`{section}`"));
        assert!(told, "{key} is not in the table");
    }
}

#[test]
fn what_is_rendered_twice_is_the_same() {
    let values = [
        ("watchNamespaces", json!(["home", "away"])),
        ("serviceMonitor", json!({"enabled": true})),
    ];
    assert_eq!(template_with(&values, &[]).stdout, template_with(&values, &[]).stdout);
}

#[test]
fn the_manifests_in_deploy_are_those_of_the_chart_and_a_namespace_for_them() {
    let root = repository::root();
    let text = fs::read_to_string(root.join("deploy/install.yaml")).unwrap_or_default();
    let current = text == manifests(&root).unwrap();
    assert!(current, "deploy/install.yaml is out of date: run `cargo xtask render`");
    let rendered = Rendered::read(&text);
    assert_eq!(rendered.0[0]["kind"], "Namespace");
    let namespace = &rendered.0[0]["metadata"]["name"];
    assert_eq!(*namespace, rendered.deployment()["metadata"]["namespace"]);
}
