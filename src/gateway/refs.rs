//! Which Secrets and ConfigMaps a pod refers to: those, and no others, its machine may read.
//!
//! The same places that the API server's Node authorizer looks at. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, ConfigMapKeySelector, ConfigMapVolumeSource, EnvFromSource, EnvVar,
    LocalObjectReference, Pod, SecretEnvSource, SecretKeySelector, Volume,
};

use super::route::SourceKind;

/// Names in the pod's own namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
}

impl References {
    /// All that `pod` refers to.
    pub(crate) fn of(pod: &Pod) -> Self {
        let mut found = Self::default();
        let Some(spec) = &pod.spec else { return found };
        for secret in spec.image_pull_secrets.iter().flatten() {
            found.secrets.insert(secret.name.clone());
        }
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            found.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            found.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        for volume in spec.volumes.iter().flatten() {
            found.volume(volume);
        }
        found
    }

    /// Whether the pod refers to that Secret or ConfigMap.
    pub(crate) fn contain(&self, kind: SourceKind, name: &str) -> bool {
        match kind {
            SourceKind::Secret => self.secrets.contains(name),
            SourceKind::ConfigMap => self.config_maps.contains(name),
        }
    }

    fn environment(&mut self, env: Option<&[EnvVar]>, env_from: Option<&[EnvFromSource]>) {
        for source in env.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(SecretKeySelector { name, .. }) = &source.secret_key_ref {
                self.secrets.insert(name.clone());
            }
            if let Some(ConfigMapKeySelector { name, .. }) = &source.config_map_key_ref {
                self.config_maps.insert(name.clone());
            }
        }
        for source in env_from.into_iter().flatten() {
            if let Some(SecretEnvSource { name, .. }) = &source.secret_ref {
                self.secrets.insert(name.clone());
            }
            if let Some(ConfigMapEnvSource { name, .. }) = &source.config_map_ref {
                self.config_maps.insert(name.clone());
            }
        }
    }

    fn volume(&mut self, volume: &Volume) {
        if let Some(name) = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref()) {
            self.secrets.insert(name.clone());
        }
        if let Some(ConfigMapVolumeSource { name, .. }) = &volume.config_map {
            self.config_maps.insert(name.clone());
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(secret) = &source.secret {
                self.secrets.insert(secret.name.clone());
            }
            if let Some(config_map) = &source.config_map {
                self.config_maps.insert(config_map.name.clone());
            }
        }
        let of_drivers = [
            volume.cephfs.as_ref().and_then(|driver| driver.secret_ref.as_ref()),
            volume.csi.as_ref().and_then(|driver| driver.node_publish_secret_ref.as_ref()),
            volume.flex_volume.as_ref().and_then(|driver| driver.secret_ref.as_ref()),
            volume.iscsi.as_ref().and_then(|driver| driver.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|driver| driver.secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|driver| &driver.secret_ref),
            volume.storageos.as_ref().and_then(|driver| driver.secret_ref.as_ref()),
        ];
        for LocalObjectReference { name } in of_drivers.into_iter().flatten() {
            self.secrets.insert(name.clone());
        }
        if let Some(azure) = &volume.azure_file {
            self.secrets.insert(azure.secret_name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn references(spec: &serde_json::Value) -> References {
        References::of(&serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap())
    }

    #[test]
    fn every_place_that_names_one_is_found() {
        let found = references(&json!({
            "imagePullSecrets": [{ "name": "s-pull" }],
            "initContainers": [{
                "name": "i",
                "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s-init-env", "key": "k" } } }],
                "envFrom": [{ "configMapRef": { "name": "c-init-from" } }],
            }],
            "containers": [{
                "name": "c",
                "env": [{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "c-env", "key": "k" } } }],
                "envFrom": [{ "secretRef": { "name": "s-from" } }],
            }],
            "ephemeralContainers": [{
                "name": "e",
                "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s-ephemeral", "key": "k" } } }],
                "envFrom": [{ "configMapRef": { "name": "c-ephemeral" } }],
            }],
            "volumes": [
                { "name": "a", "secret": { "secretName": "s-volume" } },
                { "name": "b", "configMap": { "name": "c-volume" } },
                { "name": "c", "projected": { "sources": [
                    { "secret": { "name": "s-projected" } },
                    { "configMap": { "name": "kube-root-ca.crt" } },
                    { "serviceAccountToken": { "path": "token" } },
                ] } },
                { "name": "d", "csi": { "driver": "x", "nodePublishSecretRef": { "name": "s-csi" } } },
                { "name": "e", "azureFile": { "secretName": "s-azure", "shareName": "x" } },
            ],
        }));
        let secrets: Vec<_> = found.secrets.iter().map(String::as_str).collect();
        assert_eq!(
            secrets,
            ["s-azure", "s-csi", "s-ephemeral", "s-from", "s-init-env", "s-projected", "s-pull", "s-volume"]
        );
        let config_maps: Vec<_> = found.config_maps.iter().map(String::as_str).collect();
        assert_eq!(config_maps, ["c-env", "c-ephemeral", "c-init-from", "c-volume", "kube-root-ca.crt"]);
    }

    #[test]
    fn a_secret_is_not_a_config_map_of_the_same_name() {
        let found = references(&json!({
            "containers": [],
            "volumes": [{ "name": "b", "configMap": { "name": "x" } }],
        }));
        assert!(found.contain(SourceKind::ConfigMap, "x"));
        assert!(!found.contain(SourceKind::Secret, "x"));
    }

    #[test]
    fn a_pod_that_names_none_may_read_none() {
        assert_eq!(references(&json!({ "containers": [{ "name": "c" }] })), References::default());
    }
}
