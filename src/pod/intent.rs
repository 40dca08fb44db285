//! The launch intent: what was begun for a pod, kept in an annotation of the pod itself.
//!
//! It is written before RunInstances is called and says everything that decides the request, so that a crash
//! anywhere leads to the same instance or to none. The token is a function of the pod's UID, the epoch and the
//! candidate: an annotation that was copied from another pod does not fit and is told apart.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::capacity::plan::Candidate;
use crate::cloud::{Instance, TAG_EPOCH};

/// Annotation with the intent, JSON.
pub const ANNOTATION_LAUNCH: &str = "orca.research/launch";
/// Annotation with the instance id, for people.
pub const ANNOTATION_INSTANCE_ID: &str = "orca.research/instance-id";

/// One launch of a machine for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Counts the launches of this pod, from 0: every definite failure begins the next.
    pub epoch: u32,
    /// RunInstances' `ClientToken`.
    pub token: String,
    pub instance_type: String,
    pub subnet_id: String,
    pub zone: String,
    pub image_id: String,
    #[serde(default)]
    pub root_device_name: String,
    /// How many machines of this pod ended before they were reachable.
    #[serde(default)]
    pub failed_boots: u32,
    /// When this was written, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// Known once RunInstances answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

/// Why an annotation is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    #[error("annotation `{ANNOTATION_LAUNCH}` does not parse: {0}")]
    Malformed(String),
    #[error("annotation `{ANNOTATION_LAUNCH}` was made for another pod")]
    Foreign,
}

impl Intent {
    /// The intent to launch `candidate`.
    #[must_use]
    pub fn new(uid: &str, epoch: u32, failed_boots: u32, candidate: &Candidate, now: Timestamp) -> Self {
        Self {
            epoch,
            token: token(
                uid,
                epoch,
                &candidate.instance_type.name,
                &candidate.subnet_id,
                &candidate.image.id,
            ),
            instance_type: candidate.instance_type.name.clone(),
            subnet_id: candidate.subnet_id.clone(),
            zone: candidate.zone.clone(),
            image_id: candidate.image.id.clone(),
            root_device_name: candidate.image.root_device_name.clone(),
            failed_boots,
            written_at: Timestamp::from_second(now.as_second()).ok(),
            instance_id: None,
        }
    }

    /// The intent that an instance must have come from, when the annotation is lost.
    #[must_use]
    pub fn of_instance(instance: &Instance) -> Self {
        Self {
            epoch: epoch_of(instance),
            token: instance.client_token.clone().unwrap_or_default(),
            instance_type: instance.instance_type.clone(),
            subnet_id: instance.subnet_id.clone(),
            zone: instance.zone.clone(),
            image_id: instance.image_id.clone(),
            root_device_name: String::new(),
            failed_boots: 0,
            written_at: instance.launched_at,
            instance_id: Some(instance.id.clone()),
        }
    }

    /// The intent in the pod's annotation, if there is one.
    ///
    /// # Errors
    /// The annotation is there and of no use.
    pub fn read(pod: &Pod) -> Result<Option<Self>, IntentError> {
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(ANNOTATION_LAUNCH)) else {
            return Ok(None);
        };
        let intent: Self =
            serde_json::from_str(text).map_err(|error| IntentError::Malformed(error.to_string()))?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let expected = token(uid, intent.epoch, &intent.instance_type, &intent.subnet_id, &intent.image_id);
        if intent.token == expected { Ok(Some(intent)) } else { Err(IntentError::Foreign) }
    }

    /// The annotation's value.
    ///
    /// # Panics
    /// Never: the struct has string keys and no maps.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("an intent has nothing that JSON cannot say")
    }

    /// Whether the instance is the one that this intent launched.
    #[must_use]
    pub fn launched(&self, instance: &Instance) -> bool {
        self.instance_id.as_deref() == Some(&instance.id)
            || instance.client_token.as_deref() == Some(&self.token)
    }
}

/// The epoch that an instance was launched in, by its tag.
#[must_use]
pub fn epoch_of(instance: &Instance) -> u32 {
    instance.tags.get(TAG_EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

/// 64 hexadecimal digits, as long as a `ClientToken` may be. Fields are separated, so that none runs into the next.
fn token(uid: &str, epoch: u32, instance_type: &str, subnet_id: &str, image_id: &str) -> String {
    use std::fmt::Write as _;
    let text = format!("{uid}\n{epoch}\n{instance_type}\n{subnet_id}\n{image_id}");
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{Image, InstanceType};

    fn candidate(subnet: &str) -> Candidate {
        Candidate {
            instance_type: InstanceType {
                name: "g5.xlarge".to_owned(),
                vcpus: 4,
                memory_mib: 16384,
                arch: "amd64".to_owned(),
                gpus: None,
                nitro: true,
                ..InstanceType::default()
            },
            subnet_id: subnet.to_owned(),
            zone: "z".to_owned(),
            image: Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() },
        }
    }

    fn pod(uid: &str, annotation: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.annotations = Some([(ANNOTATION_LAUNCH.to_owned(), annotation.to_owned())].into());
        pod
    }

    #[test]
    fn an_intent_survives_its_annotation() {
        let now: Timestamp = "2026-11-21T08:00:00.5Z".parse().unwrap();
        let mut intent = Intent::new("u", 3, 1, &candidate("subnet-1"), now);
        assert_eq!(Intent::read(&pod("u", &intent.to_annotation())), Ok(Some(intent.clone())));
        intent.instance_id = Some("i-1".to_owned());
        assert_eq!(Intent::read(&pod("u", &intent.to_annotation())), Ok(Some(intent)));
        assert_eq!(Intent::read(&Pod::default()), Ok(None));
    }

    #[test]
    fn tokens_differ_by_pod_epoch_and_candidate_and_fit() {
        let now = Timestamp::UNIX_EPOCH;
        let tokens = [
            Intent::new("u", 0, 0, &candidate("a"), now).token,
            Intent::new("v", 0, 0, &candidate("a"), now).token,
            Intent::new("u", 1, 0, &candidate("a"), now).token,
            Intent::new("u", 0, 0, &candidate("b"), now).token,
        ];
        for (i, token) in tokens.iter().enumerate() {
            assert!(token.len() <= 64 && token.is_ascii());
            assert!(!tokens[i + 1..].contains(token));
        }
        assert_eq!(tokens[0], Intent::new("u", 0, 2, &candidate("a"), Timestamp::MAX).token);
    }

    #[test]
    fn an_annotation_that_was_copied_or_broken_is_told() {
        let intent = Intent::new("u", 0, 0, &candidate("a"), Timestamp::UNIX_EPOCH);
        assert_eq!(Intent::read(&pod("other", &intent.to_annotation())), Err(IntentError::Foreign));
        assert!(matches!(Intent::read(&pod("u", "{")), Err(IntentError::Malformed(_))));
        assert!(matches!(Intent::read(&pod("u", "{}")), Err(IntentError::Malformed(_))));
    }
}
