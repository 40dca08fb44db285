//! The network that containers see: one veth each. A container reaches the host's own addresses, but no loopback, and
//! nothing else; the host reaches every container.
//!
//! What to run is computed here as text. Everything carries a mark of its own (link prefix, route protocol, table), so
//! that it can be removed without knowing what was made.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, bail};

use super::address::NETWORK;
use crate::machine::command::{run, run_with_input};

/// The host's address on every veth. Link-local, so that it collides with nobody's.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 89, 1);

/// Every veth's host end begins with it.
const LINK_PREFIX: &str = "lp-";

/// Marks our routes, as the machines' have 180.
const ROUTE_PROTOCOL: &str = "181";

/// The routing table for what containers send beyond the host, and the priority of the rule that leads there: behind
/// the host's own addresses.
const TABLE: &str = "8900";

/// The host end of a container's veth: a name of at most 15 bytes.
fn link(id: &str) -> String {
    format!("{LINK_PREFIX}{}", &id[id.len().saturating_sub(15 - LINK_PREFIX.len())..])
}

/// For `ip -batch`: the veth between the host and the network namespace of process `pid`.
fn attach_commands(id: &str, address: Ipv4Addr, pid: u32) -> String {
    let link = link(id);
    format!(
        "link add {link} type veth peer name eth0 netns {pid}\n\
         addr add {GATEWAY}/32 dev {link}\n\
         link set {link} up\n\
         route replace {address}/32 dev {link} src {GATEWAY} proto {ROUTE_PROTOCOL}\n"
    )
}

/// What all containers share: whatever they send beyond the host is refused at once, and so is an address without one.
fn shared_commands() -> String {
    let (network, bits) = NETWORK;
    format!(
        "rule add from {network}/{bits} priority {TABLE} lookup {TABLE} protocol {ROUTE_PROTOCOL}\n\
         route replace unreachable default table {TABLE} proto {ROUTE_PROTOCOL}\n\
         route replace unreachable {network}/{bits} proto {ROUTE_PROTOCOL}\n"
    )
}

/// Puts up what all containers share.
pub(super) async fn create() -> anyhow::Result<()> {
    run_with_input("ip", &["-batch", "-"], &shared_commands()).await.map(drop)
}

/// Connects the network namespace of process `pid`, where the interface appears as `eth0`, still down.
pub(super) async fn attach(id: &str, address: Ipv4Addr, pid: u32) -> anyhow::Result<()> {
    detach(id).await?;
    run_with_input("ip", &["-batch", "-"], &attach_commands(id, address, pid)).await?;
    // Without it, what leads nowhere would be dropped and not refused.
    for setting in ["forwarding", "rp_filter"] {
        let path = format!("/proc/sys/net/ipv4/conf/{}/{setting}", link(id));
        fs::write(&path, "1").with_context(|| format!("cannot write to `{path}`"))?;
    }
    Ok(())
}

/// Removes a container's veth, and with it its route. Idempotent.
pub(super) async fn detach(id: &str) -> anyhow::Result<()> {
    let link = link(id);
    if links().await?.contains(&link) {
        // It may go with its other end meanwhile.
        let removed = run("ip", &["link", "del", &link]).await;
        if removed.is_err() && links().await?.contains(&link) {
            return removed.map(drop);
        }
    }
    Ok(())
}

/// Removes everything of every container, of this process or of one that was killed. Idempotent.
pub(super) async fn remove() -> anyhow::Result<()> {
    for link in links().await? {
        run("ip", &["link", "del", &link]).await?;
    }
    while !run("ip", &["rule", "show", "priority", TABLE]).await?.trim().is_empty() {
        run("ip", &["rule", "del", "priority", TABLE]).await?;
    }
    for table in ["main", TABLE] {
        let flushed = run("ip", &["route", "flush", "table", table, "proto", ROUTE_PROTOCOL]).await;
        // A table that never had a route is none.
        if let Err(error) = flushed.map_err(|error| error.to_string())
            && !error.contains("table does not exist")
        {
            bail!(error);
        }
    }
    Ok(())
}

/// Asked of `ip`, because /sys may show another network namespace than ours.
async fn links() -> anyhow::Result<Vec<String>> {
    Ok(parse_links(&run("ip", &["-oneline", "link", "show"]).await?))
}

fn parse_links(shown: &str) -> Vec<String> {
    shown
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
        .filter(|name| name.starts_with(LINK_PREFIX))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_routed_by_its_link_and_everything_beyond_is_refused() {
        insta::assert_snapshot!(attach_commands("7h9k2m4n6pabcd", Ipv4Addr::new(10, 89, 0, 2), 42), @r"
        link add lp-9k2m4n6pabcd type veth peer name eth0 netns 42
        addr add 169.254.89.1/32 dev lp-9k2m4n6pabcd
        link set lp-9k2m4n6pabcd up
        route replace 10.89.0.2/32 dev lp-9k2m4n6pabcd src 169.254.89.1 proto 181
        ");
        insta::assert_snapshot!(shared_commands(), @r"
        rule add from 10.89.0.0/16 priority 8900 lookup 8900 protocol 181
        route replace unreachable default table 8900 proto 181
        route replace unreachable 10.89.0.0/16 proto 181
        ");
        assert!(link("7h9k2m4n6pabcd").len() <= 15 && link("a") == "lp-a");
    }

    #[test]
    fn only_our_links_are_found_among_the_hosts() {
        let shown = "1: lo: <LOOPBACK,UP> mtu 65536\n\
                     7: lp-9k2m4n6pabcd@if2: <BROADCAST,UP> mtu 1500\n\
                     8: lc-56789abcdef0@if2: <BROADCAST,UP> mtu 1500\n";
        assert_eq!(parse_links(shown), ["lp-9k2m4n6pabcd"]);
    }
}
