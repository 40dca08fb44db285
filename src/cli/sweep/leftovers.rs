//! Volumes and network interfaces that outlived their machines, for `orca sweep`.
//!
//! It has seconds where the running ORCA has minutes, so it takes less for granted: the pod must be gone, too.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::super::table::{cells, columns, or_dash};
use super::ORPHAN_AGE;
use crate::capacity::money::MicroUsd;
use crate::cloud::{Cloud, CloudError, Instance, Leftover, LeftoverKind};

/// What was found of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) left: Vec<Leftover>,
    /// What could not be listed, and why.
    pub(super) unseen: Vec<String>,
}

/// Lists both kinds. One that is not allowed is noted, so that machines are looked for all the same.
pub(super) async fn list(cloud: &impl Cloud) -> Result<Found, CloudError> {
    let mut found = Found::default();
    for kind in LeftoverKind::ALL {
        match cloud.leftovers(kind).await {
            Ok(left) => found.left.extend(left),
            Err(error @ CloudError::Denied { .. }) => {
                found
                    .unseen
                    .push(format!("{}s that machines left behind are not seen: {error}", kind.noun()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Those of the node whose pod is neither among these nor has one of these machines.
pub(super) fn of_node(
    (cluster_id, node): (&str, &str),
    left: Vec<Leftover>,
    machines: &[Instance],
    pods: &HashSet<&str>,
) -> Vec<Leftover> {
    let live = machines.iter().filter(|one| one.state.may_run()).filter_map(Instance::pod_uid);
    let claimed: HashSet<&str> = live.chain(pods.iter().copied()).collect();
    let is_free = |one: &Leftover| one.pod_uid().is_some_and(|uid| !claimed.contains(uid));
    left.into_iter().filter(|one| one.is_of(cluster_id, node) && is_free(one)).collect()
}

/// What was seen twice and is old enough, as far as the cloud tells ages.
pub(super) fn due<'a>(first: &[Leftover], second: &'a [Leftover], now: Timestamp) -> Vec<&'a Leftover> {
    let before: HashSet<&str> = first.iter().map(|one| one.id.as_str()).collect();
    let is_due = |one: &&Leftover| {
        before.contains(one.id.as_str()) && age(one, now).is_none_or(|age| age >= ORPHAN_AGE)
    };
    second.iter().filter(is_due).collect()
}

fn age(one: &Leftover, now: Timestamp) -> Option<Duration> {
    one.created_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default())
}

/// As a table, with what they cost.
pub(super) fn shown(left: &[Leftover], now: Timestamp) -> String {
    if left.is_empty() {
        return "no volume or network interface of this node has outlived its machine\n".to_owned();
    }
    let mut lines = vec![cells(["LEFT BEHIND", "WHAT", "AGE", "POD", "UID", "$/H"])];
    lines.extend(left.iter().map(|one| {
        [
            one.id.clone(),
            format!("{} {}", one.kind.noun(), one.brief()),
            or_dash(age(one, now).map(|age| format!("{}s", age.as_secs())).as_deref()),
            one.pod(),
            or_dash(one.pod_uid()),
            or_dash(one.hourly().map(|price| price.to_string()).as_deref()),
        ]
    }));
    let sum: MicroUsd = left.iter().filter_map(Leftover::hourly).sum();
    format!("{}{} outlived their machines, ${sum} an hour at list price\n", columns("", &lines), left.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::mk_instance;
    use crate::cloud::{InstanceState, TAG_NODE, TAG_POD_UID, mk_leftover};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn of(id: &str, uid: &str) -> Leftover {
        let mut one = mk_leftover(LeftoverKind::Volume, id);
        one.tags.insert(TAG_POD_UID.to_owned(), uid.to_owned());
        one
    }

    fn ids<'a>(all: impl IntoIterator<Item = &'a Leftover>) -> Vec<&'a str> {
        all.into_iter().map(|one| one.id.as_str()).collect()
    }

    #[test]
    fn only_what_is_this_nodes_and_has_neither_pod_nor_machine_is_left_over() {
        let machine = |uid: &str, state| {
            let tags = [(TAG_POD_UID.to_owned(), uid.to_owned())].into();
            Instance { tags, ..mk_instance("i-1", state) }
        };
        let machines =
            [machine("runs", InstanceState::Running), machine("gone", InstanceState::ShuttingDown)];
        let mut foreign = of("vol-foreign", "gone");
        foreign.tags.insert(TAG_NODE.to_owned(), "another".to_owned());
        let left = vec![of("vol-left", "gone"), of("vol-pod", "there"), of("vol-machine", "runs"), foreign];
        assert_eq!(ids(&of_node(("c", "orca"), left, &machines, &["there"].into())), ["vol-left"]);
    }

    #[test]
    fn nothing_is_deleted_that_was_seen_once_or_is_young() {
        let young = Leftover { created_at: Some(at(1_000)), ..of("vol-young", "u") };
        let nic = mk_leftover(LeftoverKind::NetworkInterface, "eni-old");
        let (first, second) =
            ([of("vol-old", "u"), young.clone(), nic.clone()], [of("vol-old", "u"), young, nic]);
        assert_eq!(ids(due(&first, &second, at(1_059))), ["vol-old", "eni-old"]);
        assert_eq!(ids(due(&first, &second, at(1_060))), ["vol-old", "vol-young", "eni-old"]);
        assert_eq!(ids(due(&[], &second, at(1_060))), Vec::<&str>::new());
    }

    #[test]
    fn they_are_shown_with_what_they_cost() {
        let left = [
            mk_leftover(LeftoverKind::Volume, "vol-1"),
            mk_leftover(LeftoverKind::NetworkInterface, "eni-1"),
        ];
        insta::assert_snapshot!(shown(&left, at(90)), @"
        LEFT BEHIND  WHAT                              AGE  POD       UID  $/H
        vol-1        volume 100 GiB gp3 in us-east-1a  90s  ml/train  u-1  0.010959
        eni-1        network interface in subnet-a     -    ml/train  u-1  0.00
        2 outlived their machines, $0.010959 an hour at list price
        ");
        assert_eq!(
            shown(&[], at(90)),
            "no volume or network interface of this node has outlived its machine\n"
        );
    }
}
