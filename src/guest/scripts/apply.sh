#!/bin/sh
# Brings the machine to what the files beside this script say. Repeating it changes nothing, and nothing
# restarts whose files are the same. The last line of an error says what is wrong.
# The kubelet starts as early as it can: it is shown no pod before this script has ended.
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin LC_ALL=C
plugins=
fail() {
	echo "$*" >&2
	# What is on its way need not come again.
	[ -z "$plugins" ] || wait "$plugins"
	exit 1
}
cd "${0%/*}" || fail "the files did not arrive"
if [ "@plugins@" ]; then
	# What runs in the background has no standard input unless it is given one.
	exec 3<&0
	sh plugins <&3 2> plugins.err &
	plugins=$!
	exec 3<&-
fi
exec 9> /run/orca/lock
flock -w 60 9 || fail "an earlier bootstrap is still running"
cut -d. -f1 /proc/uptime > /run/orca/contact

# put NAME FILE MODE: a file that is there already, with the same content, is left alone.
put() {
	if [ -f "$2" ] && [ "$(sha256sum < "$1")" = "$(sha256sum < "$2")" ] && [ "$(stat -c %a "$2")" = "$3" ]; then
		return
	fi
	# A unit that systemd has read before.
	case $2 in *.service) [ ! -e "$2" ] || reload=yes ;; esac
	# Within one folder, so that it is there whole or not at all.
	install -D -m "$3" "$1" "$2.new" && mv -f "$2.new" "$2" || fail "$2 can't be written"
}
# same NAME FILE...: whether NAME was last brought up with exactly these files, in this boot.
same() {
	stamp=/run/orca/$1.sum
	shift
	wanted=$(cat "$@" | sha256sum)
	[ "$wanted" = "$(cat "$stamp" 2> /dev/null)" ]
}
# ensure NAME UNIT FILE...: restarts the unit unless it runs with exactly these files.
ensure() {
	unit=$2
	name=$1
	shift 2
	same "$name" "$@" && systemctl --quiet is-active "$unit" && return
	rm -f "$stamp"
	if ! systemctl restart "$unit"; then
		journalctl -q -u "$unit" -n 5 -o cat >&2 2> /dev/null
		fail "$unit does not start"
	fi
	echo "$wanted" > "$stamp"
}

@put_first@
ensure containerd containerd.service @containerd_files@ &
containerd=$!

mkdir -p -m 0700 @keys@
reload=
@put@
network=
if ! same network @network@; then
	@network@ 2> network.err &
	network=$!
fi
wait "$containerd" || fail "containerd.service does not start"
# The unit came with the user data, unless that is an older ORCA's.
[ -z "$reload" ] || systemctl daemon-reload

if [ "@keeper_files@" ]; then
	# Before any container writes.
	ensure logs orca-logs.service @keeper_files@
fi

# Nothing else waits for the driver.
gpus=@gpus@
if [ "$gpus" -gt 0 ]; then
	command -v nvidia-smi > /dev/null || fail "the image has no \`nvidia-smi\`, and the pod's machine has $gpus GPUs"
	[ "@nvidia_runtime@" ] || [ ! -e /proc/driver/nvidia/version ] ||
		fail "the image has the NVIDIA driver but no \`nvidia-container-runtime\`"
	tries=0
	until found=$(nvidia-smi -L 2> /dev/null | grep -c '^GPU ') && [ "$found" -ge "$gpus" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || fail "the driver shows $found of $gpus GPUs"
		sleep 1
	done
	if ls /proc/driver/nvidia-nvswitch/devices/* > /dev/null 2>&1; then
		systemctl start nvidia-fabricmanager.service || fail "fabricmanager does not start"
	fi
fi

ensure kubelet orca-kubelet.service @kubelet_files@

# What pods need and the kubelet's own start does not.
has_pause() { ctr -n k8s.io images ls -q | grep -qxF @pause@; }
if ! has_pause; then
	# Not one of Amazon's images: any pause image will do.
	ctr -n k8s.io images pull --hosts-dir @registry_hosts@ @pause_source@ > /dev/null &&
		ctr -n k8s.io images tag @pause_source@ @pause@ > /dev/null &&
		ctr -n k8s.io images label @pause@ io.cri-containerd.pinned=pinned > /dev/null
	has_pause || fail "the image has no @pause@, and @pause_source@ can't be pulled"
fi
if [ "$network" ]; then
	wait "$network" || fail "network: $(tail -n 1 network.err)"
	same network @network@
	echo "$wanted" > "$stamp"
fi
if [ "$plugins" ]; then
	wait "$plugins" || {
		plugins=
		fail "CNI plugins: $(tail -n 1 plugins.err)"
	}
fi
mkdir -p /var/lib/orca && : > /var/lib/orca/bootstrapped
