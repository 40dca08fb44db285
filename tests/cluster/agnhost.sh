#!/bin/bash
# Puts Kubernetes' own test image into the registry, built from its source: its gRPC health server is what probes ask.
# usage: agnhost.sh REGISTRY
set -euo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
registry=$1
"$tests/build.sh" agnhost
. "$tests/../../localstack/image/lib.sh"
. "$here/oci.sh"
program=$(realpath "$cache/bin/agnhost/agnhost")
name=e2e-test-images/agnhost

build_agnhost() {
  local store=$1
  mkdir -p "$store/tmp/root"
  cp "$program" "$store/tmp/root/agnhost"
  layer "$store" agnhost "$store/tmp/root"
  image "$store" "$name" '{"Entrypoint":["/agnhost"],"Cmd":["pause"]}' agnhost
  rm -rf "$store/tmp"
}

store=$cache/agnhost-$({ cat "$here/oci.sh"; echo "$program"; } | key)
make build_agnhost "$store"
version=$(cd "$tests/agnhost" && cat "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost/VERSION")
"$cache/bin/crane/crane" push --insecure "$store/images/${name//\//+}" "$registry/$name:$version" > /dev/null
