//! What a machine of a type offers to its pod.
//!
//! The planner compares a pod with this, and the private Node shows the very same to the machine's kubelet, so that
//! what was chosen is also admitted.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cloud::InstanceType;

/// Pods on one machine: ours, and static ones that run vendors' device plugins.
pub const MAX_PODS: u32 = 16;

/// Capacity and allocatable. Nothing is set aside: who asks for a type by its advertised size gets it, and what the
/// system needs comes out of what the pod does not use. GPUs are not in it, since a kubelet without
/// a device plugin must not look for them.
#[must_use]
pub fn capacity(instance_type: &InstanceType, root_volume_gib: u32) -> BTreeMap<String, Quantity> {
    [
        ("cpu", instance_type.vcpus.to_string()),
        ("memory", format!("{}Mi", instance_type.memory_mib)),
        ("ephemeral-storage", format!("{root_volume_gib}Gi")),
        ("pods", MAX_PODS.to_string()),
    ]
    .map(|(resource, amount)| (resource.to_owned(), Quantity(amount)))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Gpus;

    #[test]
    fn a_type_offers_what_it_is_sold_as_and_no_gpu() {
        let gpus = Gpus {
            count: 1,
            share_of: 1,
            model: "A10G".to_owned(),
            manufacturer: "NVIDIA".to_owned(),
            memory_mib: 24576,
        };
        let kind = InstanceType {
            name: "g5.xlarge".to_owned(),
            vcpus: 4,
            memory_mib: 16384,
            arch: "amd64".to_owned(),
            gpus: Some(gpus),
            nitro: true,
            ..InstanceType::default()
        };
        let shown: Vec<_> =
            capacity(&kind, 100).into_iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect();
        assert_eq!(shown, ["cpu=4", "ephemeral-storage=100Gi", "memory=16384Mi", "pods=16"]);
    }
}
