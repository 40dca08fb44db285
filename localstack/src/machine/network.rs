//! The network that machines see: one veth each, routed by host routes, so that the host and every other machine
//! reach a machine's primary and secondary addresses as a VPC would bring them there.
//!
//! The subnet's router is the host: it has the gateway's address on every veth and answers ARP for the other
//! members of the subnet. Machines reach each other, the metadata server and the registry, and the rest of the world
//! where the host has a way to it.
//! What to run is computed here as text; [`Network`] runs it. Everything carries a mark of its own (link prefix,
//! route protocol, chain names), so that it can be removed without knowing what was made.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, bail};

use super::MachineSpec;
use super::command::{run, run_with_input};
use super::way_out::{RESOLVER, WayOut};

/// Where the host answers machines: metadata (by way of 169.254.169.254) and the registry. Link-local, so that it
/// collides with no VPC; the image's `hosts.toml` files name it.
pub(super) const SERVICES: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 5);

/// The registry's port at [`SERVICES`].
pub(super) const REGISTRY_PORT: u16 = 5000;

/// Every veth's host end begins with it.
const LINK_PREFIX: &str = "lc-";

/// Marks our routes; numbers up to 195 are free for local use, but for the few in iproute2's `rt_protos`.
const ROUTE_PROTOCOL: &str = "180";

/// (table, chain, built-in chain that jumps to it)
const CHAINS: [(&str, &str, &str); 4] = [
    ("nat", "LOCALCLOUD-PREROUTING", "PREROUTING"),
    ("nat", "LOCALCLOUD-POSTROUTING", "POSTROUTING"),
    ("filter", "LOCALCLOUD-INPUT", "INPUT"),
    ("filter", "LOCALCLOUD-FORWARD", "FORWARD"),
];

/// A subnet's router has the first address after the network's.
pub(super) fn gateway(subnet: (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.0).wrapping_add(1))
}

/// The host end of a machine's veth: a name of at most 15 bytes.
pub(super) fn link(id: &str) -> String {
    format!("{LINK_PREFIX}{}", &id[id.len().saturating_sub(15 - LINK_PREFIX.len())..])
}

/// For `ip -batch`: the veth between the host and the network namespace of process `pid`, and its routes.
fn attach_commands(spec: &MachineSpec, pid: u32) -> String {
    let link = link(&spec.id);
    let gateway = gateway(spec.subnet_cidr);
    let primary = spec.private_ip;
    let (vpc, vpc_bits) = spec.vpc_cidr;
    let mut batch = format!(
        "link add {link} type veth peer name ens5 netns {pid}\n\
         addr add {gateway}/32 dev {link}\n\
         link set {link} up\n\
         route replace {primary}/32 dev {link} src {gateway} proto {ROUTE_PROTOCOL}\n\
         route replace unreachable {vpc}/{vpc_bits} proto {ROUTE_PROTOCOL}\n"
    );
    for secondary in &spec.secondary_ips {
        // The machine passes it on to whatever holds it there, as an interface's own address on EC2.
        writeln!(
            batch,
            "route replace {secondary}/32 via {primary} dev {link} onlink src {gateway} proto {ROUTE_PROTOCOL}"
        )
        .expect("writing to a string does not fail");
    }
    batch
}

/// For `iptables-restore --noflush`.
fn chains(way_out: Option<&WayOut>) -> String {
    let links = format!("{LINK_PREFIX}+");
    let translation = way_out.map(|way| way.translation(&links)).unwrap_or_default();
    let passage = way_out.map(|way| way.passage(&links)).unwrap_or_default();
    // Who is who is told by the source address, which strict reverse-path filtering has checked by then.
    format!(
        "*nat\n\
         :LOCALCLOUD-PREROUTING - [0:0]\n\
         :LOCALCLOUD-POSTROUTING - [0:0]\n\
         -I PREROUTING -j LOCALCLOUD-PREROUTING\n\
         -I POSTROUTING -j LOCALCLOUD-POSTROUTING\n\
         {translation}\
         COMMIT\n\
         *filter\n\
         :LOCALCLOUD-INPUT - [0:0]\n\
         :LOCALCLOUD-FORWARD - [0:0]\n\
         -I INPUT -j LOCALCLOUD-INPUT\n\
         -I FORWARD -j LOCALCLOUD-FORWARD\n\
         -A LOCALCLOUD-INPUT -i {LINK_PREFIX}+ -d {SERVICES}/32 -p tcp -j ACCEPT\n\
         -A LOCALCLOUD-INPUT -i {LINK_PREFIX}+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n\
         -A LOCALCLOUD-INPUT -i {LINK_PREFIX}+ -p icmp -j ACCEPT\n\
         -A LOCALCLOUD-INPUT -i {LINK_PREFIX}+ -j REJECT\n\
         -A LOCALCLOUD-INPUT ! -i lo -d {SERVICES}/32 -j DROP\n\
         -A LOCALCLOUD-FORWARD -i {LINK_PREFIX}+ -o {LINK_PREFIX}+ -j ACCEPT\n\
         {passage}\
         -A LOCALCLOUD-FORWARD -i {LINK_PREFIX}+ -j REJECT --reject-with icmp-net-unreachable\n\
         COMMIT\n"
    )
}

/// The rule that brings a machine's requests for metadata to its server.
fn metadata_rule(id: &str, server: SocketAddrV4) -> Vec<String> {
    let link = link(id);
    let rule = format!(
        "LOCALCLOUD-PREROUTING -i {link} -d 169.254.169.254/32 -p tcp --dport 80 -j DNAT --to-destination {server}"
    );
    rule.split(' ').map(str::to_owned).collect()
}

/// The host's side of it. Dropping it removes nothing: see [`Network::remove`].
#[derive(Debug)]
pub(super) struct Network {
    way_out: Option<WayOut>,
}

impl Network {
    /// Puts up what all machines share.
    pub(super) async fn create() -> anyhow::Result<Self> {
        run("ip", &["addr", "add", &format!("{SERVICES}/32"), "dev", "lo", "scope", "link"]).await?;
        let way_out = WayOut::find().await;
        let chains = chains(way_out.as_ref());
        run_with_input("iptables-restore", &["--wait", "10", "--noflush"], &chains).await?;
        Ok(Self { way_out })
    }

    /// Where machines ask for names; none where there is no way out.
    pub(super) fn resolver(&self) -> Option<Ipv4Addr> {
        self.way_out.as_ref().map(|_| RESOLVER)
    }

    /// Removes everything of every machine, of this process or of one that was killed. Idempotent.
    pub(super) async fn remove() -> anyhow::Result<()> {
        for (table, chain, parent) in CHAINS {
            let rules = run("iptables", &["-w", "10", "-t", table, "-S"]).await?;
            let jump = format!("-A {parent} -j {chain}");
            for _ in rules.lines().filter(|rule| *rule == jump) {
                run("iptables", &["-w", "10", "-t", table, "-D", parent, "-j", chain]).await?;
            }
            if rules.lines().any(|rule| rule == format!("-N {chain}")) {
                run("iptables", &["-w", "10", "-t", table, "-F", chain]).await?;
                run("iptables", &["-w", "10", "-t", table, "-X", chain]).await?;
            }
        }
        for link in links().await? {
            run("ip", &["link", "del", &link]).await?;
        }
        let flushed = run("ip", &["route", "flush", "proto", ROUTE_PROTOCOL]).await;
        // A network namespace that never had a route has no table to look at.
        if let Err(error) = flushed.map_err(|error| error.to_string())
            && !error.contains("FIB table does not exist")
        {
            bail!(error);
        }
        let held = run("ip", &["-o", "addr", "show", "to", &format!("{SERVICES}/32")]).await?;
        if !held.trim().is_empty() {
            run("ip", &["addr", "del", &format!("{SERVICES}/32"), "dev", "lo"]).await?;
        }
        Ok(())
    }

    /// Connects the network namespace of process `pid`, where the interface appears as `ens5`, still down.
    pub(super) async fn attach(
        &self,
        spec: &MachineSpec,
        pid: u32,
        metadata: SocketAddrV4,
    ) -> anyhow::Result<()> {
        self.detach(&spec.id, metadata).await?;
        run_with_input("ip", &["-batch", "-"], &attach_commands(spec, pid)).await?;
        let link = link(&spec.id);
        for (setting, value) in [
            ("conf/LINK/forwarding", "1"),
            ("conf/LINK/proxy_arp", "1"),
            ("conf/LINK/rp_filter", "1"),
            // Else the answer to an ARP request waits for up to 0.8 s.
            ("neigh/LINK/proxy_delay", "0"),
        ] {
            let path = format!("/proc/sys/net/ipv4/{}", setting.replace("LINK", &link));
            fs::write(&path, value).with_context(|| format!("cannot write `{value}` to `{path}`"))?;
        }
        let rule = metadata_rule(&spec.id, metadata);
        iptables("-A", &rule).await?;
        if let Some(way_out) = &self.way_out {
            let rule = way_out.masquerade(spec.vpc_cidr);
            // One for all machines of the VPC.
            if iptables("-C", &rule).await.is_err() {
                iptables("-A", &rule).await?;
            }
        }
        Ok(())
    }

    /// Removes a machine's veth, with it its routes, and its rule. Idempotent.
    pub(super) async fn detach(&self, id: &str, metadata: SocketAddrV4) -> anyhow::Result<()> {
        let link = link(id);
        if links().await?.contains(&link) {
            run("ip", &["link", "del", &link]).await?;
        }
        let rule = metadata_rule(id, metadata);
        // -C fails where there is no such rule, which is what was wanted.
        if iptables("-C", &rule).await.is_ok() {
            iptables("-D", &rule).await?;
        }
        Ok(())
    }
}

async fn iptables(action: &str, rule: &[String]) -> anyhow::Result<String> {
    let mut args = vec!["-w", "10", "-t", "nat", action];
    args.extend(rule.iter().map(String::as_str));
    run("iptables", &args).await
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
    use crate::machine::tests::mk_spec;

    #[test]
    fn link_names_fit_the_kernel_and_tell_machines_apart() {
        assert_eq!(link("i-0123456789abcdef0"), "lc-56789abcdef0");
        assert_eq!(link("i-0123456789abcdef0").len(), 15);
        assert_eq!(link("i-1"), "lc-i-1");
    }

    #[test]
    fn the_router_of_a_subnet_has_its_first_address() {
        assert_eq!(gateway((Ipv4Addr::new(10, 88, 1, 0), 24)), Ipv4Addr::new(10, 88, 1, 1));
        assert_eq!(gateway((Ipv4Addr::new(10, 88, 1, 64), 26)), Ipv4Addr::new(10, 88, 1, 65));
    }

    #[test]
    fn only_our_links_are_found_among_the_hosts() {
        let shown = "1: lo: <LOOPBACK,UP> mtu 65536\n\
                     7: lc-56789abcdef0@if2: <BROADCAST,UP> mtu 1500\n\
                     9: eth0: <BROADCAST> mtu 1400\n";
        assert_eq!(parse_links(shown), ["lc-56789abcdef0"]);
    }

    #[test]
    fn both_addresses_are_routed_and_the_rest_of_the_vpc_is_nobody() {
        insta::assert_snapshot!(attach_commands(&mk_spec(), 42), @r"
        link add lc-56789abcdef0 type veth peer name ens5 netns 42
        addr add 10.88.1.1/32 dev lc-56789abcdef0
        link set lc-56789abcdef0 up
        route replace 10.88.1.10/32 dev lc-56789abcdef0 src 10.88.1.1 proto 180
        route replace unreachable 10.88.0.0/16 proto 180
        route replace 10.88.1.11/32 via 10.88.1.10 dev lc-56789abcdef0 onlink src 10.88.1.1 proto 180
        ");
    }

    #[test]
    fn metadata_is_sent_on_from_the_machines_own_link_alone() {
        let rule = metadata_rule("i-0123456789abcdef0", SocketAddrV4::new(SERVICES, 4000)).join(" ");
        assert_eq!(
            rule,
            "LOCALCLOUD-PREROUTING -i lc-56789abcdef0 -d 169.254.169.254/32 -p tcp --dport 80 -j DNAT \
             --to-destination 169.254.169.5:4000"
        );
    }

    #[test]
    fn every_chain_that_is_made_is_one_that_is_removed() {
        let way_out = WayOut { interface: "eth0".to_owned(), resolver: Ipv4Addr::new(10, 0, 0, 2) };
        for chains in [chains(None), chains(Some(&way_out))] {
            let made: Vec<_> =
                chains.lines().filter_map(|line| line.strip_prefix(':').map(str::to_owned)).collect();
            let removed = CHAINS.map(|(_, chain, _)| format!("{chain} - [0:0]"));
            assert_eq!(made, removed);
            for (_, chain, parent) in CHAINS {
                assert!(chains.contains(&format!("-I {parent} -j {chain}\n")));
            }
        }
    }

    #[test]
    fn without_a_way_out_everything_that_leaves_is_refused_at_once() {
        let chains = chains(None);
        assert!(!chains.contains("eth0") && !chains.contains("DNAT"), "{chains}");
        assert!(chains.contains("-A LOCALCLOUD-FORWARD -i lc-+ -j REJECT"), "{chains}");
    }
}
