#!/bin/sh
# The machine's side of the pod's network. May run at any time.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
pod=@pod_ip@
interface=@interface@
fail() {
	echo "$*" >&2
	exit 1
}
command -v iptables > /dev/null || fail "the image has no \`iptables\`"

# The pod's address is the pod's alone: what hands it to the interface is stopped, then it is taken away.
for unit in "refresh-policy-routes@$interface.timer" "policy-routes@$interface.service"; do
	if systemctl --quiet is-active "$unit" 2> /dev/null; then
		systemctl --quiet mask --runtime --now "$unit"
	fi
done
rm -f "/run/systemd/network/70-$interface.network.d/ec2net_alias.conf"
ip -o -4 address show | awk -v pod="$pod" '{ split($4, a, "/"); if (a[1] == pod) print $4, $2 }' |
	while read -r address device; do
		ip address delete "$address" dev "$device"
	done

forward=/proc/sys/net/ipv4/ip_forward
[ "$(cat $forward)" = 1 ] || echo 1 > $forward || fail "IPv4 forwarding can't be switched on"
# Other programs set this to DROP; the kubelet's own unit on EKS images does the same as this.
iptables -w -P FORWARD ACCEPT || fail "iptables can't be used"

# Out of the VPC a secondary address has no public mapping: such traffic leaves as the machine's own.
iptables -w -t nat -N ORCA-SNAT 2> /dev/null || iptables -w -t nat -F ORCA-SNAT
@snat@
iptables -w -t nat -C POSTROUTING -s "$pod" -j ORCA-SNAT 2> /dev/null ||
	iptables -w -t nat -A POSTROUTING -s "$pod" -j ORCA-SNAT || fail "the source address can't be translated"

# Pods on the host's network would reach the machine's credentials; processes outside the pods' cgroup must.
# The cgroup has to exist for the rule; the kubelet takes it as it finds it. Version 1 has no such match.
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
	mkdir -p /sys/fs/cgroup/kubepods.slice
	block() { # COMMAND ADDRESS
		command -v "$1" > /dev/null || return 0
		"$1" -w -C OUTPUT -d "$2" -m cgroup --path kubepods.slice -j REJECT 2> /dev/null ||
			"$1" -w -I OUTPUT -d "$2" -m cgroup --path kubepods.slice -j REJECT
	}
	block iptables 169.254.169.254 || echo "instance metadata is open to pods on the host's network" >&2
	block ip6tables fd00:ec2::254 2> /dev/null
fi
exit 0
