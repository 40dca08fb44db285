//! The operations by name, and how often each may be called.

use std::collections::BTreeMap;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::world::throttle::Rate;

/// What is played of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    CreateLogGroup,
    DeleteLogGroup,
    CreateLogStream,
    DeleteLogStream,
    PutLogEvents,
    GetLogEvents,
    FilterLogEvents,
    DescribeLogGroups,
    DescribeLogStreams,
    PutRetentionPolicy,
    DeleteRetentionPolicy,
    TagResource,
    UntagResource,
    ListTagsForResource,
}

impl Operation {
    /// The operation with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        Self::deserialize(name).ok()
    }

    /// Calls a second, as the service's quotas have them: the least of any region, and 10 for those that it does not
    /// list.
    fn per_second(self) -> u32 {
        match self {
            Self::PutLogEvents => 1500,
            Self::CreateLogStream => 50,
            Self::GetLogEvents | Self::DescribeLogStreams => 25,
            Self::DeleteLogStream => 15,
            Self::FilterLogEvents => 5,
            Self::CreateLogGroup
            | Self::DeleteLogGroup
            | Self::DescribeLogGroups
            | Self::PutRetentionPolicy
            | Self::DeleteRetentionPolicy
            | Self::TagResource
            | Self::UntagResource
            | Self::ListTagsForResource => 10,
        }
    }
}

/// Which operations have token buckets: `"off"` for none, `"aws"` for all with the service's rates, or an object with
/// the rates of those that have one, such as `{"GetLogEvents": {"size": 25, "per_second": 25}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Throttling {
    #[default]
    Off,
    Aws,
    #[serde(untagged)]
    Own(BTreeMap<Operation, Rate>),
}

impl Throttling {
    /// The bucket of an operation, if it has one.
    pub(super) fn rate(&self, operation: Operation) -> Option<Rate> {
        match self {
            Self::Off => None,
            Self::Aws => {
                let size = operation.per_second();
                Some(Rate { size, per_second: f64::from(size) })
            }
            Self::Own(rates) => rates.get(&operation).copied(),
        }
    }
}

impl<'de> Deserialize<'de> for Throttling {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let rates = match value.as_str() {
            Some("off") => return Ok(Self::Off),
            Some("aws") => return Ok(Self::Aws),
            Some(_) | None if !value.is_object() => {
                let expected = "expected \"off\", \"aws\" or operations with their rates";
                return Err(de::Error::custom(format!("throttle is `{value}`, {expected}")));
            }
            Some(_) | None => BTreeMap::<Operation, Rate>::deserialize(value).map_err(de::Error::custom)?,
        };
        if rates.values().any(|rate| !rate.per_second.is_finite() || rate.per_second < 0.0) {
            return Err(de::Error::custom("`per_second` must not be negative"));
        }
        Ok(Self::Own(rates))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_known_by_their_names() {
        assert_eq!(Operation::named("PutLogEvents"), Some(Operation::PutLogEvents));
        assert_eq!(Operation::named("putLogEvents"), None);
        assert_eq!(Operation::named("StartQuery"), None);
    }

    #[test]
    fn throttling_is_written_as_it_is_read() {
        for value in [json!("off"), json!("aws"), json!({"GetLogEvents": {"size": 2, "per_second": 0.5}})] {
            let read = Throttling::deserialize(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), value);
        }
        for bad in [
            json!("on"),
            json!(null),
            json!({"GetLogs": {"size": 2, "per_second": 1}}),
            json!({"GetLogEvents": {"size": 2, "per_second": -1}}),
            json!({"GetLogEvents": {"size": 2}}),
        ] {
            assert!(Throttling::deserialize(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_operation_without_a_rate_of_its_own_is_not_throttled() {
        let own: Throttling =
            serde_json::from_value(json!({"GetLogEvents": {"size": 2, "per_second": 1.0}})).unwrap();
        assert_eq!(own.rate(Operation::GetLogEvents), Some(Rate { size: 2, per_second: 1.0 }));
        assert_eq!(own.rate(Operation::PutLogEvents), None);
        assert_eq!(Throttling::Off.rate(Operation::GetLogEvents), None);
        assert_eq!(Throttling::Aws.rate(Operation::GetLogEvents), Some(Rate { size: 25, per_second: 25.0 }));
    }
}
