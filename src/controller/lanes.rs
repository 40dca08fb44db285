//! Who is next, fair between groups: each group with something waiting has its turn before any has a second.
//!
//! A burst of one namespace makes it wait for itself. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Waiting things, by group.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// Groups with something in them, the next one first.
    turns: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<T>>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> Lanes<T> {
    pub(super) fn push(&mut self, group: &Arc<str>, one: T) {
        if let Some(lane) = self.waiting.get_mut(group) {
            lane.push_back(one);
        } else {
            self.turns.push_back(group.clone());
            self.waiting.insert(group.clone(), VecDeque::from([one]));
        }
    }

    /// The first of the group whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let group = self.turns.pop_front()?;
        let lane = self.waiting.get_mut(&group)?;
        let one = lane.pop_front();
        if lane.is_empty() {
            self.waiting.remove(&group);
        } else {
            self.turns.push_back(group);
        }
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_turn_before_any_has_a_second() {
        let mut lanes = Lanes::default();
        let (many, few): (Arc<str>, Arc<str>) = ("many".into(), "few".into());
        for i in 0..1000 {
            lanes.push(&many, i);
        }
        lanes.push(&few, -1);
        assert_eq!([lanes.pop(), lanes.pop(), lanes.pop()], [Some(0), Some(-1), Some(1)]);
        lanes.push(&few, -2);
        assert_eq!([lanes.pop(), lanes.pop(), lanes.pop()], [Some(2), Some(-2), Some(3)]);
        assert_eq!(std::iter::from_fn(|| lanes.pop()).collect::<Vec<_>>(), (4..1000).collect::<Vec<_>>());
        assert!(lanes.turns.is_empty() && lanes.waiting.is_empty(), "nothing of them is kept");
    }
}
