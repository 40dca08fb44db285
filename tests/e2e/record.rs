//! What the API server has on record of ORCA, at the end of all tests: it was allowed everything it asked for, by the
//! manifests alone, and everything that the manifests allow was needed.

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

use crate::world::{Namespace, World};

pub(crate) const TESTS: &[crate::Test] =
    &[("record::orca_has_the_permissions_that_it_needs_and_no_others", permissions)];

/// What everybody who is authenticated may do: roles that every cluster has.
const EVERYBODYS: [&str; 2] = ["selfsubjectaccessreviews", "selfsubjectreviews"];

/// Allowed, and yet not seen here: with the reason.
const UNSEEN: [(&str, &str); 0] = [];

/// The API server's audit log: what ORCA asked for, under its own name or as the node.
pub(crate) fn entries(world: &World) -> Result<Vec<Value>> {
    let log = world.log("audit.log")?;
    // The last line may not be whole yet.
    Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A rule of the manifests that allows one verb on one resource.
#[derive(Debug, PartialEq, Eq)]
struct Permission {
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Any, if there is none.
    names: Vec<String>,
}

impl Permission {
    fn to_text(&self) -> String {
        let Self { namespace, group, resource, verb, names } = self;
        format!("{verb} {resource}.{group} {names:?} in {}", namespace.as_deref().unwrap_or("all"))
    }

    fn allows(&self, asked: &Self) -> bool {
        let is_named = asked.names.iter().all(|name| self.names.contains(name));
        (self.namespace.is_none() || self.namespace == asked.namespace)
            && (&self.group, &self.resource, &self.verb) == (&asked.group, &asked.resource, &asked.verb)
            && (self.names.is_empty() || !asked.names.is_empty() && is_named)
    }
}

fn permissions(ns: &Namespace<'_>) -> Result<()> {
    let allowed = allowed()?;
    ensure!(allowed.len() > 20, "{allowed:?}");
    let mut used = vec![false; allowed.len()];
    let mut wrong = Vec::new();
    for entry in entries(ns.world)? {
        for asked in asked(&entry) {
            let found = allowed.iter().position(|one| one.allows(&asked));
            if let Some(found) = found {
                used[found] = true;
            }
            // Not every 403: a namespace that is being deleted takes no new objects, whoever asks.
            let is_forbidden = !entry["impersonatedUser"].is_object()
                && entry["annotations"]["authorization.k8s.io/decision"] == "forbid";
            let is_everybodys = EVERYBODYS.contains(&asked.resource.as_str());
            if found.is_none() && !is_everybodys || is_forbidden {
                let text = asked.to_text();
                if !wrong.contains(&text) {
                    wrong.push(text);
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "asked for and not allowed by manifests/:\n{}", wrong.join("\n"));
    let unused: Vec<String> =
        allowed.iter().zip(&used).filter(|(_, used)| !**used).map(|(one, _)| one.to_text()).collect();
    let expected: Vec<&str> = UNSEEN.iter().map(|(permission, _)| *permission).collect();
    ensure!(unused == expected, "allowed by manifests/ and never used:\n{}", unused.join("\n"));
    Ok(())
}

/// Every permission of the manifests, one a verb and resource.
fn allowed() -> Result<Vec<Permission>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/rbac.yaml"))?;
    let mut all = Vec::new();
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    for document in serde_yaml::Deserializer::from_str(&text) {
        let document = Value::deserialize(document)?;
        let namespace = document["metadata"]["namespace"].as_str().map(str::to_owned);
        // The one role that is not ours, as every cluster has it.
        if document["roleRef"]["name"] == "extension-apiserver-authentication-reader" {
            all.push(Permission {
                namespace: namespace.clone(),
                group: String::new(),
                resource: "configmaps".to_owned(),
                verb: "get".to_owned(),
                names: vec!["extension-apiserver-authentication".to_owned()],
            });
        }
        for rule in document["rules"].as_array().into_iter().flatten() {
            let group = words(&rule["apiGroups"]).pop().context("apiGroups")?;
            for resource in words(&rule["resources"]) {
                all.extend(words(&rule["verbs"]).into_iter().map(|verb| Permission {
                    namespace: namespace.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb,
                    names: words(&rule["resourceNames"]),
                }));
            }
        }
    }
    Ok(all)
}

/// What a line of the record needed permission for. As the node, ORCA needs none but to be the node.
fn asked(entry: &Value) -> Vec<Permission> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let permission = |resource: &str, verb: &str, names: Vec<String>| Permission {
        namespace: entry["objectRef"]["namespace"].as_str().map(str::to_owned),
        group: word(&entry["objectRef"]["apiGroup"]),
        resource: resource.to_owned(),
        verb: verb.to_owned(),
        names,
    };
    let as_whom = &entry["impersonatedUser"];
    if as_whom.is_object() {
        let groups = as_whom["groups"].as_array().into_iter().flatten();
        let groups = groups.map(word).filter(|group| group != "system:authenticated").collect();
        return vec![
            Permission {
                group: String::new(),
                ..permission("users", "impersonate", vec![word(&as_whom["username"])])
            },
            Permission { group: String::new(), ..permission("groups", "impersonate", groups) },
        ];
    }
    let about = &entry["objectRef"];
    let Some(resource) = about["resource"].as_str() else { return Vec::new() };
    let resource = match about["subresource"].as_str() {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.to_owned(),
    };
    let names = about["name"].as_str().map(str::to_owned).into_iter().collect();
    vec![permission(&resource, &word(&entry["verb"]), names)]
}
