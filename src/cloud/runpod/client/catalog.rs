//! What RunPod offers: types with their prices, and how much of them there is where.

use serde_json::Value;

use super::super::errors::{Kind, Refusal};
use super::super::types::{CloudTier, CudaVersion};
use super::super::wire::{self, flag, items, number, text};
use super::{Call, Client, encoded, path_with};
use crate::capacity::money::MicroUsd;
use crate::cloud::CloudError;

/// How much there is. Ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    None,
    /// It was not told: not asked for, or in a word that RunPod added since.
    #[default]
    Unknown,
    Low,
    Medium,
    High,
}

/// How much there is in one data center.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub data_center_id: String,
    pub level: Level,
}

/// Which GPUs are asked about: what is told of availability is for exactly this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuQuery {
    pub cloud: CloudTier,
    /// In one pod.
    pub count: u32,
    pub min_cuda: Option<CudaVersion>,
}

/// A type of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOffer {
    /// Such as `NVIDIA GeForce RTX 4090`.
    pub id: String,
    /// Such as `RTX 4090`.
    pub name: String,
    pub manufacturer: String,
    pub memory_gb: u32,
    /// Per GPU and hour; `None` where it is not offered in that tier.
    pub price_secure: Option<MicroUsd>,
    pub price_community: Option<MicroUsd>,
    /// In one pod, at most.
    pub most_secure: u32,
    pub most_community: u32,
    pub level: Level,
    pub places: Vec<Place>,
    /// CUDA versions of its machines that have room now.
    pub cuda: Vec<CudaVersion>,
}

/// A flavour of CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuOffer {
    /// Such as `cpu5c`.
    pub id: String,
    pub name: String,
    pub least_vcpus: u32,
    pub most_vcpus: u32,
    /// Of system memory for each vCPU, in MiB.
    pub memory_mib_per_vcpu: u64,
    /// Per vCPU and hour.
    pub price_per_vcpu: Option<MicroUsd>,
    pub level: Level,
    pub places: Vec<Place>,
}

/// A data center.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataCenter {
    /// Such as `US-TX-3`.
    pub id: String,
    pub name: String,
    /// Such as `EUROPE`.
    pub region: String,
    /// Whether network volumes can be there.
    pub has_volumes: bool,
    /// By GPU id.
    pub gpus: Vec<(String, Level)>,
    /// By CPU flavour.
    pub cpus: Vec<(String, Level)>,
}

impl Client {
    /// Every type of GPU, with what there is of it for pods.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn gpus(&self, query: GpuQuery) -> Result<Vec<GpuOffer>, CloudError> {
        let path = path_with("/catalog/gpus", &availability(query));
        self.catalog("ListGpuTypes", path, "gpus", gpu).await
    }

    /// One type of GPU; `None` if there is none of that id.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn gpu(&self, id: &str, query: GpuQuery) -> Result<Option<GpuOffer>, CloudError> {
        let path = path_with(&format!("/catalog/gpus/{}", encoded(id)), &availability(query));
        match self.json(Call::look("GetGpuType", path)).await {
            Ok(answer) => gpu(&answer).map(Some).ok_or_else(|| unreadable("gpu").into_error()),
            Err(refusal) if refusal.kind == Kind::NotFound => Ok(None),
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    /// Every flavour of CPU, with what there is of it for pods.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn cpus(&self) -> Result<Vec<CpuOffer>, CloudError> {
        let query = [("include", "AVAILABILITY".to_owned()), ("product", "POD".to_owned())];
        self.catalog("ListCpuTypes", path_with("/catalog/cpus", &query), "cpus", cpu).await
    }

    /// Every data center, with what there is in it.
    ///
    /// # Errors
    /// There is no answer to that.
    pub async fn data_centers(&self) -> Result<Vec<DataCenter>, CloudError> {
        let query = [("include", "GPU_AVAILABILITY".to_owned())];
        let path = path_with("/catalog/datacenters", &query);
        self.catalog("ListDataCenters", path, "dataCenters", data_center).await
    }

    /// A list of things, each of which is left out if it cannot be used.
    async fn catalog<T>(
        &self,
        action: &'static str,
        path: String,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, CloudError> {
        let answer = self.json(Call::look(action, path)).await.map_err(Refusal::into_error)?;
        let all = answer.get(key).and_then(Value::as_array).ok_or_else(|| unreadable(key).into_error())?;
        Ok(all.iter().filter_map(read).collect())
    }
}

pub(super) fn unreadable(key: &str) -> Refusal {
    Refusal::new(Kind::Unreadable, format!("the answer has no `{key}`"))
}

/// The context is required beside the wish: there is no default of it.
fn availability(query: GpuQuery) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("include", "AVAILABILITY".to_owned()),
        ("product", "POD".to_owned()),
        ("cloud", wire::tier(query.cloud).to_owned()),
        ("count", query.count.to_string()),
    ];
    if let Some(cuda) = query.min_cuda {
        pairs.push(("minCudaVersion", cuda.to_string()));
    }
    pairs
}

fn gpu(value: &Value) -> Option<GpuOffer> {
    let price = |key: &str, is_offered: Option<bool>| {
        let price = wire::money(value.get("price")?.get(key)?)?;
        // What is not offered costs nothing, in the catalog's words.
        (is_offered != Some(false) && price > MicroUsd::default()).then_some(price)
    };
    let most = |key: &str| value.get("maxCount").and_then(|most| number(most, key)).unwrap_or(0);
    let free = |one: &Value| flag(one, "available") != Some(false);
    let cuda = items(value, "cudaVersions")
        .filter(|one| free(one))
        .filter_map(|one| text(one, "version")?.parse().ok());
    Some(GpuOffer {
        id: text(value, "id")?.to_owned(),
        name: text(value, "name").unwrap_or_default().to_owned(),
        manufacturer: text(value, "manufacturer").unwrap_or_default().to_owned(),
        memory_gb: number(value, "memory").unwrap_or(0),
        price_secure: price("secure", flag(value, "secure")),
        price_community: price("community", flag(value, "community")),
        most_secure: most("secure"),
        most_community: most("community"),
        level: level(value),
        places: places(value),
        cuda: cuda.collect(),
    })
}

fn cpu(value: &Value) -> Option<CpuOffer> {
    let vcpus = |key: &str| value.get("vcpu").and_then(|vcpus| number(vcpus, key)).unwrap_or(0);
    let memory_gb = value.get("ramGbPerVcpu").and_then(Value::as_f64).unwrap_or(0.0);
    Some(CpuOffer {
        id: text(value, "id")?.to_owned(),
        name: text(value, "name").unwrap_or_default().to_owned(),
        least_vcpus: vcpus("min"),
        most_vcpus: vcpus("max"),
        memory_mib_per_vcpu: wire::whole(memory_gb * 1024.0).unwrap_or(0),
        price_per_vcpu: value.get("price").and_then(|price| wire::money(price.get("securePerVcpu")?)),
        level: level(value),
        places: places(value),
    })
}

fn data_center(value: &Value) -> Option<DataCenter> {
    let levels = |key: &str| {
        items(value, key).filter_map(|one| Some((text(one, "id")?.to_owned(), level(one)))).collect()
    };
    Some(DataCenter {
        id: text(value, "id")?.to_owned(),
        name: text(value, "name").unwrap_or_default().to_owned(),
        region: text(value, "region").unwrap_or_default().to_owned(),
        has_volumes: items(value, "networkVolumeTypes").next().is_some(),
        gpus: levels("gpuAvailability"),
        cpus: levels("cpuAvailability"),
    })
}

fn places(value: &Value) -> Vec<Place> {
    let place = |one: &Value| Some(Place { data_center_id: text(one, "id")?.to_owned(), level: level(one) });
    items(value, "dataCenters").filter_map(place).collect()
}

fn level(value: &Value) -> Level {
    match text(value, "availability") {
        Some("NONE") => Level::None,
        Some("LOW") => Level::Low,
        Some("MEDIUM") => Level::Medium,
        Some("HIGH") => Level::High,
        Some(_) | None => Level::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_of_gpu_is_read_with_its_prices_and_places() {
        let offer = gpu(&json!({
            "id": "NVIDIA GeForce RTX 4090", "name": "RTX 4090", "pool": "ADA_24", "manufacturer": "NVIDIA",
            "memory": 24, "secure": true, "community": false,
            "price": {"secure": 0.69, "community": 0, "serverless": 1.1},
            "maxCount": {"secure": 8, "community": 0}, "availability": "HIGH",
            "dataCenters": [{"id": "US-TX-3", "name": "US Texas 3", "availability": "LOW"}, {"name": "nobody"}],
            "cudaVersions": [{"version": "12.8", "available": true}, {"version": "12.4", "available": false}, {"version": "?"}],
            "tomorrow": {"more": []}
        }));
        let offer = offer.unwrap();
        assert_eq!((offer.price_secure, offer.price_community), (Some(MicroUsd(690_000)), None));
        assert_eq!((offer.most_secure, offer.memory_gb, offer.level), (8, 24, Level::High));
        assert_eq!(offer.places, [Place { data_center_id: "US-TX-3".to_owned(), level: Level::Low }]);
        assert_eq!(offer.cuda, [CudaVersion { major: 12, minor: 8 }]);
        let bare =
            gpu(&json!({"id": "AMD Instinct MI300X OAM", "price": null, "availability": "PLENTY"})).unwrap();
        assert_eq!((bare.level, bare.price_secure, bare.places.len()), (Level::Unknown, None, 0));
        assert_eq!(gpu(&json!({"name": "no id"})), None);
    }

    #[test]
    fn flavours_of_cpu_and_data_centers_are_read() {
        let offer = cpu(&json!({
            "id": "cpu5c", "name": "Compute-Optimized", "group": "Gen 5", "vcpu": {"min": 2, "max": 32},
            "ramGbPerVcpu": 2.5, "price": {"securePerVcpu": 0.04, "serverlessPerVcpu": 0.03}
        }));
        let offer = offer.unwrap();
        assert_eq!((offer.least_vcpus, offer.most_vcpus, offer.memory_mib_per_vcpu), (2, 32, 2560));
        assert_eq!(offer.price_per_vcpu, Some(MicroUsd(40_000)));
        let center = data_center(&json!({
            "id": "EU-RO-1", "name": "Romania", "region": "EUROPE", "networkVolumeTypes": ["STANDARD"],
            "gpuAvailability": [{"id": "NVIDIA L4", "name": "L4", "availability": "NONE"}]
        }));
        let center = center.unwrap();
        assert!(center.has_volumes && center.cpus.is_empty());
        assert_eq!(center.gpus, [("NVIDIA L4".to_owned(), Level::None)]);
    }

    #[test]
    fn what_is_asked_names_its_context() {
        let query = GpuQuery { cloud: CloudTier::Community, count: 2, min_cuda: "12.8".parse().ok() };
        assert_eq!(
            path_with("/catalog/gpus", &availability(query)),
            "/catalog/gpus?include=AVAILABILITY&product=POD&cloud=COMMUNITY&count=2&minCudaVersion=12.8"
        );
    }
}
