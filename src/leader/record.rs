//! The Lease in our words, and back.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

/// What a Lease says. Every change of it is a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: nobody.
    pub(super) holder: String,
    /// How long the holder may be silent.
    pub(super) duration: Option<Duration>,
    pub(super) acquired: Option<Timestamp>,
    pub(super) renewed: Option<Timestamp>,
    /// How often it went from one holder to another.
    pub(super) transitions: i32,
}

impl Record {
    /// A time as the API server gives it back: it keeps microseconds.
    pub(super) fn written(time: Timestamp) -> Timestamp {
        Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
    }

    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    /// Over an existing Lease, of which the rest stays; with its version, so that it is written only if nobody else has.
    pub(super) fn into_lease(self, name: &str, namespace: &str, existing: Option<Lease>) -> Lease {
        let mut lease = existing.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.holder),
            lease_duration_seconds: self.duration.and_then(|it| i32::try_from(it.as_secs()).ok()),
            acquire_time: self.acquired.map(MicroTime),
            renew_time: self.renewed.map(MicroTime),
            lease_transitions: Some(self.transitions),
            ..lease.spec.unwrap_or_default()
        });
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let time = Record::written("2026-11-21T10:00:00.123456789Z".parse().unwrap());
        assert_eq!(time.to_string(), "2026-11-21T10:00:00.123456Z");
        let record = Record {
            holder: "orca-1".to_owned(),
            duration: Some(Duration::from_secs(12)),
            acquired: Some(time),
            renewed: Some(time),
            transitions: 3,
        };
        let lease = record.clone().into_lease("orca", "orca-system", None);
        let text = serde_json::to_string(&lease).unwrap();
        assert_eq!(Record::of(&serde_json::from_str(&text).unwrap()), record);
    }

    #[test]
    fn what_others_put_into_a_lease_stays() {
        let mut existing = Record::default().into_lease("orca", "orca-system", None);
        existing.metadata.resource_version = Some("7".to_owned());
        existing.metadata.annotations = Some([("note".to_owned(), "kept".to_owned())].into());
        let spec = existing.spec.as_mut().unwrap();
        spec.strategy = Some("OldestEmulationVersion".to_owned());
        let lease = Record { holder: "orca-2".to_owned(), ..Record::default() }.into_lease(
            "orca",
            "orca-system",
            Some(existing.clone()),
        );
        assert_eq!(lease.metadata, existing.metadata);
        assert_eq!(lease.spec.unwrap().strategy.as_deref(), Some("OldestEmulationVersion"));
    }
}
