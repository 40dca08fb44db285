#!/bin/bash
# The local world: a control plane, the local cloud with its registry, and ORCA, all on this machine.
# usage: world.sh up [CONFIG, also by ORCA_CONFIG] | down | orca-start [CONFIG] | orca-start-second | orca-stop [NAME] |
#   orca-kill [NAME] | orca-freeze [NAME] | orca-thaw [NAME] | apiserver-stop | apiserver-start | metrics-server |
#   virtual-kubelet [SERVER]
# NAME is `orca`, or `orca-second`: another replica with an address and ports of its own.
# State is under target/local (another folder: ORCA_WORLD). One world at a time: its ports and addresses are fixed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
. "$here/process.sh"

world=${ORCA_WORLD:-$top/target/local}
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
bin=$cache/bin
programs=${ORCA_PROGRAMS:-$top/target/debug}
# The control plane's and the node's address: on loopback, yet not a loopback address, which the API server would
# refuse to proxy to. It lies in the local cloud's VPC, whose traffic never leaves this machine.
host=10.88.0.10
second=10.88.0.11
cloud=127.0.0.1:4566
registry=127.0.0.1:5000
# RunPod's API, whose pods are containers here (ORCA_PODS=none: states only).
runpod=127.0.0.1:4567
kubectl="$bin/kubernetes/kubectl --kubeconfig=$world/admin.conf"

say() { printf '%s %s\n' "==>" "$*" >&2; }

start_orca() { # CONFIG [NAME ADDRESS]
  # The name is what a pod's would be: started again, it takes its own Lease over at once.
  AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true POD_NAME=${2:-orca} POD_IP=${3:-$host} \
    launch "$world" "${2:-orca}" "$programs/orca" run --config "$1" --kubeconfig "$world/orca.conf"
}

start_second() {
  ip address replace "$second/32" dev lo
  sed "s/listen: $host:/listen: $second:/; s/listen: 127.0.0.1:/listen: 127.0.0.2:/" "$world/orca.yaml" > "$world/orca-second.yaml"
  start_orca "$world/orca-second.yaml" orca-second "$second"
}

# Stops a process where it stands, and lets it go on.
signal_orca() { # SIGNAL NAME
  local pid
  read -r pid _ < "$world/$2.pid"
  kill "-$1" -- "-$pid"
}

up() {
  local config=${1:-${ORCA_CONFIG:-$here/orca.yaml}} begin=$SECONDS
  [ "$(id -u)" = 0 ] || { echo "machines can only be booted as root" >&2; exit 1; }
  # Without a control plane it is what a reboot left, and `down` clears that away.
  if [ -e "$world/up" ] && alive "$world" etcd; then
    echo "a world is up already in $world: 'make down' ends it" >&2
    exit 1
  fi
  down
  mkdir -p "$world" "$cache/registry"
  touch "$world/up"
  ip address replace "$host/32" dev lo

  say "control plane, registry and local cloud start"
  launch "$world" registry "$bin/crane/crane" registry serve --address "$registry" --disk "$cache/registry"
  launch "$world" localstack "$programs/localstack" serve --listen "$cloud" --dir "$world/cloud" --machines "${ORCA_MACHINES:-nspawn}" \
    --image "$(realpath "$cache/image")" --registry "$registry" \
    --runpod "$runpod" --pods "${ORCA_PODS:-containers}" --crane "$bin/crane/crane"
  "$here/control-plane.sh" "$bin" "$world" "$host"
  cp "$world/admin.conf" "$world/kubeconfig"
  await 30 "the registry" "$world/registry.log" "$bin/crane/crane" catalog --insecure "$registry"
  "$top/localstack/image/images.sh" "$bin/crane/crane" "$registry"
  await 30 "the local cloud" "$world/localstack.log" curl -fsS "http://$cloud/_local/health"
  await 30 "RunPod" "$world/localstack.log" curl -fsS "http://$runpod/_local/health"
  echo "http://$runpod" > "$world/runpod"

  say "ORCA starts, with the permissions of its manifests"
  $kubectl apply -f "$top/manifests/namespace.yaml" -f "$top/manifests/rbac.yaml" > /dev/null
  sed "s#\${CACHE}#$cache#" "$config" > "$world/orca.yaml"
  identity orca-system orca > /dev/null
  start_orca "$world/orca.yaml"
  await 30 "the node" "$world/orca.log" \
    $kubectl wait --for=condition=Ready --timeout=1s node/orca
  await 30 "the default service account" "$world/controller-manager.log" $kubectl -n default get serviceaccount default
  say "up after $((SECONDS - begin)) s"
}

# A kubeconfig of a ServiceAccount, NAME.conf: its RBAC is in force here as it is in a cluster.
identity() { # NAMESPACE NAME
  local token config="$world/$2.conf"
  token=$($kubectl -n "$1" create token "$2" --duration=24h)
  cp "$world/admin.conf" "$config"
  "$bin/kubernetes/kubectl" config --kubeconfig="$config" unset users.admin
  "$bin/kubernetes/kubectl" config --kubeconfig="$config" set-credentials "$2" --token="$token"
  "$bin/kubernetes/kubectl" config --kubeconfig="$config" set-context local --user="$2"
}

# metrics-server behind the API server, with its own manifests and flags, except that it is no pod. What runs already
# is left as it is.
metrics_server() {
  ! alive "$world" metrics-server || return 0
  [ -x "$bin/metrics-server/metrics-server" ] || { echo "no metrics-server: tests/cluster/build.sh metrics-server" >&2; exit 1; }
  local conf=$world/metrics-server.conf
  sed "s/ADDRESS/$host/" "$here/metrics-server.yaml" | $kubectl apply -f "$bin/metrics-server/rbac.yaml" \
    -f "$bin/metrics-server/service.yaml" -f "$bin/metrics-server/apiservice.yaml" -f - > /dev/null
  identity kube-system metrics-server > /dev/null
  launch "$world" metrics-server "$bin/metrics-server/metrics-server" --kubeconfig="$conf" \
    --authentication-kubeconfig="$conf" --authorization-kubeconfig="$conf" \
    --bind-address="$host" --secure-port=4443 --cert-dir="$world/metrics-server" --kubelet-insecure-tls \
    --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname --kubelet-use-node-status-port --metric-resolution=15s
  await 30 "metrics-server" "$world/metrics-server.log" $kubectl get --raw /apis/metrics.k8s.io/v1beta1
}

# Virtual Kubelet's own program with its mock provider, as another node, with its own manifest's permissions: what ORCA
# is measured beside. SERVER: where its API server is.
virtual_kubelet() { # [SERVER]
  local program=$bin/virtual-kubelet/virtual-kubelet conf=$world/virtual-kubelet.conf
  [ -x "$program" ] || { echo "no virtual-kubelet: tests/cluster/build.sh virtual-kubelet" >&2; exit 1; }
  $kubectl -n default apply -f "$bin/virtual-kubelet/base.yml" > /dev/null
  identity default virtual-kubelet > /dev/null
  [ -z "$1" ] || "$bin/kubernetes/kubectl" config --kubeconfig="$conf" set-cluster local --server="$1" > /dev/null
  echo '{"virtual-kubelet": {"cpu": "2000", "memory": "8Ti", "pods": "5000"}}' > "$world/virtual-kubelet.json"
  # Any certificate does for a port that nobody asks.
  KUBELET_PORT=10251 VKUBELET_POD_IP=$host APISERVER_CERT_LOCATION=$world/pki/kubelet-client.crt \
    APISERVER_KEY_LOCATION=$world/pki/kubelet-client.key \
    launch "$world" virtual-kubelet "$program" --kubeconfig="$conf" --nodename=virtual-kubelet --provider=mock \
    --provider-config="$world/virtual-kubelet.json"
  await 30 "virtual-kubelet" "$world/virtual-kubelet.log" \
    $kubectl wait --for=condition=Ready --timeout=1s node/virtual-kubelet
}

down() {
  local name
  for name in virtual-kubelet metrics-server orca-second orca scheduler controller-manager localstack registry apiserver etcd; do finish "$world" $name; done
  [ ! -x "$programs/localstack" ] || [ ! -d "$world/cloud" ] || "$programs/localstack" clean --dir "$world/cloud"
  ip address del "$host/32" dev lo 2> /dev/null || true
  ip address del "$second/32" dev lo 2> /dev/null || true
  rm -rf "$world"
}

case ${1:-} in
  up) up "${2:-}" ;;
  down) down ;;
  orca-start) start_orca "${2:-$world/orca.yaml}" ;;
  orca-start-second) start_second ;;
  orca-stop) finish "$world" "${2:-orca}" ;;
  orca-kill) slay "$world" "${2:-orca}" ;;
  orca-freeze) signal_orca STOP "${2:-orca}" ;;
  orca-thaw) signal_orca CONT "${2:-orca}" ;;
  apiserver-stop) for name in scheduler controller-manager apiserver etcd; do finish "$world" $name; done ;;
  metrics-server) metrics_server ;;
  apiserver-start) "$here/control-plane.sh" "$bin" "$world" "$host" ;;
  virtual-kubelet) virtual_kubelet "${2:-}" ;;
  *) sed -n '2,7p' "$0" >&2; exit 2 ;;
esac
