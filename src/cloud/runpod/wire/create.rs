//! An order as the body of a creation.
//!
//! Entrypoint and command go as JSON in `args`, which servers take that know the two fields of those names and servers
//! that do not. Minimums of memory and vCPUs are not sent: a server that does not know them refuses the whole.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::errors::{Kind, Refusal};
use super::super::types::{Hardware, Order, Port, PortKind};
use super::tier;

/// RunPod's limit for a body.
const LARGEST: usize = 102_400;
/// Names that everything of RunPod's shows in whole.
const LONGEST_NAME: usize = 60;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    name: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<String>,
    cloud: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<Gpu<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Cpu<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    data_center_ids: &'a [String],
    disk: u32,
    env: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mounts: Option<Mounts<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gpu<'a> {
    id: &'a str,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_cuda_version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu<'a> {
    id: &'a str,
    vcpu_count: u32,
}

#[derive(Serialize)]
struct Mounts<'a> {
    network: [Network<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    volume_id: &'a str,
    path: &'a str,
}

#[derive(Serialize)]
struct Args<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<&'a [String]>,
}

/// The body of a creation.
pub(in super::super) fn create(order: &Order) -> Result<Vec<u8>, Refusal> {
    check(order)?;
    let json = |error: serde_json::Error| Refusal::new(Kind::Schema, error.to_string());
    let body = Body {
        name: &order.name,
        image: &order.image,
        args: args(order).map_err(json)?,
        cloud: tier(order.cloud),
        gpu: match &order.hardware {
            Hardware::Gpu { id, count, min_cuda, .. } => {
                Some(Gpu { id, count: *count, min_cuda_version: min_cuda.map(|cuda| cuda.to_string()) })
            }
            Hardware::Cpu { .. } => None,
        },
        cpu: match &order.hardware {
            Hardware::Cpu { id, vcpus } => Some(Cpu { id, vcpu_count: *vcpus }),
            Hardware::Gpu { .. } => None,
        },
        data_center_ids: &order.data_center_ids,
        disk: order.disk_gb,
        env: &order.env,
        ports: order.ports.iter().map(port).collect(),
        registry: order.registry_id.as_deref(),
        mounts: order
            .network_volume
            .as_ref()
            .map(|volume| Mounts { network: [Network { volume_id: &volume.id, path: &volume.path }] }),
    };
    let body = serde_json::to_vec(&body).map_err(json)?;
    if body.len() > LARGEST {
        let text = format!(
            "the order has {} bytes, expected at most {LARGEST}: its environment is too large",
            body.len()
        );
        return Err(Refusal::new(Kind::TooLarge, text));
    }
    Ok(body)
}

/// `None` keeps what the image says.
fn args(order: &Order) -> serde_json::Result<Option<String>> {
    let (entrypoint, command) = (&*order.entrypoint, &*order.command);
    if entrypoint.is_empty() && command.is_empty() {
        return Ok(None);
    }
    // With an entrypoint of the order's own, the image's command is not to follow it.
    serde_json::to_string(&Args { entrypoint, cmd: Some(command) }).map(Some)
}

fn port(port: &Port) -> String {
    let kind = match port.kind {
        PortKind::Http => "http",
        PortKind::Tcp => "tcp",
    };
    format!("{}/{kind}", port.number)
}

fn check(order: &Order) -> Result<(), Refusal> {
    let wrong = |text: String| Err(Refusal::new(Kind::Schema, text));
    if order.name.is_empty() || order.name.len() > LONGEST_NAME {
        return wrong(format!("the name is `{}`, expected 1 to {LONGEST_NAME} characters", order.name));
    }
    if order.image.is_empty() {
        return wrong("the image is empty, expected its name".to_owned());
    }
    if order.disk_gb == 0 {
        return wrong("the disk has 0 GB, expected at least 1".to_owned());
    }
    match &order.hardware {
        Hardware::Gpu { id, count, .. } if id.is_empty() || *count == 0 => {
            wrong(format!("the GPU is {count} of `{id}`, expected at least one of some type"))
        }
        Hardware::Cpu { id, vcpus } if id.is_empty() || *vcpus < 2 || !vcpus.is_power_of_two() => {
            wrong(format!("the CPU is {vcpus} of `{id}`, expected a power of two from 2 of some flavour"))
        }
        Hardware::Gpu { .. } | Hardware::Cpu { .. } => match &order.network_volume {
            Some(volume) if volume.id.is_empty() || !volume.path.starts_with('/') => wrong(format!(
                "volume `{}` is mounted at `{}`, expected an absolute path",
                volume.id, volume.path
            )),
            Some(_) | None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::super::super::testing::mk_order;
    use super::super::super::types::{CloudTier, CudaVersion, Volume};
    use super::*;

    fn body(order: &Order) -> Value {
        serde_json::from_slice(&create(order).unwrap()).unwrap()
    }

    #[test]
    fn an_order_is_sent_with_what_the_schema_has_and_nothing_else() {
        let order = Order {
            entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            command: vec!["echo \"a b\"".to_owned()],
            data_center_ids: vec!["US-TX-3".to_owned()],
            ports: vec![
                Port { number: 8888, kind: PortKind::Http },
                Port { number: 22, kind: PortKind::Tcp },
            ],
            registry_id: Some("reg_abc".to_owned()),
            network_volume: Some(Volume { id: "vol_xyz".to_owned(), path: "/data".to_owned() }),
            hardware: Hardware::Gpu {
                id: "NVIDIA A100 80GB PCIe".to_owned(),
                count: 2,
                min_memory_per_gpu_gb: Some(64),
                min_vcpus_per_gpu: Some(8),
                min_cuda: Some(CudaVersion { major: 12, minor: 8 }),
            },
            cloud: CloudTier::Community,
            ..mk_order()
        };
        assert_eq!(
            body(&order),
            json!({
                "name": "orca-cluster1-uid1-0", "image": "busybox:1.37", "cloud": "COMMUNITY",
                "args": r#"{"entrypoint":["/bin/sh","-c"],"cmd":["echo \"a b\""]}"#,
                "gpu": {"id": "NVIDIA A100 80GB PCIe", "count": 2, "minCudaVersion": "12.8"},
                "dataCenterIds": ["US-TX-3"], "disk": 20, "env": {"MODEL": "llama"},
                "ports": ["8888/http", "22/tcp"], "registry": "reg_abc",
                "mounts": {"network": [{"volumeId": "vol_xyz", "path": "/data"}]},
            })
        );
    }

    #[test]
    fn what_an_order_leaves_open_is_not_sent() {
        let order = body(&mk_order());
        let keys: BTreeSet<&str> = order.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["cloud", "disk", "env", "gpu", "image", "name"]));
        let cpu = Order { hardware: Hardware::Cpu { id: "cpu3c".to_owned(), vcpus: 4 }, ..mk_order() };
        assert_eq!(body(&cpu)["cpu"], json!({"id": "cpu3c", "vcpuCount": 4}));
        assert_eq!(body(&cpu).get("gpu"), None);
    }

    #[test]
    fn an_images_command_is_kept_only_where_nothing_replaces_it() {
        let with = |entrypoint: &[&str], command: &[&str]| {
            let texts = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            args(&Order { entrypoint: texts(entrypoint), command: texts(command), ..mk_order() }).unwrap()
        };
        assert_eq!(with(&[], &[]), None);
        assert_eq!(with(&[], &["a"]).unwrap(), r#"{"cmd":["a"]}"#);
        assert_eq!(with(&["e"], &[]).unwrap(), r#"{"entrypoint":["e"],"cmd":[]}"#);
    }

    #[test]
    fn what_can_only_be_refused_is_refused_here() {
        let kind = |order: Order| create(&order).map(drop).unwrap_err().kind;
        let cpu = |vcpus| Hardware::Cpu { id: "cpu3c".to_owned(), vcpus };
        for order in [
            Order { name: String::new(), ..mk_order() },
            Order { name: "x".repeat(61), ..mk_order() },
            Order { image: String::new(), ..mk_order() },
            Order { disk_gb: 0, ..mk_order() },
            Order { hardware: cpu(1), ..mk_order() },
            Order { hardware: cpu(6), ..mk_order() },
            Order {
                network_volume: Some(Volume { id: "v".to_owned(), path: "data".to_owned() }),
                ..mk_order()
            },
        ] {
            assert_eq!(kind(order), Kind::Schema);
        }
        let env = BTreeMap::from([("BIG".to_owned(), "x".repeat(LARGEST))]);
        assert_eq!(kind(Order { env, ..mk_order() }), Kind::TooLarge);
    }
}
