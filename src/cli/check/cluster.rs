//! The Kubernetes half of `orca check`: is the API server there, and does it let ORCA do its work?

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::super::Common;
use crate::app::kube_config;
use crate::cloud::ec2::probe::Finding;
use crate::config::{Config, Tls};
use crate::gateway::as_node;

/// What was found out about the cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) findings: Vec<Finding>,
    /// UID of `kube-system`; empty when it could not be read.
    pub(super) id: String,
    /// Minor version, once known.
    pub(super) minor: Option<u32>,
}

/// No answer of an API server takes longer than this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tries the API server and every permission.
pub(super) async fn examine(common: &Common, config: &Config) -> Cluster {
    let connect = async {
        let mut kube = kube_config(common.kubeconfig.as_deref()).await?;
        kube.connect_timeout = Some(Duration::from_secs(5));
        kube.read_timeout = Some(PATIENCE);
        let url = kube.cluster_url.to_string();
        let node = Client::try_from(as_node(&kube, &config.node.name))?;
        let client = Client::try_from(kube)?;
        let version = tokio::time::timeout(PATIENCE, client.apiserver_version()).await??;
        anyhow::Ok((client, node, url, version))
    };
    let (client, node, url, version) = match connect.await {
        Ok(connected) => connected,
        Err(error) => {
            // kube's errors repeat their causes; the first and the last say it all.
            let advice = format!(
                "{error}: {}; name a kubeconfig with --kubeconfig, or run in the cluster",
                error.root_cause()
            );
            return Cluster { findings: vec![Finding::new("API server", Err(advice))], ..Cluster::default() };
        }
    };
    let mut cluster = Cluster { minor: minor(&version.minor), ..Cluster::default() };
    let found = Ok(format!("{} at {url}", version.git_version));
    cluster.findings.push(Finding::new("API server", found));
    match Api::<Namespace>::all(client.clone()).get("kube-system").await {
        Ok(namespace) => cluster.id = namespace.uid().unwrap_or_default(),
        Err(error) => cluster.findings.push(Finding::new(
            "identity of the cluster",
            Err(format!("{error}; allow `get` on the namespace kube-system")),
        )),
    }
    cluster.findings.extend(permissions(&client, &config.node.name, &common.namespace).await);
    if let Tls::Csr { .. } = config.kubelet.tls {
        cluster.findings.extend(certificate(&node).await);
    }
    cluster
}

/// What asking for a serving certificate takes: the API server's Node authorizer gives it to every node.
async fn certificate(node: &Client) -> Vec<Finding> {
    let need = |verb: &str| ResourceAttributes {
        group: Some("certificates.k8s.io".to_owned()),
        resource: Some("certificatesigningrequests".to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let findings = join_all(["create", "get"].map(|verb| ask(node, need(verb)))).await;
    findings
        .into_iter()
        .map(|finding| Finding { what: format!("as the node: {}", finding.what), ..finding })
        .collect()
}

/// `36` of `36+`.
fn minor(text: &str) -> Option<u32> {
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

async fn permissions(client: &Client, node: &str, namespace: &str) -> Vec<Finding> {
    let needs = needs(node, namespace);
    join_all(needs.into_iter().map(|need| ask(client, need))).await
}

async fn ask(client: &Client, need: ResourceAttributes) -> Finding {
    let what = format!("may {}", describe(&need));
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(need),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let outcome = match reviews.create(&PostParams::default(), &review).await {
        Err(error) => Err(error.to_string()),
        Ok(review) => match review.status {
            Some(status) if status.allowed => Ok(String::new()),
            Some(_) | None => Err("not allowed; apply the RBAC of manifests/ for this identity".to_owned()),
        },
    };
    Finding::new(what, outcome)
}

/// Everything that ORCA does at the API server under its own name.
fn needs(node: &str, namespace: &str) -> Vec<ResourceAttributes> {
    let on = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: text(group),
            resource: text(resource),
            subresource: text(subresource),
            namespace: text(namespace),
            name: text(name),
            ..ResourceAttributes::default()
        }
    };
    let identity = format!("system:node:{node}");
    let table = [
        (on("", "pods", "", "", ""), "get list watch patch delete"),
        (on("", "pods", "status", "", ""), "patch"),
        (on("", "nodes", "", "", node), "get patch"),
        (on("", "nodes", "", "", ""), "create"),
        (on("", "nodes", "status", "", node), "patch"),
        (on("coordination.k8s.io", "leases", "", namespace, node), "get update watch"),
        (on("coordination.k8s.io", "leases", "", namespace, ""), "create"),
        (on("coordination.k8s.io", "leases", "", "kube-node-lease", node), "get update"),
        (on("coordination.k8s.io", "leases", "", "kube-node-lease", ""), "create"),
        (on("", "events", "", "", ""), "create patch"),
        (on("", "secrets", "", namespace, "orca-keys"), "get"),
        (on("", "secrets", "", namespace, ""), "create"),
        (on("", "users", "", "", &identity), "impersonate"),
        (on("", "groups", "", "", "system:nodes"), "impersonate"),
        (on("", "namespaces", "", "", ""), "get"),
        (on("batch", "jobs", "", "", ""), "get"),
        (on("apps", "replicasets", "", "", ""), "get"),
        (on("apps", "deployments", "", "", ""), "get"),
        (on("apps", "statefulsets", "", "", ""), "get"),
        (on("authentication.k8s.io", "tokenreviews", "", "", ""), "create"),
        (on("authorization.k8s.io", "subjectaccessreviews", "", "", ""), "create"),
        (on("", "configmaps", "", "kube-system", "extension-apiserver-authentication"), "get"),
    ];
    let mut needs = Vec::new();
    for (attributes, verbs) in table {
        for verb in verbs.split(' ') {
            needs.push(ResourceAttributes { verb: Some(verb.to_owned()), ..attributes.clone() });
        }
    }
    needs
}

/// `patch nodes/status orca`, as `kubectl auth can-i` would be asked.
fn describe(need: &ResourceAttributes) -> String {
    let part = |text: &Option<String>, before: &str| {
        text.as_ref().map(|text| format!("{before}{text}")).unwrap_or_default()
    };
    format!(
        "{}{}{}{}{}",
        part(&need.verb, ""),
        part(&need.resource, " "),
        part(&need.subresource, "/"),
        part(&need.name, " "),
        part(&need.namespace, " in ")
    )
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::routing::post;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn each_permission_is_asked_for_and_a_missing_one_is_named() {
        let router = axum::Router::new().route(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            post(|Json(mut review): Json<Value>| async move {
                let allowed = review["spec"]["resourceAttributes"]["verb"] != "impersonate";
                review["status"] = json!({"allowed": allowed});
                Json(review)
            }),
        );
        let service = router.map_request(|request: http::Request<Body>| request.map(axum::body::Body::new));
        let client = Client::new(service, "default");
        let findings = permissions(&client, "orca", "orca-system").await;
        let refused: Vec<&str> =
            findings.iter().filter(|f| f.outcome.is_err()).map(|f| f.what.as_str()).collect();
        assert_eq!(
            refused,
            ["may impersonate users system:node:orca", "may impersonate groups system:nodes"]
        );
        assert!(findings.iter().any(|f| f.what == "may update leases orca in kube-node-lease"));
        assert!(findings.iter().any(|f| f.what == "may patch pods/status"));
    }

    #[test]
    fn the_minor_version_is_read_with_or_without_a_plus() {
        assert_eq!(minor("36"), Some(36));
        assert_eq!(minor("36+"), Some(36));
        assert_eq!(minor(""), None);
    }
}
