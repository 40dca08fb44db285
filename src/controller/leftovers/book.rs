//! What was seen of leftovers, how often and since when, and which of them may go. Pure: times are arguments.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::cloud::{Leftover, LeftoverKind};

/// Lists that must have shown one before it is deleted.
const SIGHTINGS: u32 = 2;
/// For so long nothing must have had it, as far as anybody saw, and it must be this old: a launch that is under way makes
/// its volume first, and EC2 is eventually consistent.
pub(crate) const AGE: Duration = Duration::from_secs(300);
/// Ids that one event names.
const NAMED: usize = 5;

/// Sightings of one kind of leftovers.
#[derive(Debug, Default)]
pub(super) struct Book {
    seen: BTreeMap<String, Sighting>,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    /// On the steady clock.
    first: Timestamp,
    lists: u32,
}

/// Whose leftovers are looked for, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eye<'a> {
    pub(super) cluster_id: &'a str,
    pub(super) node: &'a str,
    /// UIDs of the pods that have a machine, or are being given one; known after the list was.
    pub(super) alive: &'a HashSet<String>,
    /// What is compared with sightings.
    pub(super) steady: Timestamp,
    /// What is compared with the cloud's times.
    pub(super) wall: Timestamp,
}

/// What a list comes to.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// All that are this node's.
    pub(super) ours: Vec<Leftover>,
    /// Those seen for the first time.
    pub(super) fresh: Vec<Leftover>,
    /// Those that may go.
    pub(super) due: Vec<Leftover>,
    /// Whether another list may let more of them go.
    pub(super) awaits: bool,
}

impl Book {
    /// Takes over a list.
    pub(super) fn take(&mut self, list: Vec<Leftover>, eye: &Eye<'_>) -> Look {
        let mut look = Look::default();
        let mut seen = BTreeMap::new();
        for one in list.into_iter().filter(|one| one.is_of(eye.cluster_id, eye.node)) {
            look.ours.push(one.clone());
            // What a pod's former machine left is looked at when the pod has none: nothing is guessed about which
            // machine it was.
            if is_claimed(&one, eye.alive) {
                continue;
            }
            let before = self.seen.get(&one.id).copied();
            let now = before.map_or(Sighting { first: eye.steady, lists: 1 }, |before| Sighting {
                lists: before.lists.saturating_add(1),
                ..before
            });
            seen.insert(one.id.clone(), now);
            if now.is_due(&one, eye) {
                look.due.push(one);
                continue;
            }
            look.awaits = true;
            if before.is_none() {
                look.fresh.push(one);
            }
        }
        // What a list lacks was deleted, or something has it: if it comes back, it is seen for the first time.
        self.seen = seen;
        look
    }

    /// Something has it after all.
    pub(super) fn forget(&mut self, id: &str) {
        self.seen.remove(id);
    }
}

impl Sighting {
    fn is_due(self, one: &Leftover, eye: &Eye<'_>) -> bool {
        self.lists >= SIGHTINGS
            && after(self.first, AGE) <= eye.steady
            && one.created_at.is_none_or(|created| after(created, AGE) <= eye.wall)
    }
}

/// Whether a pod that is to have a machine may have it.
pub(super) fn is_claimed(one: &Leftover, alive: &HashSet<String>) -> bool {
    one.pod_uid().is_none_or(|uid| alive.contains(uid))
}

/// What is told of those that are seen for the first time.
pub(super) fn told(kind: LeftoverKind, fresh: &[Leftover]) -> String {
    let noun = kind.noun();
    let minutes = AGE.as_secs() / 60;
    let named = fresh.iter().take(NAMED).map(|one| {
        let cost = one.hourly().filter(|cost| cost.0 > 0).map(|cost| format!(", ${cost} an hour"));
        format!("{} ({}{}, of pod {})", one.id, one.brief(), cost.unwrap_or_default(), one.pod())
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match fresh.len() {
        1 => format!(
            "{noun} {named} has outlived its machine, and is deleted if nothing has it in {minutes} minutes"
        ),
        count => {
            let more = if count > NAMED { " and others" } else { "" };
            format!(
                "{count} {noun}s have outlived their machines, and are deleted if nothing has them in {minutes} \
                 minutes: {named}{more}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{TAG_NODE, TAG_POD_UID, mk_leftover};

    const LONG_AGO: i64 = 10_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(LONG_AGO + second).unwrap()
    }

    fn ids(all: &[Leftover]) -> Vec<&str> {
        all.iter().map(|one| one.id.as_str()).collect()
    }

    /// Takes a list at this second; `alive` are UIDs of pods with machines.
    fn take(book: &mut Book, second: i64, list: &[Leftover], alive: &[&str]) -> Look {
        let alive = alive.iter().map(|uid| (*uid).to_owned()).collect();
        let (cluster_id, node) = ("c", "orca");
        let eye = Eye { cluster_id, node, alive: &alive, steady: at(second), wall: at(second) };
        book.take(list.to_vec(), &eye)
    }

    /// What is due after lists at these seconds.
    fn due(lists: &[(i64, &[Leftover], &[&str])]) -> Vec<String> {
        let mut book = Book::default();
        let mut due = Vec::new();
        for (second, list, alive) in lists {
            due = ids(&take(&mut book, *second, list, alive).due).into_iter().map(str::to_owned).collect();
        }
        due
    }

    fn volume(id: &str) -> Leftover {
        mk_leftover(LeftoverKind::Volume, id)
    }

    fn interface(id: &str) -> Leftover {
        mk_leftover(LeftoverKind::NetworkInterface, id)
    }

    fn tagged(key: &str, value: &str) -> Leftover {
        let mut one = volume("vol-1");
        one.tags.insert(key.to_owned(), value.to_owned());
        one
    }

    fn made(second: i64) -> Leftover {
        Leftover { created_at: Some(at(second)), ..volume("vol-1") }
    }

    #[test]
    fn it_goes_after_two_sightings_and_an_age_if_it_is_ours_and_its_pod_has_no_machine() {
        let (vol, eni) = ([volume("vol-1")], [interface("eni-1")]);
        let no_uid = {
            let mut one = volume("vol-1");
            one.tags.remove(TAG_POD_UID);
            [one]
        };
        let none: &[&str] = &[];
        for (what, lists, expected) in [
            ("seen once", vec![(0, &vol[..], none)], vec![]),
            ("seen twice and long enough", vec![(0, &vol, none), (300, &vol, none)], vec!["vol-1"]),
            ("an interface has no age but ours", vec![(0, &eni, none), (300, &eni, none)], vec!["eni-1"]),
            ("seen twice in a hurry", vec![(0, &vol, none), (299, &vol, none)], vec![]),
            ("seen three times", vec![(0, &vol, none), (10, &vol, none), (300, &vol, none)], vec!["vol-1"]),
            ("made a moment ago", vec![(0, &[made(1)], none), (300, &[made(1)], none)], vec![]),
            ("old enough by now", vec![(0, &[made(1)], none), (301, &[made(1)], none)], vec!["vol-1"]),
            ("gone in between", vec![(0, &vol, none), (200, &[], none), (400, &vol, none)], vec![]),
            ("its pod has a machine", vec![(0, &vol, &["u-1"]), (300, &vol, &["u-1"])], vec![]),
            ("its pod has one now", vec![(0, &vol, none), (300, &vol, &["u-1"])], vec![]),
            (
                "its pod had one in between: all over again",
                vec![(0, &vol, none), (300, &vol, &["u-1"]), (301, &vol, none)],
                vec![],
            ),
            ("another pod has one", vec![(0, &vol, &["u-2"]), (300, &vol, &["u-2"])], vec!["vol-1"]),
            (
                "another node's",
                vec![(0, &[tagged(TAG_NODE, "b")], none), (300, &[tagged(TAG_NODE, "b")], none)],
                vec![],
            ),
            (
                "another cluster's",
                vec![
                    (0, &[tagged(crate::cloud::TAG_CLUSTER, "d")], none),
                    (300, &[tagged(crate::cloud::TAG_CLUSTER, "d")], none),
                ],
                vec![],
            ),
            ("of no pod", vec![(0, &no_uid, none), (300, &no_uid, none)], vec![]),
        ] {
            assert_eq!(due(&lists), expected, "{what}");
        }
    }

    #[test]
    fn each_is_told_of_once_and_all_that_are_ours_are_counted() {
        let mut book = Book::default();
        let foreign = Leftover { id: "vol-9".to_owned(), ..tagged(TAG_NODE, "another") };
        let look = take(&mut book, 0, &[volume("vol-1"), foreign.clone()], &[]);
        assert_eq!((ids(&look.ours), ids(&look.fresh)), (vec!["vol-1"], vec!["vol-1"]));
        let look = take(&mut book, 10, &[volume("vol-1"), volume("vol-2"), foreign], &[]);
        assert_eq!((ids(&look.ours), ids(&look.fresh)), (vec!["vol-1", "vol-2"], vec!["vol-2"]));
        assert!(look.awaits);
        let look = take(&mut book, 310, &[volume("vol-1"), volume("vol-2")], &[]);
        assert_eq!((ids(&look.due), look.awaits), (vec!["vol-1", "vol-2"], false));
        let look = take(&mut book, 320, &[volume("vol-3")], &["u-1"]);
        let seen = (ids(&look.ours), ids(&look.fresh), look.awaits);
        assert_eq!(seen, (vec!["vol-3"], vec![], false), "what a live pod may have costs money, too");
    }

    #[test]
    fn what_something_has_after_all_is_seen_anew() {
        let mut book = Book::default();
        take(&mut book, 0, &[volume("vol-1")], &[]);
        book.forget("vol-1");
        let look = take(&mut book, 400, &[volume("vol-1")], &[]);
        assert_eq!((ids(&look.due), ids(&look.fresh)), (vec![], vec!["vol-1"]));
    }

    #[test]
    fn the_wall_clock_alone_lets_nothing_go() {
        let mut book = Book::default();
        let alive = HashSet::new();
        for wall in [at(0), at(100_000)] {
            let eye = Eye { cluster_id: "c", node: "orca", alive: &alive, steady: at(0), wall };
            assert_eq!(ids(&book.take(vec![volume("vol-1")], &eye).due), Vec::<&str>::new());
        }
    }

    #[test]
    fn one_event_tells_of_all() {
        assert_eq!(
            told(LeftoverKind::Volume, &[volume("vol-1")]),
            "volume vol-1 (100 GiB gp3 in us-east-1a, $0.010959 an hour, of pod ml/train) has outlived its machine, and \
             is deleted if nothing has it in 5 minutes"
        );
        assert_eq!(
            told(LeftoverKind::NetworkInterface, &[interface("eni-1"), interface("eni-2")]),
            "2 network interfaces have outlived their machines, and are deleted if nothing has them in 5 minutes: eni-1 \
             (in subnet-a, of pod ml/train), eni-2 (in subnet-a, of pod ml/train)"
        );
        let many: Vec<Leftover> = (0..400).map(|n| volume(&format!("vol-{n}"))).collect();
        let text = told(LeftoverKind::Volume, &many);
        assert!(
            text.starts_with("400 volumes") && text.ends_with(" and others") && text.len() < 1024,
            "{text}"
        );
    }
}
