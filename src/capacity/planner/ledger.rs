//! What was not chosen, by rule: counted, with the first few examples in words.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Rejected;
use super::rule::Rule;
use crate::pod::ask::Problem;

/// Examples that are put into words; the rest is counted.
const EXAMPLES: usize = 3;

/// Everything that was found against candidates.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    found: BTreeMap<Rule, Tally>,
    /// Contradictions in what the pod says: it is refused, whatever else could be had.
    pub(super) fatal: Vec<(Rule, Problem)>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) count: usize,
    pub(super) examples: Vec<String>,
    /// The first moment at which time helps.
    pub(super) until: Option<Timestamp>,
}

impl Ledger {
    pub(super) fn note(&mut self, rule: Rule, example: impl FnOnce() -> String) {
        self.note_until(rule, None, example);
    }

    pub(super) fn note_until(
        &mut self,
        rule: Rule,
        until: Option<Timestamp>,
        example: impl FnOnce() -> String,
    ) {
        let tally = self.found.entry(rule).or_default();
        tally.count += 1;
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(example());
        }
        tally.until = match (tally.until, until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Rule, &Tally)> {
        self.found.iter().map(|(rule, tally)| (*rule, tally))
    }

    pub(super) fn into_rejected(self) -> Vec<Rejected> {
        let one = |(rule, tally): (Rule, Tally)| Rejected {
            rule,
            count: tally.count,
            example: tally.examples.join(", "),
        };
        self.found.into_iter().map(one).collect()
    }
}

impl Tally {
    /// `a, b, c and 4 more`.
    pub(super) fn named(&self) -> String {
        let shown = self.examples.join(", ");
        match self.count.saturating_sub(self.examples.len()) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    }
}
