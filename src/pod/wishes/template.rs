//! Templates: a chain of them made into one layer, and what is wrong with what the operator wrote.

use super::collect::{Source, collect};
use super::guard::Trust;
use super::settle::settle;
use super::volume;
use crate::config::Instances;
use crate::pod::ask::Problem;
use crate::pod::layers::Layer;

/// Makes one layer of a template and the templates that it extends, nearest first, with everything that is wrong in
/// them. What they say together follows the same rules as what a pod and its namespace say together.
pub(crate) fn flatten(chain: &[&Layer], rules: &Instances) -> (Layer, Vec<Problem>) {
    let mut problems = Vec::new();
    let sources: Vec<Source<'_>> = chain
        .iter()
        // Not the pod's rank: a limit for spot may stand alone in a template.
        .zip(1..)
        .map(|(layer, rank)| Source { layer, trust: Trust::Operator, rank, machine_rank: rank, level: 0 })
        .collect();
    let mut said = collect(&sources, rules, &mut problems);
    settle(&mut said, rules, None, &mut problems);
    volume::check(&said, rules, &mut problems);
    let origin = chain.first().map_or_else(String::new, |layer| layer.origin.clone());
    let values = said.into_values().map(|said| (said.name.to_owned(), said.text)).collect();
    (Layer { origin, values }, problems)
}
