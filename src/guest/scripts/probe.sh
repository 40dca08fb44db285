# Tells what this machine is, one `name=value` a line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin LC_ALL=C
say() { printf '%s=%s\n' "$1" "$2"; }
umask 077
mkdir -p /run/orca
chmod 0755 /run/orca

# The slow ones beside the rest; each prints one line at once.
say kubelet_version "$(kubelet --version 2> /dev/null)" &
say containerd_version "$(containerd --version 2> /dev/null)" &

say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
say machine "$(uname -m)"
say run_is "$(stat -fc %T /run)"
[ -e /var/lib/orca/bootstrapped ] && say bootstrapped yes
case $(stat -fc %T /sys/fs/cgroup) in
cgroup2fs) say cgroup v2 ;;
*)
	say cgroup v1
	say cgroup_root "$(awk -F: '$2 == "memory" { print $3 }' /proc/1/cgroup)"
	;;
esac
sh -c 'echo -998 > /proc/$$/oom_score_adj' 2> /dev/null && say oom_score lower

for tool in kubelet containerd runc nvidia-container-runtime nvidia-smi iptables ctr; do
	say "$tool" "$(command -v "$tool")"
done
say containerd_slice "$(systemctl show -p Slice containerd.service 2> /dev/null | cut -d= -f2)"
systemctl --quiet is-active systemd-logind.service && say logind active
[ -x /etc/eks/image-credential-provider/ecr-credential-provider ] && say credential_provider ecr

for dir in /opt/cni/bin /usr/libexec/cni /usr/lib/cni; do
	for plugin in ptp static portmap loopback; do
		[ -x "$dir/$plugin" ] && [ -s "$dir/$plugin" ] && say cni "$dir/$plugin"
	done
done
for file in /run/systemd/resolve/resolv.conf /etc/resolv.conf; do
	[ -f "$file" ] && say resolv_conf "$file" && break
done

if=$(ip -o -4 route show default | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }')
say interface "$if"
say mtu "$(cat "/sys/class/net/$if/mtu" 2> /dev/null)"
imds=http://169.254.169.254/latest
token=$(curl -sf -m 1 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/api/token" 2> /dev/null)
if [ -n "$token" ]; then
	mac=$(cat "/sys/class/net/$if/address")
	for cidr in $(curl -sf -m 1 -H "X-aws-ec2-metadata-token: $token" \
		"$imds/meta-data/network/interfaces/macs/$mac/vpc-ipv4-cidr-blocks" 2> /dev/null); do
		say vpc_cidr "$cidr"
	done
fi
wait
exit 0
