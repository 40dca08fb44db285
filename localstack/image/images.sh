#!/bin/bash
# Container images under names that people use, made from Debian packages, for the registry beside the local cloud.
# usage: images.sh CRANE REGISTRY
#   CRANE     the program of that name
#   REGISTRY  host:port of a running `crane registry serve --disk DIR`
# As root, with debootstrap. The images are made once (about a minute and a half) and kept in $ORCA_CACHE; pushing them
# into a registry that has their layers takes a second. The registry keeps its layers on disk and its tags in memory.
. "$(dirname "$0")/lib.sh"
. "$here/oci.sh"

[ $# = 2 ] || die "usage: images.sh CRANE REGISTRY"
crane=$(realpath -e "$1") || die "no crane at $1"
registry=$2
need_root
need debootstrap unshare flock cc gzip tar mount
# In a mount namespace of its own, so that no mount outlives it.
[ -n "${LOCALCLOUD_IMAGES:-}" ] || LOCALCLOUD_IMAGES=private exec unshare --mount --propagation private "$0" "$crane" "$registry"

path='"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'

# on_debian STORE NAME CHANGE: what the function CHANGE does to a Debian root, as a layer of its own.
on_debian() {
  local store=$1 name=$2 change=$3 work=$1/tmp/$2
  mkdir -p "$work"/{upper,work,root}
  chmod 755 "$work/upper"
  mount -t overlay overlay -o "lowerdir=$(debian_root),upperdir=$work/upper,workdir=$work/work" "$work/root"
  "$change" "$work/root"
  umount "$work/root"
  layer "$store" "$name" "$work/upper"
  rm -rf "$work"
}

add_python() {
  install_packages "$1" python3 ca-certificates
  ln -s python3 "$1/usr/bin/python"
  # Where the name that people know it by has it.
  ln -s /usr/bin/python3 "$1/usr/local/bin/python3"
  ln -s /usr/bin/python3 "$1/usr/local/bin/python"
}

add_nginx() {
  install_packages "$1" nginx-light
  mkdir -p "$1"/usr/share/nginx/html "$1/var/log/nginx"
  ln -sf /dev/stdout "$1/var/log/nginx/access.log"
  ln -sf /dev/stderr "$1/var/log/nginx/error.log"
  printf '<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n' > "$1/usr/share/nginx/html/index.html"
  rm -f "$1/etc/nginx/sites-enabled/default"
  cat > "$1/etc/nginx/conf.d/default.conf" <<'CONF'
server {
    listen 80;
    root /usr/share/nginx/html;
    index index.html;
}
CONF
}

make_busybox() {
  local folder=$1 applet package
  mkdir -p "$folder"/{bin,etc,home,root,tmp,usr/bin,usr/sbin,var/spool/mail,var/www}
  chmod 1777 "$folder/tmp"
  chmod 700 "$folder/root"
  package=$(download busybox-static)
  dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$folder" ./bin/busybox
  rm -f "$package"
  for applet in $("$folder/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$folder/bin/$applet"
  done
  ln -s /bin/env "$folder/usr/bin/env"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$folder/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\n' > "$folder/etc/group"
}

# Prints the path of a package's file, fetched in a Debian root, so that the host's sources don't matter.
download() {
  local work; work=$(mktemp -d)
  mkdir "$work"/{upper,work,root}
  mount -t overlay overlay -o "lowerdir=$(debian_root),upperdir=$work/upper,workdir=$work/work" "$work/root"
  quietly inside "$work/root" sh -ec "apt-get -q update; cd /tmp; apt-get -q -o APT::Sandbox::User=root download $1"
  umount "$work/root"
  mv "$work"/upper/tmp/"$1"_*.deb "$work.deb"
  rm -rf "$work"
  printf '%s\n' "$work.deb"
}

build_images() {
  local store=$1 folder=$1/tmp
  mkdir -p "$folder"
  step "image debian:12"
  layer "$store" debian "$(debian_root)"
  image "$store" library/debian:12 "{$path,\"Cmd\":[\"bash\"]}" debian
  step "image python:3"
  on_debian "$store" python add_python
  image "$store" library/python:3 "{$path,\"Cmd\":[\"python3\"]}" debian python
  step "image nginx:stable"
  on_debian "$store" nginx add_nginx
  image "$store" library/nginx:stable \
    "{$path,\"Cmd\":[\"nginx\",\"-g\",\"daemon off;\"],\"ExposedPorts\":{\"80/tcp\":{}},\"StopSignal\":\"SIGQUIT\"}" debian nginx
  step "image busybox:stable, pause"
  make_busybox "$folder/busybox"
  layer "$store" busybox "$folder/busybox"
  image "$store" library/busybox:stable "{$path,\"Cmd\":[\"sh\"]}" busybox
  mkdir "$folder/pause"
  cp "$(pause_program)" "$folder/pause/pause"
  layer "$store" pause "$folder/pause"
  image "$store" pause:3.10 '{"Entrypoint":["/pause"],"User":"65535:65535"}' pause
  rm -rf "$folder"
}

store=$cache/images-$({ cat "$here"/{lib,oci,images}.sh "$here/pause.c"; } | key)
make build_images "$store"

# push IMAGE TAG...: the layout IMAGE under every tag.
push() {
  local image=$1 tag; shift
  for tag; do
    "$crane" push --insecure "$store/images/${image//\//+}" "$registry/$tag" > /dev/null 2>> "$log" \
      || { cat "$log" >&2; die "cannot push $tag to $registry"; }
  done
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
push library/busybox:stable library/busybox:{stable,latest,1.36,1}
push library/debian:12 library/debian:{12,stable,latest,bookworm,12-slim,bookworm-slim}
push library/python:3 library/python:{3,3.11,3-slim,latest}
push library/nginx:stable library/nginx:{stable,latest,1.22}
push pause:3.10 pause:{3.10,3.10.1} kubernetes/pause:latest
