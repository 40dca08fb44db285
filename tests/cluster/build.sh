#!/bin/bash
# Builds the programs of other people that the local world is made of, from Go modules alone, into a cache that all clones share.
# usage: build.sh NAME...     (names: the folders beside this file)
# Prints nothing when everything is there. The cache is keyed by what decides the result: go.mod, go.sum and the recipe's number.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
recipe=2 # raise it when the way of building below changes
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
version=$(cd "$here/kubernetes" && go list -m -f "{{.Version}}" k8s.io/kubernetes)
minor=${version#v1.}; minor=${minor%%.*}

build() {
  local name=$1 dir=$here/$1 key out flags="-s -w" tags=
  key=$(echo "$recipe" | cat - "$dir/go.mod" "$dir/go.sum" | sha256sum | cut -c1-16)
  out=$cache/bin/$name-$key
  if [ ! -e "$out/.done" ]; then
    echo "building $name from Go modules (once; into $out) ..." >&2
    local start=$SECONDS
    mkdir -p "$out"
    if [ "$name" = kubernetes ]; then
      # Without these the kubelet and the API server report v0.0.0.
      flags="$flags -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
    fi
    # Of promtool only what checks rules: no clients of clouds.
    [ "$name" != promtool ] || tags=remove_all_sd
    # One program at a time, so that the wait shows progress.
    (cd "$dir" && go list tool) | while read -r tool; do
      echo "  ${tool##*/}" >&2
      (cd "$dir" && CGO_ENABLED=0 go build -trimpath -tags "$tags" -ldflags "$flags" -o "$out/" "$tool")
    done
    [ "$name" != etcd ] || mv "$out/server" "$out/etcd"
    [ "$name" != ssm-plugin ] || mv "$out/sessionmanagerplugin-main" "$out/session-manager-plugin"
    # With its own manifests: what it may do in a cluster is for its authors to say.
    [ "$name" != metrics-server ] || (cd "$dir" && install -m 644 \
      "$(go list -m -f "{{.Dir}}" sigs.k8s.io/metrics-server)"/manifests/base/{apiservice,rbac,service}.yaml "$out/")
    [ "$name" != virtual-kubelet ] || (cd "$dir" && install -m 644 \
      "$(go list -m -f "{{.Dir}}" github.com/virtual-kubelet/virtual-kubelet)/hack/skaffold/virtual-kubelet/base.yml" "$out/")
    touch "$out/.done"
    echo "built $name in $((SECONDS - start)) s" >&2
  fi
  ln -sfn "$out" "$cache/bin/$name"
}

mkdir -p "$cache/bin"
for name in "$@"; do build "$name"; done
