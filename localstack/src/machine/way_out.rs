//! A machine's way out of the cloud, where the host has one: its default route, with translated addresses, and the
//! name server that the host itself asks.
//!
//! Nothing of the host is changed for it but rules in the local cloud's own chains, so that it ends with them: a host
//! that does not forward, or whose name server does not answer, gives no way out. Machines then have no name server,
//! and what they look for outside fails at once.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::command::run;

/// Where machines ask for names: Amazon's resolver, as on EC2.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// How long the host's name server may take, twice. It is asked once, when the local cloud starts.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where names are configured; the second where the first leads to a stub on loopback.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// How machines leave the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WayOut {
    /// The interface of the host's default route.
    pub(super) interface: String,
    /// The host's name server.
    pub(super) resolver: Ipv4Addr,
}

impl WayOut {
    /// The host's, if it has one that works now.
    pub(super) async fn find() -> Option<Self> {
        let interface = default_interface(&run("ip", &["-4", "route", "show", "default"]).await.ok()?)?;
        let forwarding = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{interface}/forwarding"));
        if !forwarding.is_ok_and(|value| value.trim() == "1") {
            tracing::info!(
                interface,
                "machines have no way out: the host does not forward (net.ipv4.ip_forward)"
            );
            return None;
        }
        let mut texts = RESOLV_CONF.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        let resolver = texts.find_map(|text| nameserver(&text))?;
        if !answers(SocketAddrV4::new(resolver, 53)).await {
            tracing::info!(%resolver, "machines have no way out: the host's name server does not answer");
            return None;
        }
        tracing::info!(interface, %resolver, "machines have a way out");
        Some(Self { interface, resolver })
    }

    /// For `iptables-restore`, in the chains of `links` (a pattern such as `lc-+`): table `nat`.
    pub(super) fn translation(&self, links: &str) -> String {
        let mut rules = String::new();
        for protocol in ["udp", "tcp"] {
            writeln!(
                rules,
                "-A LOCALCLOUD-PREROUTING -i {links} -d {RESOLVER}/32 -p {protocol} --dport 53 -j DNAT \
                 --to-destination {}:53",
                self.resolver
            )
            .expect("writing to a string does not fail");
        }
        rules
    }

    /// The same for the table `filter`; before the rule that refuses everything.
    pub(super) fn passage(&self, links: &str) -> String {
        let interface = &self.interface;
        format!(
            "-A LOCALCLOUD-FORWARD -i {links} -o {interface} -j ACCEPT\n\
             -A LOCALCLOUD-FORWARD -i {interface} -o {links} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
        )
    }

    /// The rule for the addresses of a VPC, which nobody outside could answer to.
    pub(super) fn masquerade(&self, (address, bits): (Ipv4Addr, u8)) -> Vec<String> {
        let rule = format!("LOCALCLOUD-POSTROUTING -s {address}/{bits} -o {} -j MASQUERADE", self.interface);
        rule.split(' ').map(str::to_owned).collect()
    }
}

/// The interface of the first default route in what `ip route` shows.
fn default_interface(shown: &str) -> Option<String> {
    let mut words = shown.lines().next()?.split_whitespace();
    words.find(|word| *word == "dev")?;
    words.next().map(str::to_owned)
}

/// The first name server that is not a stub on this host.
fn nameserver(resolv_conf: &str) -> Option<Ipv4Addr> {
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().parse().ok()).find(|server: &Ipv4Addr| !server.is_loopback())
}

/// Whether a name server answers a question, whatever the answer.
async fn answers(server: SocketAddrV4) -> bool {
    // RFC 1035, 4.1: id, recursion desired, one question: the name servers (type 2, class 1) of the root.
    const QUESTION: [u8; 17] = [0x10, 0xca, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let ask = async || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(server).await?;
        socket.send(&QUESTION).await?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await?;
        Ok::<_, std::io::Error>(length >= 12 && answer[..2] == QUESTION[..2])
    };
    // A datagram may be lost.
    for _ in 0..2 {
        if let Ok(Ok(true)) = timeout(PATIENCE, ask()).await {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_its_interface() {
        let shown = "default via 192.0.2.1 dev eth0 proto dhcp metric 100 \ndefault dev wg0 scope link\n";
        assert_eq!(default_interface(shown), Some("eth0".to_owned()));
        assert_eq!(default_interface("default dev wg0 scope link"), Some("wg0".to_owned()));
        assert_eq!(default_interface(""), None);
    }

    #[test]
    fn stubs_on_loopback_and_ipv6_servers_are_passed_over() {
        let conf =
            "# local\nsearch example.com\nnameserver 127.0.0.53\nnameserver fd00::1\nnameserver 10.0.0.2\n";
        assert_eq!(nameserver(conf), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(nameserver("nameserver 127.0.0.1\n"), None);
    }

    #[tokio::test]
    async fn a_name_server_is_one_that_answers() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let std::net::SocketAddr::V4(address) = server.local_addr().unwrap() else {
            panic!("an IPv4 address")
        };
        let serve = async {
            let mut question = [0; 512];
            let (length, from) = server.recv_from(&mut question).await.unwrap();
            server.send_to(&question[..length], from).await.unwrap();
        };
        let (good, ()) = tokio::join!(answers(address), serve);
        assert!(good);
        drop(server);
        assert!(!answers(address).await);
    }

    #[test]
    fn machines_go_out_and_only_answers_come_in() {
        let way = WayOut { interface: "eth0".to_owned(), resolver: Ipv4Addr::new(10, 0, 0, 2) };
        insta::assert_snapshot!(way.translation("lc-+") + &way.passage("lc-+"), @r"
        -A LOCALCLOUD-PREROUTING -i lc-+ -d 169.254.169.253/32 -p udp --dport 53 -j DNAT --to-destination 10.0.0.2:53
        -A LOCALCLOUD-PREROUTING -i lc-+ -d 169.254.169.253/32 -p tcp --dport 53 -j DNAT --to-destination 10.0.0.2:53
        -A LOCALCLOUD-FORWARD -i lc-+ -o eth0 -j ACCEPT
        -A LOCALCLOUD-FORWARD -i eth0 -o lc-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
        ");
        assert_eq!(
            way.masquerade((Ipv4Addr::new(10, 88, 0, 0), 16)).join(" "),
            "LOCALCLOUD-POSTROUTING -s 10.88.0.0/16 -o eth0 -j MASQUERADE"
        );
    }
}
