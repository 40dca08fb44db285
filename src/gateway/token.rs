//! Which service account tokens a guest may have: those that its pod's volumes project.
//!
//! Pure. The request that goes upstream is made from the pod, the guest's own only chooses among them.

use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use serde_json::{Value, json};

use super::denied::{Denied, Rule};

/// Kubernetes' default for `expirationSeconds`.
const LIFETIME_S: i64 = 3600;

/// Checks a TokenRequest for service account `account` and makes the one to send.
pub(crate) fn check(request: &Value, account: &str, pod: &Pod) -> Result<Value, Denied> {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
    if account != own.unwrap_or("default") {
        return Err(refuse(format!("service account `{account}` is not the pod's")));
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let bound = &request["spec"]["boundObjectRef"];
    if uid.is_empty() || bound["kind"] != "Pod" || bound["uid"] != uid || bound["name"] != name {
        return Err(refuse("the token must be bound to the pod"));
    }
    let audience = match request["spec"]["audiences"].as_array().map(Vec::as_slice) {
        None | Some([]) => "",
        Some([Value::String(audience)]) => audience,
        Some(_) => return Err(refuse("the token must be for one audience")),
    };
    let lifetime = request["spec"]["expirationSeconds"].as_i64().unwrap_or(LIFETIME_S);
    let projected = spec
        .into_iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .flat_map(|volume| volume.projected.iter())
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref())
        .any(|source| matches(source, audience, lifetime));
    if !projected {
        let text = format!("no volume of the pod projects a token for `{audience}` that lasts {lifetime} s");
        return Err(refuse(text));
    }
    let audiences = if audience.is_empty() { json!([]) } else { json!([audience]) };
    Ok(json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": lifetime,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid },
        },
    }))
}

fn matches(source: &ServiceAccountTokenProjection, audience: &str, lifetime: i64) -> bool {
    source.audience.as_deref().unwrap_or_default() == audience
        && source.expiration_seconds.unwrap_or(LIFETIME_S) == lifetime
}

fn refuse(message: impl Into<String>) -> Denied {
    Denied::new(Rule::Token, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard volume, and one token for a vault.
    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "6a1" },
            "spec": {
                "serviceAccountName": "robot",
                "containers": [],
                "volumes": [
                    { "name": "kube-api-access", "projected": { "sources": [
                        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                    ] } },
                    { "name": "vault", "projected": { "sources": [
                        { "serviceAccountToken": { "audience": "vault", "path": "token" } },
                    ] } },
                ],
            },
        }))
        .unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn request(audiences: Value, lifetime: i64) -> Value {
        json!({ "spec": {
            "audiences": audiences,
            "expirationSeconds": lifetime,
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "6a1" },
        } })
    }

    #[test]
    fn the_pods_own_tokens_are_granted() {
        let made = check(&request(Value::Null, 3607), "robot", &pod()).unwrap();
        assert_eq!(made["spec"]["audiences"], json!([]));
        assert_eq!(made["spec"]["boundObjectRef"]["uid"], "6a1");
        let made = check(&request(json!(["vault"]), 3600), "robot", &pod()).unwrap();
        assert_eq!(made["spec"]["audiences"], json!(["vault"]));
    }

    #[test]
    fn another_account_is_refused() {
        assert_eq!(check(&request(json!([]), 3607), "default", &pod()).unwrap_err().rule, Rule::Token);
    }

    #[test]
    fn a_token_bound_to_something_else_or_nothing_is_refused() {
        for bound in [
            Value::Null,
            json!({ "kind": "Pod", "name": "web", "uid": "other" }),
            json!({ "kind": "Pod", "name": "other", "uid": "6a1" }),
            json!({ "kind": "Pod", "name": "web" }),
            json!({ "kind": "Secret", "name": "web", "uid": "6a1" }),
            json!({ "kind": "Node", "name": "burst", "uid": "6a1" }),
        ] {
            let mut asked = request(json!([]), 3607);
            asked["spec"]["boundObjectRef"] = bound.clone();
            assert!(check(&asked, "robot", &pod()).is_err(), "{bound}");
        }
    }

    #[test]
    fn other_audiences_and_longer_lives_are_refused() {
        for (audiences, lifetime) in [
            (json!(["sts.amazonaws.com"]), 3600),
            (json!(["vault", "sts.amazonaws.com"]), 3600),
            (json!([""]), 86400),
            (json!([]), 86400),
            (json!(["vault"]), 3607),
            (json!([1]), 3607),
        ] {
            assert!(
                check(&request(audiences.clone(), lifetime), "robot", &pod()).is_err(),
                "{audiences} {lifetime}"
            );
        }
    }

    #[test]
    fn a_pod_that_mounts_no_token_gets_none() {
        let mut pod = pod();
        pod.spec.as_mut().unwrap().volumes = None;
        assert!(check(&request(json!([]), 3607), "robot", &pod).is_err());
    }

    #[test]
    fn fields_of_the_guests_own_do_not_go_upstream() {
        let mut asked = request(json!([]), 3607);
        asked["metadata"] = json!({ "annotations": { "a": "b" } });
        asked["spec"]["more"] = json!(1);
        let made = check(&asked, "robot", &pod()).unwrap();
        assert!(made.get("metadata").is_none() && made["spec"].get("more").is_none());
    }
}
