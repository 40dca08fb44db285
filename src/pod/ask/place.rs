//! What a pod's own scheduling rules say of its machine.

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec};

use super::Problem;
use crate::pod::reasons;

const ARCH: &str = "kubernetes.io/arch";

/// `amd64` or `arm64`, where the node selector or the required node affinity leaves only one.
pub(super) fn architecture(spec: &PodSpec, problems: &mut Vec<Problem>) -> Option<String> {
    let (arch, path) = selected(spec).or_else(|| required(spec))?;
    if matches!(arch.as_str(), "amd64" | "arm64") {
        return Some(arch);
    }
    problems.push(Problem {
        reason: reasons::UNSUPPORTED_ARCHITECTURE,
        path,
        message: format!("is `{arch}`, expected `amd64` or `arm64`"),
    });
    None
}

fn selected(spec: &PodSpec) -> Option<(String, String)> {
    let arch = spec.node_selector.as_ref()?.get(ARCH)?;
    Some((arch.clone(), format!("spec.nodeSelector[{ARCH}]")))
}

/// Terms are alternatives: all of them must name the same one.
fn required(spec: &PodSpec) -> Option<(String, String)> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let first = only(terms.first()?)?;
    terms.iter().all(|term| only(term) == Some(first)).then(|| {
        let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        (first.to_owned(), path.to_owned())
    })
}

fn only(term: &NodeSelectorTerm) -> Option<&str> {
    let rules = term.match_expressions.iter().flatten();
    let mut rules = rules.filter(|rule| rule.key == ARCH && rule.operator == "In");
    match rules.next()?.values.as_deref()? {
        [only] => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: serde_json::Value) -> Result<Option<String>, String> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let mut problems = Vec::new();
        let arch = architecture(&serde_json::from_value(spec).unwrap(), &mut problems);
        problems.first().map_or(Ok(arch), |problem| Err(format!("{}: {}", problem.path, problem.message)))
    }

    fn affinity(terms: &[&[&str]]) -> serde_json::Value {
        let terms: Vec<_> = terms
            .iter()
            .map(|values| json!({"matchExpressions": [{"key": ARCH, "operator": "In", "values": values}]}))
            .collect();
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn the_architecture_is_what_selector_or_affinity_leave() {
        let arm = Ok(Some("arm64".to_owned()));
        assert_eq!(read(json!({"nodeSelector": {ARCH: "arm64"}})), arm);
        assert_eq!(read(affinity(&[&["arm64"]])), arm);
        assert_eq!(read(affinity(&[&["arm64"], &["arm64"]])), arm);
        assert_eq!(read(affinity(&[&["arm64"], &["amd64"]])), Ok(None));
        assert_eq!(read(affinity(&[&["arm64", "amd64"]])), Ok(None));
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(
            read(json!({"nodeSelector": {ARCH: "s390x"}})),
            Err("spec.nodeSelector[kubernetes.io/arch]: is `s390x`, expected `amd64` or `arm64`".to_owned())
        );
    }
}
