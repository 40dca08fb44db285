//! `/v2/catalog`: what there is, and how much of it by a filter.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{CPUS, Cloud, Cpu, DATA_CENTERS, DataCenter, GPUS, Gpu, cuda_version, dollars};
use crate::runpod::problem::Problem;
use crate::runpod::query::{Query, invalid};
use crate::runpod::schema;
use crate::runpod::stock::{Level, Place, Stock};

/// A serverless GPU costs more than a pod's; the factor is ours.
const SERVERLESS: f64 = 1.6;

const GPU_PARAMETERS: [&str; 7] =
    ["include", "product", "count", "cloud", "countryCodes", "cudaVersions", "minCudaVersion"];
const CPU_PARAMETERS: [&str; 3] = ["include", "product", "vcpuCount"];
const PLACE_PARAMETERS: [&str; 5] =
    ["include", "regions", "networkVolumeTypes", "compliance", "globalNetwork"];

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Product {
    Pod,
    Cluster,
    Serverless,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Include {
    Availability,
    GpuAvailability,
    CpuAvailability,
}

/// What availability is asked for.
struct Wanted {
    count: u32,
    cloud: Cloud,
    countries: Vec<String>,
    versions: Vec<String>,
    at_least: Option<(u32, u32)>,
}

impl Wanted {
    /// `None` without `include=AVAILABILITY`, and then nothing else may be given.
    fn of_gpus(query: &Query) -> Result<Option<Self>, Problem> {
        if !included(query)? {
            return alone(query, &GPU_PARAMETERS);
        }
        products(query, &[Product::Pod, Product::Cluster, Product::Serverless])?;
        let countries: Vec<String> = query.list("countryCodes", "country codes")?;
        let is_code = |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if let Some(wrong) = countries.iter().find(|code| !is_code(code)) {
            return Err(invalid("countryCodes", wrong, "two upper-case letters"));
        }
        let versions: Vec<String> = texts(query, "cudaVersions");
        if let Some(wrong) = versions.iter().find(|text| !text.contains('.') || cuda_version(text).is_none())
        {
            return Err(invalid("cudaVersions", wrong, "major.minor"));
        }
        let at_least = query
            .text("minCudaVersion")
            .map(|text| {
                cuda_version(text).ok_or_else(|| invalid("minCudaVersion", text, "major or major.minor"))
            })
            .transpose()?;
        if !versions.is_empty() && at_least.is_some() {
            return Err(Problem::rule("cudaVersions and minCudaVersion are mutually exclusive"));
        }
        let count = query.one("count", "an integer")?.unwrap_or(1);
        if count < 1 {
            return Err(invalid("count", "0", "at least 1"));
        }
        let cloud = query.one("cloud", "SECURE or COMMUNITY")?.unwrap_or(Cloud::Secure);
        Ok(Some(Self { count, cloud, countries, versions, at_least }))
    }

    fn has_country(&self, center: &str) -> bool {
        let country = DataCenter::find(center).map_or("", |center| center.country);
        self.countries.is_empty() || self.countries.iter().any(|code| code == country)
    }

    fn has_version(&self, version: &str) -> bool {
        (self.versions.is_empty() || self.versions.iter().any(|one| one == version))
            && self.at_least.is_none_or(|least| cuda_version(version) >= Some(least))
    }

    /// Whether that many of it could be had at all.
    fn fits(&self, gpu: &Gpu) -> bool {
        let versioned = self.versions.is_empty() && self.at_least.is_none();
        self.count <= gpu.max(self.cloud)
            && (versioned || gpu.cuda_versions().iter().any(|version| self.has_version(version)))
    }
}

/// Values between commas that stay text, such as `12.8`.
fn texts(query: &Query, name: &str) -> Vec<String> {
    query.text(name).into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
}

/// Values between commas, each as a definition of the schema has it.
fn words(query: &Query, name: &str, definition: &str) -> Result<Vec<String>, Problem> {
    let values = texts(query, name);
    let wrong = values.iter().find(|value| !schema::check(definition, &json!(value)).is_empty());
    match wrong {
        Some(value) => Err(invalid(name, value, definition)),
        None => Ok(values),
    }
}

fn included(query: &Query) -> Result<bool, Problem> {
    let included: Vec<Include> = query.list("include", "AVAILABILITY")?;
    match included.as_slice() {
        [] => Ok(false),
        [Include::Availability] => Ok(true),
        _ => Err(invalid("include", query.text("include").unwrap_or(""), "AVAILABILITY")),
    }
}

fn alone<T>(query: &Query, parameters: &[&str]) -> Result<Option<T>, Problem> {
    match parameters.iter().find(|name| query.text(name).is_some()) {
        Some(name) => Err(Problem::rule(format!("{name} is valid only with include=AVAILABILITY"))),
        None => Ok(None),
    }
}

fn products(query: &Query, known: &[Product]) -> Result<(), Problem> {
    let products: Vec<Product> = query.list("product", "a product")?;
    if products.is_empty() {
        return Err(Problem::rule("product is required with include=AVAILABILITY"));
    }
    if products.iter().all(|product| known.contains(product)) {
        return Ok(());
    }
    Err(invalid("product", query.text("product").unwrap_or(""), "a product of CPUs"))
}

fn place(id: &str, cloud: Cloud, center: &str) -> Place {
    Place { id: id.to_owned(), cloud, data_center: center.to_owned() }
}

/// Level by data center, of those that have any.
fn levels<'a>(
    stock: &'a Stock,
    id: &'a str,
    cloud: Cloud,
    count: u32,
    centers: impl Iterator<Item = &'static str> + 'a,
) -> impl Iterator<Item = (&'static str, Level)> + 'a {
    centers.map(move |center| (center, stock.level(&place(id, cloud, center), count)))
}

fn centers_json(levels: &[(&'static str, Level)]) -> Vec<Value> {
    let name = |id: &str| DataCenter::find(id).map_or("", |center| center.name);
    levels
        .iter()
        .filter(|(_, level)| *level > Level::None)
        .map(|(id, level)| json!({ "id": id, "name": name(id), "availability": level }))
        .collect()
}

fn gpu_json(gpu: &'static Gpu, wanted: Option<&Wanted>, stock: &Stock) -> Value {
    let mut price = json!({ "secure": dollars(gpu.secure), "community": dollars(gpu.community) });
    if gpu.pool.is_some() {
        price["serverless"] = json!(dollars(gpu.secure.max(gpu.community)) * SERVERLESS);
    }
    let mut shown = json!({
        "id": gpu.id, "name": gpu.name, "pool": gpu.pool, "manufacturer": gpu.manufacturer, "memory": gpu.memory,
        "secure": gpu.secure > 0, "community": gpu.community > 0, "price": price,
        "maxCount": { "secure": gpu.max_secure, "community": gpu.max_community },
    });
    let Some(wanted) = wanted else { return shown };
    let here =
        gpu.data_centers.iter().copied().filter(|center| wanted.fits(gpu) && wanted.has_country(center));
    let found: Vec<_> = levels(stock, gpu.id, wanted.cloud, wanted.count, here).collect();
    let best = found.iter().map(|(_, level)| *level).max().unwrap_or(Level::None);
    shown["availability"] = json!(best);
    let centers = centers_json(&found);
    if !centers.is_empty() {
        shown["dataCenters"] = json!(centers);
    }
    let versions = gpu.cuda_versions().iter().filter(|version| wanted.has_version(version));
    let versions: Vec<Value> =
        versions.map(|version| json!({ "version": version, "available": best > Level::None })).collect();
    if !versions.is_empty() {
        shown["cudaVersions"] = json!(versions);
    }
    shown
}

/// `GET /v2/catalog/gpus`.
pub fn gpus(stock: &Stock, text: &str) -> Result<Value, Problem> {
    let wanted = Wanted::of_gpus(&Query::parse(text, &GPU_PARAMETERS)?)?;
    let in_countries = |gpu: &&Gpu| {
        wanted.as_ref().is_none_or(|wanted| gpu.data_centers.iter().any(|center| wanted.has_country(center)))
    };
    let gpus: Vec<Value> =
        GPUS.iter().filter(in_countries).map(|gpu| gpu_json(gpu, wanted.as_ref(), stock)).collect();
    Ok(json!({ "gpus": gpus }))
}

/// `GET /v2/catalog/gpus/{id}`.
pub fn gpu(stock: &Stock, id: &str, text: &str) -> Result<Value, Problem> {
    let wanted = Wanted::of_gpus(&Query::parse(text, &GPU_PARAMETERS)?)?;
    let gpu = Gpu::find(id).ok_or_else(|| Problem::not_found("gpu type"))?;
    Ok(gpu_json(gpu, wanted.as_ref(), stock))
}

/// How many vCPUs availability is asked for.
fn wanted_vcpus(text: &str) -> Result<Option<u32>, Problem> {
    let query = Query::parse(text, &CPU_PARAMETERS)?;
    if !included(&query)? {
        return alone(&query, &CPU_PARAMETERS);
    }
    products(&query, &[Product::Pod, Product::Serverless])?;
    let count: u32 = query.one("vcpuCount", "an integer")?.unwrap_or(2);
    if count < 2 || !count.is_power_of_two() {
        return Err(invalid("vcpuCount", &count.to_string(), "a power of two, at least 2"));
    }
    Ok(Some(count))
}

fn cpu_json(cpu: &'static Cpu, wanted: Option<u32>, stock: &Stock) -> Value {
    let price = dollars(cpu.price);
    let mut shown = json!({
        "id": cpu.id, "name": cpu.name, "group": cpu.group, "vcpu": { "min": cpu.min, "max": cpu.max },
        "ramGbPerVcpu": cpu.ram, "price": { "securePerVcpu": price, "serverlessPerVcpu": price * SERVERLESS },
    });
    let Some(count) = wanted else { return shown };
    let here = cpu.data_centers.iter().copied().filter(|_| count <= cpu.max);
    let found: Vec<_> = levels(stock, cpu.id, Cloud::Secure, count, here).collect();
    shown["availability"] = json!(found.iter().map(|(_, level)| *level).max().unwrap_or(Level::None));
    let centers = centers_json(&found);
    if !centers.is_empty() {
        shown["dataCenters"] = json!(centers);
    }
    shown
}

/// `GET /v2/catalog/cpus`.
pub fn cpus(stock: &Stock, text: &str) -> Result<Value, Problem> {
    let wanted = wanted_vcpus(text)?;
    Ok(json!({ "cpus": CPUS.iter().map(|cpu| cpu_json(cpu, wanted, stock)).collect::<Vec<_>>() }))
}

/// `GET /v2/catalog/cpus/{id}`.
pub fn cpu(stock: &Stock, id: &str, text: &str) -> Result<Value, Problem> {
    let wanted = wanted_vcpus(text)?;
    let cpu = Cpu::find(id).ok_or_else(|| Problem::not_found("cpu type"))?;
    Ok(cpu_json(cpu, wanted, stock))
}

fn center_json(center: &'static DataCenter, included: &[Include], stock: &Stock) -> Value {
    let mut shown = json!({
        "id": center.id, "name": center.name, "region": center.region, "globalNetwork": center.global_network,
        "networkVolumeTypes": center.volume_types, "compliance": center.compliance,
    });
    let offer = |id: &str, name: &str, level: Level| json!({ "id": id, "name": name, "availability": level });
    if included.contains(&Include::GpuAvailability) {
        let gpus = GPUS.iter().filter(|gpu| gpu.secure > 0 && gpu.data_centers.contains(&center.id));
        let gpus: Vec<Value> = gpus
            .map(|gpu| offer(gpu.id, gpu.name, stock.level(&place(gpu.id, Cloud::Secure, center.id), 1)))
            .collect();
        if !gpus.is_empty() {
            shown["gpuAvailability"] = json!(gpus);
        }
    }
    if included.contains(&Include::CpuAvailability) {
        let cpus = CPUS.iter().filter(|cpu| cpu.data_centers.contains(&center.id));
        let cpus: Vec<Value> = cpus
            .map(|cpu| offer(cpu.id, cpu.name, stock.level(&place(cpu.id, Cloud::Secure, center.id), 2)))
            .collect();
        if !cpus.is_empty() {
            shown["cpuAvailability"] = json!(cpus);
        }
    }
    shown
}

fn center_includes(query: &Query) -> Result<Vec<Include>, Problem> {
    const EXPECTED: &str = "GPU_AVAILABILITY, CPU_AVAILABILITY";
    let included: Vec<Include> = query.list("include", EXPECTED)?;
    if included.contains(&Include::Availability) {
        return Err(invalid("include", "AVAILABILITY", EXPECTED));
    }
    Ok(included)
}

/// `GET /v2/catalog/datacenters`.
pub fn data_centers(stock: &Stock, text: &str) -> Result<Value, Problem> {
    let query = Query::parse(text, &PLACE_PARAMETERS)?;
    let included = center_includes(&query)?;
    let regions = words(&query, "regions", "Region")?;
    let types = words(&query, "networkVolumeTypes", "VolumeType")?;
    let compliance = words(&query, "compliance", "Compliance")?;
    let global: Option<bool> = query.one("globalNetwork", "true or false")?;
    let fits = |center: &&DataCenter| {
        (regions.is_empty() || regions.iter().any(|region| region == center.region))
            && types.iter().all(|one| center.volume_types.contains(&one.as_str()))
            && compliance.iter().all(|one| center.compliance.contains(&one.as_str()))
            && global.is_none_or(|global| global == center.global_network)
    };
    let centers: Vec<Value> =
        DATA_CENTERS.iter().filter(fits).map(|center| center_json(center, &included, stock)).collect();
    Ok(json!({ "dataCenters": centers }))
}

/// `GET /v2/catalog/datacenters/{id}`.
pub fn data_center(stock: &Stock, id: &str, text: &str) -> Result<Value, Problem> {
    let included = center_includes(&Query::parse(text, &["include"])?)?;
    let center = DataCenter::find(id).ok_or_else(|| Problem::not_found("data center"))?;
    Ok(center_json(center, &included, stock))
}
