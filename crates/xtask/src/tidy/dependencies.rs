//! Rules 1 to 9: who may depend on whom, by `cargo metadata`.

use serde_json::Value;

use super::Problem;

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    name: String,
    features: Vec<String>,
    default_features: bool,
    dev: bool,
}

impl Package {
    /// Every package that `cargo metadata` lists.
    pub(super) fn all(metadata: &Value) -> Vec<Self> {
        list(&metadata["packages"])
            .iter()
            .map(|package| Self {
                name: text(&package["name"]),
                dependencies: list(&package["dependencies"]).iter().map(Dependency::new).collect(),
            })
            .collect()
    }
}

impl Dependency {
    fn new(value: &Value) -> Self {
        Self {
            name: text(&value["name"]),
            features: list(&value["features"]).iter().map(text).collect(),
            default_features: value["uses_default_features"].as_bool().unwrap_or(true),
            dev: value["kind"].as_str() == Some("dev"),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Every package we may have, and which of ours it may import. A package that is not listed is a
/// new arrow: it needs a line here and one in `docs/architecture.md`.
const ARROWS: &[(&str, &[&str])] = &[
    ("volsync-api", &[]),
    ("volsync-volume", &[]),
    ("volsync-contract", &[]),
    ("volsync-replication", &["volsync-api", "volsync-volume", "volsync-contract"]),
    ("volsync-mover", &["volsync-volume", "volsync-contract"]),
    ("volsync-bucket", &[]),
    ("volsync-keys", &[]),
    ("volsync-mover-rsync", &["volsync-volume", "volsync-contract", "volsync-mover"]),
    ("volsync-mover-syncthing", &["volsync-volume", "volsync-contract", "volsync-mover"]),
    (
        "volsync-mover-object-store",
        &["volsync-volume", "volsync-contract", "volsync-mover", "volsync-bucket"],
    ),
    (
        "volsync-mover-restic",
        &["volsync-volume", "volsync-contract", "volsync-mover", "volsync-bucket"],
    ),
    (
        "volsync-local",
        &[
            "volsync-api",
            "volsync-volume",
            "volsync-contract",
            "volsync-keys",
            "volsync-replication",
        ],
    ),
    (
        "volsync-controller",
        &[
            "volsync-api",
            "volsync-volume",
            "volsync-contract",
            "volsync-keys",
            "volsync-replication",
        ],
    ),
    ("kubectl-volsync", &["volsync-api"]),
    ("volsync-testing", &["volsync-api", "volsync-volume", "volsync-contract"]),
    ("volsync-xtask", &["volsync-api", "volsync-contract", "volsync-testing"]),
];

/// What a package must do without: a prefix of its name, and foreign packages.
const WITHOUT: &[(&str, &[&str])] = &[
    ("volsync-api", &["tokio", "hyper", "reqwest", "kube-client", "kube-runtime"]),
    ("volsync-volume", PURE),
    ("volsync-contract", PURE),
    ("volsync-replication", &["tokio", "hyper", "reqwest", "kube", "kube-client", "kube-runtime"]),
    ("volsync-mover", &["kube", "k8s-openapi"]),
    ("volsync-bucket", &["kube", "k8s-openapi"]),
];

const PURE: &[&str] = &["tokio", "hyper", "reqwest", "kube", "k8s-openapi"];

/// Which features of kube a package may enable; none unless listed.
const KUBE: &[(&str, &[&str])] = &[
    ("volsync-api", &["derive"]),
    ("volsync-local", &["derive"]),
    (
        "volsync-controller",
        &["derive", "client", "runtime", "rustls-tls", "aws-lc-rs", "unstable-runtime"],
    ),
    ("kubectl-volsync", &["derive", "client"]),
];

/// Every breach of the dependency rules.
pub(super) fn check(packages: &[Package]) -> Vec<Problem> {
    packages.iter().flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<Problem> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![Problem::new(&package.name, "no dependency rule names this package")];
    };
    let mut problems = Vec::new();
    let mut breach = |what: String| problems.push(Problem::new(&package.name, what));
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        if is_ours(name) {
            let for_tests = dependency.dev && name == "volsync-testing";
            if !for_tests && !allowed.contains(&name) {
                breach(match name {
                    "volsync-testing" => "volsync-testing is only ever a dev-dependency".to_owned(),
                    _ => format!("may not depend on {name}"),
                });
            }
        }
        let without = |(prefix, names): &&(&str, &[&str])| {
            package.name.starts_with(prefix) && names.contains(&name)
        };
        if !dependency.dev && WITHOUT.iter().any(|rule| without(&rule)) {
            breach(format!("must do without {name}"));
        }
        if name == "kube" {
            let allowed = KUBE
                .iter()
                .find(|(name, _)| *name == package.name)
                .map_or(&[][..], |(_, list)| list);
            for feature in
                dependency.features.iter().filter(|feature| !allowed.contains(&feature.as_str()))
            {
                breach(format!("may not enable kube's feature {feature}"));
            }
            if dependency.default_features {
                breach("may not enable kube's default features".to_owned());
            }
        }
    }
    problems
}

fn is_ours(name: &str) -> bool {
    name.starts_with("volsync-") || name == "kubectl-volsync"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(package: &Value) -> Vec<String> {
        let packages = Package::all(&json!({ "packages": [package] }));
        check(&packages).into_iter().map(|problem| problem.what).collect()
    }

    fn depends(name: &str, on: &str) -> Value {
        json!({ "name": name, "dependencies": [{ "name": on, "kind": null, "features": [], "uses_default_features": false }] })
    }

    #[test]
    fn an_arrow_that_is_drawn_is_allowed() {
        assert!(problems(&depends("volsync-replication", "volsync-api")).is_empty());
        assert!(problems(&depends("volsync-mover-rsync", "volsync-mover")).is_empty());
    }

    #[test]
    fn a_mover_knows_neither_clusters_nor_other_movers() {
        for on in ["volsync-api", "volsync-replication", "volsync-local", "volsync-mover-restic"] {
            assert_eq!(
                problems(&depends("volsync-mover-rsync", on)),
                [format!("may not depend on {on}")]
            );
        }
        for on in ["kube", "k8s-openapi"] {
            assert_eq!(
                problems(&depends("volsync-mover-rsync", on)),
                [format!("must do without {on}")]
            );
        }
    }

    #[test]
    fn no_shell_imports_a_mover_or_the_other_shell() {
        for (shell, on) in [
            ("volsync-local", "volsync-mover"),
            ("volsync-local", "volsync-mover-rsync"),
            ("volsync-local", "volsync-controller"),
            ("volsync-controller", "volsync-local"),
        ] {
            assert_eq!(problems(&depends(shell, on)), [format!("may not depend on {on}")]);
        }
    }

    #[test]
    fn the_pure_crates_have_no_runtime() {
        assert_eq!(problems(&depends("volsync-replication", "tokio")), ["must do without tokio"]);
        assert_eq!(
            problems(&depends("volsync-volume", "volsync-api")),
            ["may not depend on volsync-api"]
        );
    }

    #[test]
    fn kube_features_are_handed_out_one_by_one() {
        let enable = |name: &str, feature: &str| {
            let mut package = depends(name, "kube");
            package["dependencies"][0]["features"] = json!([feature]);
            problems(&package)
        };
        assert!(enable("volsync-api", "derive").is_empty());
        assert_eq!(enable("volsync-api", "client"), ["may not enable kube's feature client"]);
        assert_eq!(enable("volsync-local", "runtime"), ["may not enable kube's feature runtime"]);
        assert!(enable("volsync-controller", "runtime").is_empty());
    }

    #[test]
    fn testing_is_for_tests() {
        let mut package = depends("volsync-local", "volsync-testing");
        assert_eq!(problems(&package), ["volsync-testing is only ever a dev-dependency"]);
        package["dependencies"][0]["kind"] = json!("dev");
        assert!(problems(&package).is_empty());
    }

    #[test]
    fn a_package_without_a_rule_is_reported() {
        assert_eq!(
            problems(&depends("volsync-extras", "serde")),
            ["no dependency rule names this package"]
        );
    }
}
