# Becomes a machine. Runs in mount and network namespaces of its own, so that its mounts and its interface end with it
# whatever happens to the local cloud. Reads one line when the host has put the interface in.
# Environment: NAME, DIR, BASE, UNIFIED, GROUP (parent of all machines' groups), ADDRESS (with prefix), GATEWAY, MAC,
# CAPABILITIES (flags), RESOLVER (empty: the machine has no way out, and looks up no names).

read -r _
ip link set lo up
ip link set ens5 address "$MAC"
ip address add "$ADDRESS" dev ens5
ip link set ens5 up
ip route add default via "$GATEWAY"

mount -t overlay overlay -o "lowerdir=$BASE/root,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
set -- --bind="$DIR/containerd:/var/lib/containerd"
# Few and short attempts: a name that cannot be had is told soon.
[ -z "$RESOLVER" ] || printf 'nameserver %s\noptions timeout:2 attempts:2\n' "$RESOLVER" > "$DIR/root/etc/resolv.conf"

# cgroup v1: the machine sees its own group as the root of every hierarchy, so that it can use all of it and nothing else.
# nspawn moves it one level down in the hierarchy named systemd.
if [ "$UNIFIED" = 0 ]; then
	mount -t tmpfs -o mode=755 cgroup "$DIR/cgroup"
	for hierarchy in /sys/fs/cgroup/*; do
		name=${hierarchy##*/}
		group=$hierarchy/$GROUP/$NAME
		if [ -L "$hierarchy" ]; then
			cp -P "$hierarchy" "$DIR/cgroup/$name"
			continue
		fi
		case $name in
		unified) continue ;;
		systemd) group=$group/payload && mkdir -p "$group" ;;
		esac
		mkdir "$DIR/cgroup/$name"
		mount --bind "$group" "$DIR/cgroup/$name"
	done
	set -- "$@" --bind="$DIR/cgroup:/sys/fs/cgroup"
fi

# nspawn leaves folders in /run; nothing here needs the host's.
mount -t tmpfs -o mode=755 run /run

# Of /proc/sys, what belongs to its network is the machine's own.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="$UNIFIED" SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
# shellcheck disable=SC2086
exec systemd-nspawn --quiet --directory="$DIR/root" --boot --machine="$NAME" --register=no --keep-unit --notify-ready=yes \
	--network-namespace-path=/proc/$$/ns/net --resolv-conf=off --timezone=off --link-journal=no --console=read-only \
	--capability=all $CAPABILITIES --system-call-filter="add_key keyctl bpf perf_event_open" --bind=/dev/kmsg \
	--setenv=SYSTEMD_COLORS=0 "$@"
