#!/bin/bash
# The root file system that every machine of the local cloud boots from: what the EKS-optimized AL2023 image has, on Debian.
# usage: build.sh KUBELET OUT
#   KUBELET  the kubelet's binary, which goes to /usr/bin/kubelet
#   OUT      becomes a link to the finished folder OUT-KEY, which holds `root` and `containerd`
# As root, with debootstrap. About a minute the first time; at once when nothing changed.
# Left out on purpose: CNI plugins, every file of ORCA, and a started containerd or kubelet; they arrive over the wire.
. "$(dirname "$0")/lib.sh"
. "$here/oci.sh"

[ $# = 2 ] || die "usage: build.sh KUBELET OUT"
kubelet=$(realpath -e "$1") || die "no kubelet at $1"
out=$2
need_root
need debootstrap unshare flock cc gzip tar

# As a machine sees the registry beside the cloud; the local cloud sends it on to wherever that listens.
registry=http://169.254.169.5:5000
mirrored='docker.io registry.k8s.io quay.io ghcr.io nvcr.io'
packages='systemd systemd-sysv dbus openssh-server iproute2 iptables containerd runc curl kmod conntrack socat ethtool
  procps ca-certificates cloud-init'

# The pause image under the name that the EKS image caches it as, unpacked, so that the first pod needs no network.
preload_pause() {
  local root=$1 store=$1/tmp/pause
  mkdir -p "$store/folder"
  cp "$(pause_program)" "$store/folder/pause"
  layer "$store" pause "$store/folder"
  image "$store" kubernetes/pause:latest '{"Entrypoint":["/pause"],"User":"65535:65535"}' pause
  tar --create --dereference --file "$root/tmp/pause.tar" -C "$store/images/kubernetes+pause:latest" .
  rm -rf "$store"
  quietly inside "$root" bash -euc '
    mount -t tmpfs tmpfs /run
    printf "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n" > /run/config.toml
    containerd --config /run/config.toml > /run/log 2>&1 &
    for _ in $(seq 100); do ctr version > /dev/null 2>&1 && break; sleep 0.1; done
    ctr --namespace k8s.io images import --snapshotter overlayfs /tmp/pause.tar
    ctr --namespace k8s.io images ls | grep -F localhost/kubernetes/pause:latest
    kill %1
    wait || true'
  rm -f "$root/tmp/pause.tar"
}

build_image() {
  local root=$1/root name debian
  debian=$(debian_root)
  cp -a "$debian" "$root"
  step "packages of a machine (about 25 s)"
  # shellcheck disable=SC2086
  install_packages "$root" $packages

  install -m 755 "$kubelet" "$root/usr/bin/kubelet"
  mkdir -p "$root/opt/cni/bin" "$root/etc/cni/net.d" "$root/etc/kubernetes/manifests"
  cp -r --no-preserve=ownership "$here/root/." "$root/"
  for name in $mirrored; do
    mkdir -p "$root/etc/containerd/certs.d/$name"
    printf '[host."%s"]\n  capabilities = ["pull", "resolve"]\n' "$registry" > "$root/etc/containerd/certs.d/$name/hosts.toml"
  done

  # cloud-init asks for metadata tokens only where it knows EC2's hypervisor, by a file that a container's /sys cannot have.
  local source=$root/usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py
  grep -q /sys/hypervisor/uuid "$source" || die "cloud-init looks for EC2's hypervisor elsewhere than it did"
  sed -i s,/sys/hypervisor/uuid,/usr/lib/ec2/hypervisor-uuid, "$source"

  # cloud-init's local stage would ask for an address by DHCP; the interface has it from the start.
  step "pause image, services"
  preload_pause "$root"
  quietly inside "$root" systemctl disable containerd.service
  quietly inside "$root" systemctl mask console-getty.service getty.target systemd-networkd.service \
    systemd-networkd-wait-online.service systemd-resolved.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-modules-load.service \
    cloud-init-local.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@.service
  quietly inside "$root" systemctl set-default multi-user.target
  quietly inside "$root" systemctl enable ssh.service sshd-keygen.service kernel-settings.service
  # A cloud image has neither an identity nor host keys before its first boot.
  rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
  : > "$root/etc/machine-id"
  : > "$root/etc/resolv.conf"
  rm -rf "$root"/var/lib/cloud/* "$root"/tmp/* "$root"/var/tmp/*
  # Overlay does not stack on overlay, so every machine gets a plain copy of containerd's store.
  mv "$root/var/lib/containerd" "$1/containerd"
  mkdir "$root/var/lib/containerd"
}

key=$({ cat "$here"/{lib,oci,build}.sh "$here/pause.c"; cd "$here/root"; find . -type f | sort | xargs sha256sum; sha256sum < "$kubelet"; } | key)
make build_image "$out-$key"
ln -sfn "$(basename "$out-$key")" "$out"
