//! What the account has: credentials of registries, network volumes, and what pods have cost.

use jiff::Timestamp;
use serde_json::Value;

use super::super::errors::Refusal;
use super::super::wire::{self, items, number, text};
use super::catalog::unreadable;
use super::{Call, Client, path_with};
use crate::capacity::money::MicroUsd;
use crate::cloud::CloudError;

/// A credential for a registry; what it holds is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    pub id: String,
    pub name: String,
}

/// A network volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkVolume {
    pub id: String,
    pub name: String,
    pub size_gb: u32,
    pub data_center_id: String,
}

/// What is asked of the bills of pods: the last buckets, the one that is not over included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingQuery {
    /// `None` asks for every pod.
    pub pod_id: Option<String>,
    /// Hours, or days.
    pub is_by_hour: bool,
    pub buckets: u32,
}

/// What one pod cost in one bucket of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    pub pod_id: String,
    pub start: Timestamp,
    pub end: Timestamp,
    pub total: MicroUsd,
    pub gpu: MicroUsd,
    pub cpu: MicroUsd,
    pub disk: MicroUsd,
}

impl Client {
    /// The account's credentials for registries.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn registries(&self) -> Result<Vec<Registry>, CloudError> {
        let read = |one: &Value| {
            Some(Registry {
                id: text(one, "id")?.to_owned(),
                name: text(one, "name").unwrap_or_default().to_owned(),
            })
        };
        self.whole("ListRegistries", "/registries".to_owned(), "registries", read).await
    }

    /// The account's network volumes.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn network_volumes(&self) -> Result<Vec<NetworkVolume>, CloudError> {
        let read = |one: &Value| {
            Some(NetworkVolume {
                id: text(one, "id")?.to_owned(),
                name: text(one, "name").unwrap_or_default().to_owned(),
                size_gb: number(one, "size").unwrap_or(0),
                data_center_id: text(one, "dataCenter").unwrap_or_default().to_owned(),
            })
        };
        self.whole("ListNetworkVolumes", "/network-volumes".to_owned(), "networkVolumes", read).await
    }

    /// What pods cost, as it is billed.
    ///
    /// # Errors
    /// There is no answer to that, or it has a record that cannot be read: a sum without it would be wrong.
    pub async fn pod_bills(&self, query: &BillingQuery) -> Result<Vec<Bill>, CloudError> {
        let bucket = if query.is_by_hour { "hour" } else { "day" };
        let mut pairs = vec![("bucketSize", bucket.to_owned()), ("lastN", query.buckets.max(1).to_string())];
        pairs.extend(query.pod_id.iter().map(|id| ("podId", id.clone())));
        self.whole("GetPodBilling", path_with("/billing/pods", &pairs), "records", bill).await
    }

    /// A list of things, each of which has to be read.
    async fn whole<T>(
        &self,
        action: &'static str,
        path: String,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, CloudError> {
        let answer = self.json(Call::look(action, path)).await.map_err(Refusal::into_error)?;
        if !answer.get(key).is_some_and(Value::is_array) {
            return Err(unreadable(key).into_error());
        }
        let all: Option<Vec<T>> = items(&answer, key).map(read).collect();
        all.ok_or_else(|| unreadable(&format!("{key}[].id")).into_error())
    }
}

fn bill(value: &Value) -> Option<Bill> {
    let time = |key: &str| text(value, key)?.parse().ok();
    let amount = |key: &str| value.get(key).and_then(wire::money).unwrap_or_default();
    Some(Bill {
        pod_id: text(value, "podId")?.to_owned(),
        start: time("startTime")?,
        end: time("endTime")?,
        total: wire::money(value.get("totalAmount")?)?,
        gpu: amount("gpuAmount"),
        cpu: amount("cpuAmount"),
        disk: amount("diskAmount"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bill_is_exact_to_the_millionth_and_one_that_is_not_whole_is_none() {
        let record = json!({
            "podId": "7h9k", "startTime": "2026-11-20T00:00:00Z", "endTime": "2026-11-21T00:00:00Z",
            "totalAmount": 12.345_678_9, "gpuAmount": 12.3, "cpuAmount": 0, "diskAmount": 0.045_678_9
        });
        let read = bill(&record).unwrap();
        assert_eq!(
            (read.total, read.gpu, read.disk),
            (MicroUsd(12_345_679), MicroUsd(12_300_000), MicroUsd(45_679))
        );
        for missing in ["podId", "startTime", "totalAmount"] {
            let mut broken = record.clone();
            broken.as_object_mut().unwrap().remove(missing);
            assert_eq!(bill(&broken), None, "{missing}");
        }
    }
}
