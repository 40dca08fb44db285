# Shared by build.sh and images.sh: the cache, progress, and one Debian root that everything else is laid upon.

set -euo pipefail

cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=bookworm

step() { printf '  %s\n' "$*" >&2; }

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "needs root: it makes root file systems"; }

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || die "needs \`$tool\`; on Debian: apt-get install debootstrap systemd-container iptables gcc"
  done
}

# A key of everything that is piped in.
key() { sha256sum | cut -c1-16; }

# Runs a long command quietly; shows the end of what it printed when it fails.
quietly() {
  local log; log=$(mktemp)
  if ! "$@" > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    die "failed: $*"
  fi
  rm -f "$log"
}

# make FUNCTION DIR: DIR as FUNCTION leaves it, or not at all. Another run that makes the same one is waited for.
make() {
  local function=$1 dir=$2
  [ -e "$dir" ] && return
  mkdir -p "$cache"
  exec 9> "$dir.lock"
  flock 9
  # shellcheck disable=SC2064
  trap "rm -rf '$dir.tmp' '$dir.lock'" EXIT
  if [ ! -e "$dir" ]; then
    rm -rf "$dir.tmp"
    mkdir -p "$dir.tmp"
    "$function" "$dir.tmp"
    mv -T "$dir.tmp" "$dir"
  fi
  exec 9>&-
  rm -f "$dir.lock"
  trap - EXIT
}

# inside ROOT COMMAND...: a command in a root of its own, with the host's network.
# Its mounts and processes end with it, whatever happens to this script.
inside() {
  unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    root=$1; shift
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    touch "$root/etc/resolv.conf"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive "$@"' inside "$@"
}

# install_packages ROOT PACKAGE...: without recommendations, documentation, started services or leftovers.
install_packages() {
  local root=$1; shift
  mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
  printf 'path-exclude=/usr/share/%s/*\n' doc man info locale lintian > "$root/etc/dpkg/dpkg.cfg.d/90-small"
  echo force-unsafe-io >> "$root/etc/dpkg/dpkg.cfg.d/90-small"
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  quietly inside "$root" apt-get -q update
  quietly inside "$root" apt-get -qy install --no-install-recommends "$@"
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root/usr/sbin/policy-rc.d"
}

bootstrap_debian() {
  step "Debian root file system (about 40 s)"
  quietly debootstrap --variant=minbase "$release" "$1/root"
  rm -rf "$1"/root/var/lib/apt/lists/* "$1"/root/var/cache/apt/* "$1"/root/var/log/*
  : > "$1/root/etc/resolv.conf"
  rm -f "$1/root/etc/hostname"
  rm -rf "$1"/root/usr/share/{doc,man,info,locale,lintian}/*
}

# Prints the folder of the Debian root, made on first use. It is the image debian:12 and the base of the others.
debian_root() {
  local dir; dir=$cache/debian-$(declare -f bootstrap_debian | key)
  make bootstrap_debian "$dir"
  printf '%s/root\n' "$dir"
}

# Prints the folder with the static program \`pause\`, which holds a pod's namespaces.
compile_pause() {
  cc -static -Os -s -o "$1/pause" "$here/pause.c"
}

pause_program() {
  local dir; dir=$cache/pause-$(key < "$here/pause.c")
  make compile_pause "$dir"
  printf '%s/pause\n' "$dir"
}
