//! What the virtual node should not promise: nothing of what a quota of the account, or the operator's budget, keeps from
//! its pods.
//!
//! Pure. While a pod waits for one of them, the node offers no more than what its pods ask for now, so that the scheduler
//! looks elsewhere; pods that are here keep their places.

use std::collections::BTreeMap;

/// One pod of the node that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) gpus: u64,
    /// For a quota or the budget.
    pub(super) waits: bool,
}

/// The most that may be allocatable, by resource; what is not named is as configured.
pub(super) fn ceilings(pods: &[Demand], gpu_resource: &str) -> BTreeMap<String, u64> {
    let waits = |of_gpus: bool| pods.iter().any(|pod| pod.waits && (pod.gpus > 0) == of_gpus);
    let mut ceilings = BTreeMap::new();
    if waits(true) {
        ceilings.insert(gpu_resource.to_owned(), pods.iter().map(|pod| pod.gpus).sum());
    }
    if waits(false) {
        ceilings.insert("pods".to_owned(), u64::try_from(pods.len()).unwrap_or(u64::MAX));
    }
    ceilings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pods: &[(u64, bool)]) -> String {
        let pods: Vec<Demand> = pods.iter().map(|&(gpus, waits)| Demand { gpus, waits }).collect();
        let ceilings = ceilings(&pods, "nvidia.com/gpu");
        ceilings.iter().map(|(name, most)| format!("{name}={most}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_bound_lowers_what_is_promised_to_what_is_asked_for_now() {
        assert_eq!(shown(&[(1, false), (0, false)]), "");
        assert_eq!(shown(&[(1, false), (4, true), (0, false)]), "nvidia.com/gpu=5");
        assert_eq!(shown(&[(1, false), (0, true)]), "pods=2");
        assert_eq!(shown(&[(1, true), (0, true)]), "nvidia.com/gpu=1 pods=2");
    }
}
