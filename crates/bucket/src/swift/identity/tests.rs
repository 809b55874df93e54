//! Who asks whom with which words, and what is taken of the answer.

use super::*;
use serde_json::json;

const V3: (&str, &str) = ("OS_AUTH_URL", "https://host:5000/v3/");
const USER: (&str, &str) = ("OS_USERNAME", "somebody");
const PASSWORD: (&str, &str) = ("OS_PASSWORD", "hunter22");
const DOMAIN: (&str, &str) = ("OS_USER_DOMAIN_NAME", "people");

fn identity(settings: &[(&str, &str)]) -> Result<Identity, String> {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Identity::new(&Settings::new(settings))
}

/// Where Keystone is asked, and with which words.
fn asked(settings: &[(&str, &str)]) -> (String, Value) {
    match identity(settings).map(|identity| identity.way) {
        Ok(Way::Keystone { url, body, .. }) => (url, serde_json::from_str(&body).unwrap()),
        Ok(_) => panic!("{settings:?}: Keystone is not asked"),
        Err(problem) => panic!("{settings:?}: {problem}"),
    }
}

#[test]
fn what_is_missing_is_named() {
    for (settings, missing) in [
        (vec![], "OS_AUTH_URL is missing (or ST_AUTH, or OS_STORAGE_URL with OS_AUTH_TOKEN)"),
        (vec![("OS_STORAGE_URL", "http://host/v1/a")], "OS_AUTH_TOKEN is missing"),
        (vec![("OS_AUTH_TOKEN", "hunter22")], "OS_STORAGE_URL is missing"),
        (vec![("ST_AUTH", "http://host/auth/v1.0")], "ST_USER is missing"),
        (vec![("ST_AUTH", "http://host/auth"), ("ST_USER", "a:b")], "ST_KEY is missing"),
        (vec![("OS_AUTH_URL", "http://host/v2.0")], "OS_USERNAME is missing"),
        (vec![("OS_AUTH_URL", "http://host/v2.0"), USER], "OS_PASSWORD is missing"),
        (vec![V3, DOMAIN], "OS_USERNAME is missing"),
        (vec![V3, USER, DOMAIN], "OS_PASSWORD is missing"),
        (
            vec![V3, USER, PASSWORD],
            "OS_USER_DOMAIN_NAME is missing (or OS_USER_DOMAIN_ID, or OS_USER_ID for the name)",
        ),
        (
            vec![V3, ("OS_APPLICATION_CREDENTIAL_ID", "c")],
            "OS_APPLICATION_CREDENTIAL_SECRET is missing",
        ),
        (
            vec![V3, ("OS_APPLICATION_CREDENTIAL_SECRET", "hunter22")],
            "OS_APPLICATION_CREDENTIAL_ID is missing",
        ),
        (vec![("OS_AUTH_URL", "host:5000/v3"), USER], "OS_AUTH_URL is no address of http"),
        (
            vec![("OS_AUTH_URL", "http://host/v7"), USER],
            "OS_AUTH_URL is asked in a way that is none of v1, v2.0 and v3",
        ),
        (
            vec![
                ("ST_AUTH", "http://host/auth/v1.0"),
                ("ST_USER", "a:b"),
                ("ST_KEY", "hunter\n22"),
            ],
            "the user's key has a line break or the like, which cannot be sent",
        ),
    ] {
        assert_eq!(identity(&settings).err().as_deref(), Some(missing), "{settings:?}");
    }
}

#[test]
fn whom_to_ask_stands_in_the_address() {
    let at = |url: &str, version: &str| {
        let settings = [("OS_AUTH_URL", url), ("ST_AUTH_VERSION", version), USER, PASSWORD, DOMAIN];
        asked(&settings).0
    };
    assert_eq!(at("https://host:5000/v3", ""), "https://host:5000/v3/auth/tokens");
    assert_eq!(at("https://host/identity/v3/", "0"), "https://host/identity/v3/auth/tokens");
    assert_eq!(at("https://v2.host:5000", ""), "https://v2.host:5000/v3/auth/tokens");
    assert_eq!(at("https://host/v2.0/", "2"), "https://host/v2.0/tokens");
    assert_eq!(at("https://host:5000", "2.0"), "https://host:5000/v2.0/tokens");
    for url in ["http://host/auth/v1.0", "http://host/auth/1.0", "http://host/auth"] {
        let settings = [("ST_AUTH", url), ("ST_USER", "a:b"), ("ST_KEY", "hunter22")];
        let way = identity(&settings).unwrap_or_else(|problem| panic!("{problem}")).way;
        assert!(matches!(way, Way::Store { url: asked, .. } if asked == url), "{url}");
    }
}

#[test]
fn version_2_is_asked_with_one_name_of_the_project() {
    let of = ("OS_AUTH_URL", "http://host/v2.0");
    let credentials = json!({ "username": "somebody", "password": "hunter22" });
    let by_name = asked(&[of, USER, PASSWORD, ("OS_TENANT_NAME", "backups")]).1;
    let expected = json!({ "passwordCredentials": credentials, "tenantName": "backups" });
    assert_eq!(by_name, json!({ "auth": expected }));
    let both = [of, USER, PASSWORD, ("OS_TENANT_NAME", "backups"), ("OS_TENANT_ID", "7")];
    let expected = json!({ "passwordCredentials": credentials, "tenantId": "7" });
    assert_eq!(asked(&both).1, json!({ "auth": expected }));
}

#[test]
fn version_3_is_asked_with_user_and_project_and_their_domains() {
    let user =
        json!({ "name": "somebody", "domain": { "name": "people" }, "password": "hunter22" });
    let with = |more: &[(&str, &str)]| {
        let (_, asked) = asked(&[&[V3, USER, PASSWORD, DOMAIN][..], more].concat());
        assert_eq!(asked["auth"]["identity"]["methods"], json!(["password"]));
        assert_eq!(asked["auth"]["identity"]["password"]["user"], user);
        asked["auth"]["scope"].clone()
    };
    assert_eq!(with(&[]), Value::Null);
    let project = ("OS_PROJECT_NAME", "backups");
    let scope = |domain: Value| json!({ "project": { "name": "backups", "domain": domain } });
    assert_eq!(with(&[project]), scope(json!({ "name": "people" })));
    assert_eq!(
        with(&[project, ("OS_PROJECT_DOMAIN_NAME", "projects")]),
        scope(json!({ "name": "projects" }))
    );
    assert_eq!(with(&[project, ("OS_PROJECT_DOMAIN_ID", "7")]), scope(json!({ "id": "7" })));
    assert_eq!(with(&[project, ("OS_TENANT_ID", "8")]), json!({ "project": { "id": "8" } }));
    assert_eq!(with(&[project, ("OS_TRUST_ID", "9")]), json!({ "OS-TRUST:trust": { "id": "9" } }));

    let by_id = asked(&[V3, ("OS_USER_ID", "1"), PASSWORD, project]).1;
    let user = json!({ "id": "1", "password": "hunter22" });
    assert_eq!(by_id["auth"]["identity"]["password"]["user"], user);
    assert_eq!(by_id["auth"]["scope"], scope(json!({ "name": "Default" })));
}

#[test]
fn an_application_credential_is_of_its_own_project() {
    let secret = ("OS_APPLICATION_CREDENTIAL_SECRET", "hunter22");
    let with = |settings: &[(&str, &str)]| {
        let always = [V3, secret, ("OS_PROJECT_NAME", "backups")];
        let (_, asked) = asked(&[&always[..], settings].concat());
        assert_eq!(asked["auth"]["scope"], Value::Null);
        assert_eq!(asked["auth"]["identity"]["methods"], json!(["application_credential"]));
        asked["auth"]["identity"]["application_credential"].clone()
    };
    assert_eq!(
        with(&[("OS_APPLICATION_CREDENTIAL_ID", "7")]),
        json!({ "id": "7", "secret": "hunter22" })
    );
    let user = json!({ "name": "somebody", "domain": { "name": "people" } });
    assert_eq!(
        with(&[("OS_APPLICATION_CREDENTIAL_NAME", "mover"), USER, DOMAIN]),
        json!({ "name": "mover", "secret": "hunter22", "user": user })
    );
}

#[test]
fn the_store_is_found_in_both_catalogs() {
    let version_3 = json!([
        { "type": "compute", "endpoints": [{ "interface": "public", "region": "a", "url": "no" }] },
        { "type": "object-store", "endpoints": [
            { "interface": "internal", "region": "a", "url": "inside a" },
            { "interface": "public", "region": "a", "url": "a" },
            { "interface": "public", "region_id": "b", "url": "b" },
        ] },
    ]);
    let version_2 = json!([
        { "type": "object-store", "endpoints": [
            { "region": "a", "publicURL": "a", "internalURL": "inside a" },
            { "region": "b", "publicURL": "b" },
        ] },
    ]);
    let brought = [("OS_STORAGE_URL", "http://host/v1/AUTH_test"), ("OS_AUTH_TOKEN", "hunter22")];
    for catalog in [version_3, version_2] {
        let found = |settings: &[(&str, &str)]| {
            let identity = identity(&[&brought[..], settings].concat());
            identity.unwrap_or_else(|problem| panic!("{problem}")).endpoint(&catalog)
        };
        assert_eq!(found(&[]).unwrap(), "a");
        assert_eq!(found(&[("OS_REGION_NAME", "b")]).unwrap(), "b");
        assert_eq!(found(&[("OS_ENDPOINT_TYPE", "internalURL")]).unwrap(), "inside a");
        let elsewhere = found(&[("OS_REGION_NAME", "c")]).unwrap_err();
        assert!(elsewhere.contains("in OS_REGION_NAME \"c\"; it has object stores in: a"));
    }
    let nowhere = identity(&brought).unwrap_or_else(|problem| panic!("{problem}"));
    assert!(nowhere.endpoint(&Value::Null).unwrap_err().contains("OS_PROJECT_NAME"));
}

#[test]
fn a_token_is_due_when_its_time_is_nearly_over() {
    let access = |due| Access { storage: String::new(), token: HeaderValue::from_static("x"), due };
    assert!(!access(None).is_due());
    assert!(!access(Some(Instant::now() + Duration::from_secs(60))).is_due());
    assert!(access(Some(Instant::now())).is_due());
}
