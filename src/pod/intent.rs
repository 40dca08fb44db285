//! The launch intent: what was begun for a pod, kept in an annotation of the pod itself.
//!
//! It is written before RunInstances is called and says everything that decides the request, so that a crash
//! anywhere leads to the same instance or to none. The token begins with what the pod's UID gives, so an annotation that
//! was copied from another pod is told apart; the rest of it follows from the epoch and the candidate.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::capacity::candidate::{Candidate, Changes};
use crate::capacity::money::MicroUsd;
use crate::cloud::{Image, Instance, Placement, Purchase, TAG_EPOCH};

/// Annotation with the intent, JSON.
pub const ANNOTATION_LAUNCH: &str = "orca.research/launch";
/// Annotation with the instance id, for people.
pub const ANNOTATION_INSTANCE_ID: &str = "orca.research/instance-id";

/// Annotations that say how the machine was launched, for people.
pub const ANNOTATION_LAUNCHED_TYPE: &str = "orca.research/launched-instance-type";
/// See [`ANNOTATION_LAUNCHED_TYPE`].
pub const ANNOTATION_LAUNCHED_ZONE: &str = "orca.research/launched-zone";
/// `on-demand`, `spot`, `reserved`, `capacity-block` or `interruptible`.
pub const ANNOTATION_LAUNCHED_MARKET: &str = "orca.research/launched-capacity-type";
/// `cr-…`, or the ARN of the group.
pub const ANNOTATION_LAUNCHED_RESERVATION: &str = "orca.research/launched-reservation";
/// List price in US dollars.
pub const ANNOTATION_HOURLY_USD: &str = "orca.research/hourly-usd";
/// Why this machine.
pub const ANNOTATION_REASON: &str = "orca.research/selection-reason";

/// Annotations that ORCA writes, and the one that it is told by to try again; nobody's wishes.
pub const WRITTEN: [&str; 9] = [
    ANNOTATION_LAUNCH,
    ANNOTATION_INSTANCE_ID,
    ANNOTATION_LAUNCHED_TYPE,
    ANNOTATION_LAUNCHED_ZONE,
    ANNOTATION_LAUNCHED_MARKET,
    ANNOTATION_LAUNCHED_RESERVATION,
    ANNOTATION_HOURLY_USD,
    ANNOTATION_REASON,
    super::stuck::ANNOTATION_RETRY,
];

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
    #[serde(default)]
    pub purchase: Purchase,
    #[serde(default)]
    pub placement: Placement,
    #[serde(default, skip_serializing_if = "Changes::is_none")]
    pub changes: Changes,
    /// List price per hour when it was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<MicroUsd>,
    /// The rule that chose it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
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
            token: token(uid, epoch, candidate),
            instance_type: candidate.instance_type.clone(),
            subnet_id: candidate.subnet_id.clone(),
            zone: candidate.zone.clone(),
            image_id: candidate.image.id.clone(),
            root_device_name: candidate.image.root_device_name.clone(),
            purchase: candidate.purchase.clone(),
            placement: candidate.placement.clone(),
            changes: candidate.changes.clone(),
            price: candidate.price,
            why: candidate.why.clone(),
            failed_boots,
            written_at: None,
            instance_id: None,
        }
        .written_now(now)
    }

    /// The same intent, written now.
    #[must_use]
    pub fn written_now(self, now: Timestamp) -> Self {
        Self { written_at: Timestamp::from_second(now.as_second()).ok(), ..self }
    }

    /// The candidate that it was made from.
    #[must_use]
    pub fn candidate(&self) -> Candidate {
        Candidate {
            instance_type: self.instance_type.clone(),
            subnet_id: self.subnet_id.clone(),
            zone: self.zone.clone(),
            purchase: self.purchase.clone(),
            placement: self.placement.clone(),
            image: Image { id: self.image_id.clone(), root_device_name: self.root_device_name.clone() },
            changes: self.changes.clone(),
            price: self.price,
            why: self.why.clone(),
        }
    }

    /// The intent that an instance of the pod must have come from, when the annotation is lost.
    #[must_use]
    pub fn of_instance(uid: &str, instance: &Instance) -> Self {
        let own = instance.client_token.clone().filter(|_| is_launched_for(instance, uid));
        // Somebody's copy of a machine, tags and all: its intent must be one that is read again.
        let made_up = || format!("{}{}", of_pod(uid), &hex(&instance.id)[..48]);
        Self {
            epoch: epoch_of(instance),
            token: own.unwrap_or_else(made_up),
            instance_type: instance.instance_type.clone(),
            subnet_id: instance.subnet_id.clone(),
            zone: instance.zone.clone(),
            image_id: instance.image_id.clone(),
            root_device_name: String::new(),
            purchase: Purchase::of(&instance.bought),
            placement: Placement::default(),
            changes: Changes::default(),
            price: None,
            why: String::new(),
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
        if intent.token.starts_with(&of_pod(uid)) { Ok(Some(intent)) } else { Err(IntentError::Foreign) }
    }

    /// All annotations of the pod that tell of this intent: `None` takes one away.
    #[must_use]
    pub fn annotations(&self) -> [(&'static str, Option<String>); 8] {
        let launched =
            |text: String| Some(text).filter(|text| self.instance_id.is_some() && !text.is_empty());
        let group = match &self.purchase {
            Purchase::ReservationGroup { arn } => Some(arn.as_str()),
            Purchase::OnDemand
            | Purchase::Spot { .. }
            | Purchase::Reservation { .. }
            | Purchase::OpenReservation
            | Purchase::CapacityBlock { .. }
            | Purchase::Interruptible { .. } => None,
        };
        let reservation = group.or_else(|| self.purchase.reservation_id());
        [
            (ANNOTATION_LAUNCH, Some(self.to_annotation())),
            (ANNOTATION_INSTANCE_ID, self.instance_id.clone()),
            (ANNOTATION_LAUNCHED_TYPE, launched(self.instance_type.clone())),
            (ANNOTATION_LAUNCHED_ZONE, launched(self.zone.clone())),
            (ANNOTATION_LAUNCHED_MARKET, launched(self.purchase.market().to_owned())),
            (ANNOTATION_LAUNCHED_RESERVATION, launched(reservation.unwrap_or_default().to_owned())),
            (ANNOTATION_HOURLY_USD, launched(self.price.map(|price| price.to_string()).unwrap_or_default())),
            (ANNOTATION_REASON, launched(self.why.clone())),
        ]
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

/// Whether some intent of this pod launched the instance; a copy that somebody made has another token, or none.
#[must_use]
pub fn is_launched_for(instance: &Instance, uid: &str) -> bool {
    instance.client_token.as_ref().is_some_and(|token| token.starts_with(&of_pod(uid)))
}

/// 64 hexadecimal digits, as long as a `ClientToken` may be: a quarter for the pod, the rest for the launch.
fn token(uid: &str, epoch: u32, candidate: &Candidate) -> String {
    let Candidate {
        instance_type,
        subnet_id,
        zone: _,
        purchase,
        placement,
        image,
        changes,
        price: _,
        why: _,
    } = candidate;
    let bought = serde_json::json!([purchase, placement, changes]);
    // Fields are separated, so that none runs into the next.
    let text = format!("{epoch}\n{instance_type}\n{subnet_id}\n{}\n{bought}", image.id);
    format!("{}{}", of_pod(uid), &hex(&format!("{uid}\n{text}"))[..48])
}

/// What every token of a pod begins with.
fn of_pod(uid: &str) -> String {
    digits(&digest(&SHA256, uid.as_bytes()).as_ref()[..8])
}

fn hex(text: &str) -> String {
    digits(digest(&SHA256, text.as_bytes()).as_ref())
}

fn digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::InstanceState;
    use crate::cloud::testing::mk_instance;
    fn candidate(subnet: &str) -> Candidate {
        Candidate {
            instance_type: "g5.xlarge".to_owned(),
            subnet_id: subnet.to_owned(),
            zone: "z".to_owned(),
            image: Image { id: "ami-1".to_owned(), root_device_name: "/dev/xvda".to_owned() },
            ..Candidate::default()
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
        let spot = Candidate { purchase: Purchase::Spot { max_price: None }, ..candidate("a") };
        let tokens = [
            Intent::new("u", 0, 0, &candidate("a"), now).token,
            Intent::new("v", 0, 0, &candidate("a"), now).token,
            Intent::new("u", 1, 0, &candidate("a"), now).token,
            Intent::new("u", 0, 0, &candidate("b"), now).token,
            Intent::new("u", 0, 0, &spot, now).token,
        ];
        for (i, token) in tokens.iter().enumerate() {
            assert!(token.len() <= 64 && token.is_ascii());
            assert!(!tokens[i + 1..].contains(token));
        }
        assert_eq!(tokens[0], Intent::new("u", 0, 2, &candidate("a"), Timestamp::MAX).token);
    }

    #[test]
    fn whatever_machine_is_taken_over_its_intent_is_read_again() {
        let launched = Intent::new("u", 3, 1, &candidate("subnet-1"), Timestamp::UNIX_EPOCH);
        for token in [Some(launched.token), Some("somebody's".to_owned()), None] {
            let instance = Instance { client_token: token, ..mk_instance("i-1", InstanceState::Running) };
            let intent = Intent::of_instance("u", &instance);
            assert_eq!(Intent::read(&pod("u", &intent.to_annotation())), Ok(Some(intent)));
        }
    }

    #[test]
    fn an_annotation_that_was_copied_or_broken_is_told() {
        let intent = Intent::new("u", 0, 0, &candidate("a"), Timestamp::UNIX_EPOCH);
        assert_eq!(Intent::read(&pod("other", &intent.to_annotation())), Err(IntentError::Foreign));
        assert!(matches!(Intent::read(&pod("u", "{")), Err(IntentError::Malformed(_))));
        assert!(matches!(Intent::read(&pod("u", "{}")), Err(IntentError::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_annotation_makes_it_panic(text: String, cut in 0..400_usize) {
            drop(Intent::read(&pod("u", &text)));
            // The beginning of a good one is nearer to what a careless hand leaves.
            let good = Intent::new("u", 1, 0, &candidate("subnet-a"), Timestamp::UNIX_EPOCH).to_annotation();
            drop(Intent::read(&pod("u", &good.chars().take(cut).collect::<String>())));
        }
    }
}
