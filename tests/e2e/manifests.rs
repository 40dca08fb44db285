//! The manifests, as an API server sees them: kustomize builds them, and admission would let them in.

use anyhow::{Result, ensure};

use crate::world::Namespace;

pub(crate) const TESTS: &[crate::Test] =
    &[("manifests::kustomize_builds_them_and_the_api_server_would_take_them_as_they_stand", accepted)];

fn accepted(ns: &Namespace<'_>) -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
    // Not in the test's own namespace: every object names its own.
    let (code, taken, complaints) = ns.exit(&[
        "-n",
        "",
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-k",
        folder,
    ])?;
    ensure!(code == 0, "{complaints}");
    for object in [
        "namespace/orca-system",
        "serviceaccount/orca",
        "configmap/orca-config-",
        "deployment.apps/orca",
        "clusterrole.rbac.authorization.k8s.io/orca",
    ] {
        ensure!(taken.contains(object), "{object} is not among them:\n{taken}");
    }
    // The namespace asks for Pod Security `restricted`: a breach is a warning here, and a refusal of the pod.
    ensure!(!complaints.contains("violate PodSecurity"), "{complaints}");
    Ok(())
}
