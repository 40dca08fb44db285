//! A pod as `GET /v2/pods/{id}` shows it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::catalog::dollars;
use super::container::Mapping;
use super::order::{Compute, PortKind};
use super::pod::{Container, Pod};
use super::settings::{Api, Settings, millis};
use super::status::Status;

/// The whole pod: its environment is in clear, as RunPod has it.
#[must_use]
pub fn pod(pod: &Pod, settings: &Settings, now: Timestamp) -> Value {
    let order = &pod.order;
    let mut shown = json!({
        "id": pod.id,
        "name": order.name,
        "status": pod.status,
        "actions": pod.status.actions(),
        "image": order.image,
        "args": order.args,
        "disk": order.disk,
        "env": order.env,
        "ports": order.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "registry": order.registry,
        "mounts": order.mounts,
        "cloud": order.cloud,
        "dataCenterId": pod.placement.data_center,
        "cudaVersion": pod.placement.cuda,
        "ssh": ssh(pod, settings, now),
        "template": null,
        "cost": dollars(pod.meter.rate().compute),
        "locked": pod.locked,
        "globalNetworking": global(pod),
        "runtime": runtime(pod, settings, now),
        "createdAt": pod.created,
        "startedAt": pod.started,
    });
    let (vcpus, memory) = (pod.placement.vcpus, pod.placement.memory);
    match &order.compute {
        Compute::Gpu { gpu, count, .. } => {
            shown["gpu"] = json!({ "id": gpu.id, "count": count, "vcpuCount": vcpus, "memory": memory });
        }
        Compute::Cpu { cpu, .. } => {
            shown["cpu"] = json!({ "id": cpu.id, "vcpuCount": vcpus, "memory": memory });
        }
    }
    if settings.api == Api::October {
        shown["entrypoint"] = json!(order.command.entrypoint);
        shown["cmd"] = json!(order.command.cmd);
    }
    if let Some(cluster) = &pod.cluster {
        shown["cluster"] = json!({ "id": cluster, "rank": 0 });
    }
    shown
}

/// Mappings that are shown by now: later than `RUNNING`.
fn mappings<'a>(pod: &'a Pod, settings: &Settings, now: Timestamp) -> &'a [Mapping] {
    let is_shown = match pod.container {
        Container::Up { .. } => pod.uptime(now) >= Some(millis(settings.mapping_ms)),
        // Between two runs it keeps what it had.
        Container::Down { .. } | Container::Dying => true,
        _ => false,
    };
    if is_shown && pod.status == Status::Running { &pod.mappings } else { &[] }
}

fn runtime(pod: &Pod, settings: &Settings, now: Timestamp) -> Value {
    match (pod.status, pod.container) {
        (Status::Provisioning, _) => return json!({}),
        (Status::Running, Container::Up { .. } | Container::Down { .. } | Container::Dying) => {}
        (Status::Running, _) if matches!(pod.fate, Some(super::scenario::Scenario::NeverStarts {})) => {
            return json!({});
        }
        _ => return Value::Null,
    }
    let mut ports: Vec<Value> = mappings(pod, settings, now)
        .iter()
        .map(|it| json!({ "private": it.private, "public": it.public, "type": PortKind::Tcp, "ip": it.ip }))
        .collect();
    // These are behind the proxy alone.
    let proxied = pod.order.ports.iter().filter(|port| port.kind == PortKind::Http);
    ports.extend(
        proxied.map(|port| json!({ "private": port.number, "public": null, "type": port.kind, "ip": null })),
    );
    let mut shown = json!({
        "uptime": pod.uptime(now).unwrap_or_default().as_secs(),
        "cpu": { "util": 0 }, "memory": { "util": 0 }, "ports": ports,
    });
    if let Compute::Gpu { count, .. } = pod.order.compute {
        shown["gpus"] = (0..count).map(|_| json!({ "util": 0, "memoryUtil": 0 })).collect();
    }
    shown
}

fn ssh(pod: &Pod, settings: &Settings, now: Timestamp) -> Value {
    let user = format!("{}-{:08x}", pod.id, pod.sequence);
    let proxy = json!({
        "host": "ssh.runpod.io", "port": 22, "username": user, "command": format!("ssh {user}@ssh.runpod.io"),
    });
    let direct = mappings(pod, settings, now).iter().find(|it| it.private == 22).map(|it| {
        let (ip, port) = (it.ip, it.public);
        json!({ "host": ip, "port": port, "username": "root", "command": format!("ssh root@{ip} -p {port}") })
    });
    // Without a machine there is none yet.
    let proxy = if pod.status == Status::Provisioning { Value::Null } else { proxy };
    json!({ "proxy": proxy, "direct": direct })
}

fn global(pod: &Pod) -> Value {
    match pod.placement.global_ip {
        Some(ip) => {
            json!({ "enabled": true, "ip": ip, "internalDns": format!("{}.runpod.internal", pod.id) })
        }
        None => json!({ "enabled": false }),
    }
}
