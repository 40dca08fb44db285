//! The pod's network: its own address by `ptp` and `static`, and what the machine does around it.

use std::fmt::Write as _;

use serde_json::json;

use crate::guest::{GuestFacts, Inputs, Snat, fill};

const SCRIPT: &str = include_str!("../scripts/network.sh");

/// Taken for inside where a machine can't tell its VPC's networks: what VPCs are made of (RFC 1918, RFC 6598).
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];

/// The CNI list. The pod has the machine's secondary address, with the machine's primary one as its gateway.
pub(in crate::guest) fn conflist(facts: &GuestFacts, inputs: &Inputs) -> String {
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "pod",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                // Else the pair of devices stays at 1500, and every jumbo frame to the pod is lost.
                "mtu": facts.mtu,
                "ipam": {
                    "type": "static",
                    "addresses": [{
                        "address": format!("{}/{}", inputs.pod_ip, inputs.subnet_bits),
                        "gateway": inputs.private_ip,
                    }],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    super::kubelet::pretty(&list)
}

/// The script that prepares the machine's own network.
pub(in crate::guest) fn script(facts: &GuestFacts, inputs: &Inputs) -> String {
    let inside: Vec<&str> = match facts.vpc_cidrs.as_slice() {
        [] => PRIVATE.to_vec(),
        known => known.iter().map(String::as_str).collect(),
    };
    let mut snat = String::new();
    if inputs.snat == Snat::Machine {
        for cidr in inside {
            writeln!(snat, "iptables -w -t nat -A ORCA-SNAT -d {cidr} -j RETURN")
                .expect("a String takes all");
        }
        write!(snat, "iptables -w -t nat -A ORCA-SNAT -j SNAT --to-source {}", inputs.private_ip)
            .expect("a String takes all");
    }
    fill(
        SCRIPT,
        &[("pod_ip", &inputs.pod_ip.to_string()), ("interface", &facts.interface), ("snat", snat.trim_end())],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::bootstrap::tests::mk_inputs;
    use crate::guest::facts::tests::{EKS, LOCAL};

    #[test]
    fn the_pod_has_the_secondary_address_and_the_mtu_of_the_interface() {
        let list = conflist(&GuestFacts::parse(EKS).unwrap(), &mk_inputs());
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["plugins"][0]["mtu"], 9001);
        let address = &list["plugins"][0]["ipam"]["addresses"][0];
        assert_eq!(address, &json!({"address": "10.0.1.11/24", "gateway": "10.0.1.10"}));
        assert_eq!(list["plugins"][0]["ipMasq"], false);
    }

    /// The lines that translate addresses.
    fn snat(facts: &str, snat: Snat) -> Vec<String> {
        let script = script(&GuestFacts::parse(facts).unwrap(), &Inputs { snat, ..mk_inputs() });
        assert!(!script.contains('@') || script.contains("routes@$interface"), "{script}");
        let out = std::process::Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let rules = script.lines().filter_map(|line| line.split_once("-A ORCA-SNAT "));
        rules.map(|(_, rule)| rule.to_owned()).collect()
    }

    #[test]
    fn traffic_is_translated_only_where_it_leaves_the_vpc() {
        assert_eq!(
            snat(EKS, Snat::Machine),
            ["-d 10.0.0.0/16 -j RETURN", "-d 100.64.0.0/16 -j RETURN", "-j SNAT --to-source 10.0.1.10"]
        );
        assert_eq!(snat(LOCAL, Snat::Machine).len(), PRIVATE.len() + 1);
        assert_eq!(snat(EKS, Snat::External), [""; 0]);
    }
}
