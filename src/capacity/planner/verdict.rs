//! What follows from a plan without candidates: the pod is refused if time cannot help, and waits if it can.

use super::pass::Pass;
use super::rule::Rule;
use super::types::Types;
use super::{Selection, Verdict, explain};
use crate::pod::ask::{Problem, Rejection};
use crate::pod::reasons;

/// Rules that a message names; what else there is stands in the list of the rejected.
const NAMED: usize = 5;

impl Pass<'_, '_> {
    pub(super) fn verdict(&self, types: &Types<'_>) -> Verdict {
        let fatal = self.ledger.fatal.iter();
        let mut problems: Vec<Problem> = fatal.map(|(_, problem)| problem.clone()).collect();
        if problems.is_empty() && !self.drafts.is_empty() {
            return Verdict::Launch;
        }
        let fitless = types.search.as_ref().filter(|search| !search.found);
        if problems.is_empty()
            && let Some(wait) = self.wait()
        {
            return wait;
        }
        if let Some(search) = fitless {
            problems.extend(explain::too_large(self.ask, search));
        }
        self.broken_rules(types, &mut problems);
        if let Some(search) = fitless.filter(|_| problems.is_empty()) {
            problems.extend(search.furthest.map(|rule| explain::none_fits(rule, self.ask)));
        }
        Rejection::of(problems).map_or_else(|| self.nothing(), Verdict::Refuse)
    }

    fn wait(&self) -> Option<Verdict> {
        let waits: Vec<_> =
            self.ledger.iter().filter_map(|(rule, tally)| Some((rule, tally, rule.wait_reason()?))).collect();
        let (_, _, first) = waits.first()?;
        let is_one = waits.iter().all(|(_, _, reason)| reason == first);
        let said =
            waits.iter().take(NAMED).map(|(rule, tally, _)| format!("{}: {}", rule.phrase(), tally.named()));
        Some(Verdict::Wait {
            reason: if is_one { first } else { reasons::NO_CAPACITY },
            message: format!("no machine to be had now: {}", said.collect::<Vec<_>>().join("; ")),
            until: waits.iter().filter_map(|(_, tally, _)| tally.until).min(),
        })
    }

    /// What is against places, markets, reservations and listed types; each field is told once.
    fn broken_rules(&self, types: &Types<'_>, problems: &mut Vec<Problem>) {
        let is_search = types.search.as_ref().is_some_and(|search| search.selection == Selection::Cheapest);
        let is_told = |rule: Rule| {
            let is_of_types = rule <= Rule::NotReserved;
            let is_size = matches!(rule, Rule::Gpus | Rule::Cpu | Rule::Memory);
            let is_place = matches!(rule, Rule::ZoneNotWished | Rule::SubnetNotWished);
            let is_fatal = self.ledger.fatal.iter().any(|(fatal, _)| *fatal == rule);
            !(is_fatal
                || (is_of_types && (is_search || (is_size && types.search.is_some())))
                || (is_place && !self.places.is_empty()))
        };
        let rules = self.ledger.iter().filter(|(rule, _)| rule.wait_reason().is_none() && is_told(*rule));
        for problem in rules.map(|(rule, tally)| explain::problem(rule, &tally.named(), self.ask)) {
            // A size that is told already, told again as a kind.
            let is_same = |one: &Problem| one.path == problem.path && one.reason == reasons::OUT_OF_GPU;
            if !problems.iter().any(is_same) {
                problems.push(problem);
            }
        }
    }

    /// Every rule that takes candidates out is noted, so this is not seen; if it were, a pod waits, not fails.
    fn nothing(&self) -> Verdict {
        Verdict::Wait {
            reason: reasons::NO_CAPACITY,
            message: "no machine can be had now".to_owned(),
            until: None,
        }
    }
}
