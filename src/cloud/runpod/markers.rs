//! Whose a pod is: by its name and by variables in its environment, since RunPod has no tags of its own. Pure.
//!
//! Both must agree before anything is shown or touched: an account has pods of others, and names can be equal by chance.

use std::collections::BTreeMap;

use super::types::{Order, Sighting};
use crate::cloud::{TAG_CLUSTER, TAG_EPOCH, TAG_NODE, TAG_POD_NAME, TAG_POD_NAMESPACE, TAG_POD_UID};

const CLUSTER: &str = "ORCA_CLUSTER";
const NODE: &str = "ORCA_NODE";
/// The launch's token.
const TOKEN: &str = "ORCA_TOKEN";
/// Which marker stands for which tag.
const TAGS: [(&str, &str); 6] = [
    (CLUSTER, TAG_CLUSTER),
    (NODE, TAG_NODE),
    ("ORCA_POD_UID", TAG_POD_UID),
    ("ORCA_POD_NAMESPACE", TAG_POD_NAMESPACE),
    ("ORCA_POD_NAME", TAG_POD_NAME),
    ("ORCA_EPOCH", TAG_EPOCH),
];

/// One virtual node of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) cluster_id: String,
    pub(super) node: String,
}

impl Owner {
    /// The order as it is sent: named and marked as the launch of `token` with these tags.
    pub(super) fn mark(&self, order: &Order, token: &str, tags: &BTreeMap<String, String>) -> Order {
        let mut order = order.clone();
        let tag = |key: &str| tags.get(key).map(String::as_str).unwrap_or_default();
        order.name = self.name(tag(TAG_POD_UID), tag(TAG_EPOCH));
        for (marker, key) in TAGS {
            let value = match key {
                TAG_CLUSTER => &self.cluster_id,
                TAG_NODE => &self.node,
                _ => tag(key),
            };
            order.env.insert(marker.to_owned(), value.to_owned());
        }
        order.env.insert(TOKEN.to_owned(), token.to_owned());
        order
    }

    /// `orca-`, eight characters of the cluster, the pod's UID and the epoch, 57 characters at most.
    fn name(&self, uid: &str, epoch: &str) -> String {
        let epoch = if epoch.is_empty() { "0" } else { epoch };
        format!("{}{}-{}", self.prefix(), plain(uid, 32), plain(epoch, 10))
    }

    fn prefix(&self) -> String {
        format!("orca-{}-", plain(&self.cluster_id, 8))
    }

    /// Whether a pod is this cluster's and node's.
    pub(super) fn owns(&self, pod: &Sighting) -> bool {
        let is = |marker: &str, value: &str| pod.markers.get(marker).map(String::as_str) == Some(value);
        self.may_own(pod) && is(CLUSTER, &self.cluster_id) && is(NODE, &self.node)
    }

    /// Whether it may be, by its name alone.
    pub(super) fn may_own(&self, pod: &Sighting) -> bool {
        pod.name.starts_with(&self.prefix())
    }
}

/// The token of the launch that made it.
pub(super) fn token(pod: &Sighting) -> Option<&str> {
    pod.markers.get(TOKEN).map(String::as_str).filter(|token| !token.is_empty())
}

/// What its markers say, as tags.
pub(super) fn tags(pod: &Sighting) -> BTreeMap<String, String> {
    let tag = |(marker, key): (&str, &str)| Some((key.to_owned(), pod.markers.get(marker)?.clone()));
    TAGS.into_iter().filter_map(tag).collect()
}

/// Letters and digits alone, so many at most.
fn plain(text: &str, most: usize) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{mk_order, mk_owner, mk_seen, mk_tags};
    use super::*;

    #[test]
    fn an_order_carries_cluster_node_pod_and_launch() {
        let (owner, tags) = (mk_owner(), mk_tags());
        let marked = owner.mark(&mk_order(), "token-1", &tags);
        assert_eq!(marked.name, "orca-0a1b2c3d-7f00aa11bb22cc33dd44ee55ff667788-3");
        assert!(marked.name.len() <= 60);
        assert_eq!(marked.env["MODEL"], "llama");
        let seen = Sighting { name: marked.name, markers: marked.env, ..mk_seen("a") };
        assert!(owner.owns(&seen));
        assert_eq!(token(&seen), Some("token-1"));
        let expected: BTreeMap<_, _> = tags
            .into_iter()
            .chain([(TAG_CLUSTER.to_owned(), owner.cluster_id.clone()), (TAG_NODE.to_owned(), owner.node)])
            .collect();
        assert_eq!(super::tags(&seen), expected);
    }

    #[test]
    fn nobody_elses_pod_is_ours() {
        let owner = mk_owner();
        let marked = owner.mark(&mk_order(), "t", &mk_tags());
        let ours = Sighting { name: marked.name, markers: marked.env, ..mk_seen("a") };
        let without = |marker: &str| {
            let mut pod = ours.clone();
            pod.markers.remove(marker);
            pod
        };
        let with = |marker: &str, value: &str| {
            let mut pod = ours.clone();
            pod.markers.insert(marker.to_owned(), value.to_owned());
            pod
        };
        for foreign in [
            Sighting { name: "orca-ffffffff-7f00-3".to_owned(), ..ours.clone() },
            Sighting { name: "training".to_owned(), ..ours.clone() },
            without(CLUSTER),
            without(NODE),
            with(CLUSTER, "0a1b2c3d-another-cluster-with-the-same-beginning"),
            with(NODE, "another"),
        ] {
            assert!(!owner.owns(&foreign), "{foreign:?}");
        }
        assert!(owner.owns(&ours) && owner.may_own(&without(NODE)));
    }

    #[test]
    fn users_cannot_mark_a_pod_as_anothers() {
        let mut order = mk_order();
        order.env.insert(CLUSTER.to_owned(), "theirs".to_owned());
        order.env.insert(TOKEN.to_owned(), "theirs".to_owned());
        let marked = mk_owner().mark(&order, "t", &mk_tags());
        assert_eq!(
            (marked.env[CLUSTER].as_str(), marked.env[TOKEN].as_str()),
            (&*mk_owner().cluster_id, "t")
        );
    }

    proptest::proptest! {
        #[test]
        fn names_fit_whatever_they_are_made_of(cluster: String, uid: String, epoch: u32) {
            let owner = Owner { cluster_id: cluster, node: "n".to_owned() };
            let name = owner.name(&uid, &epoch.to_string());
            proptest::prop_assert!(name.len() <= 60 && name.is_ascii(), "{}", name);
        }
    }
}
