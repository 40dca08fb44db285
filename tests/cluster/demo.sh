#!/bin/bash
# A pod's whole life, from `kubectl apply` to a container on a machine of its own and back to nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
export KUBECONFIG=$top/target/local/kubeconfig
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
PATH=$cache/bin/kubernetes:$PATH

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
# Machines as the cloud sees them, with what each would cost on demand (list prices of us-east-1, dollars an hour).
machines() {
  curl -fsS http://127.0.0.1:4566/_local/instances | python3 -c '
import json, sys
price = {"m7i.large": 0.1008, "m7i.xlarge": 0.2016, "g5.xlarge": 1.006, "g5.12xlarge": 5.672}
rows = [i for i in json.load(sys.stdin) if i["state"] != "terminated"]
print("%-21s %-13s %-10s %-11s %-12s %s" % ("INSTANCE", "TYPE", "STATE", "ZONE", "ADDRESS", "POD"))
for i in rows:
    pod = i["tags"].get("orca.research/pod-namespace", "") + "/" + i["tags"].get("orca.research/pod-name", "")
    print("%-21s %-13s %-10s %-11s %-12s %s" % (i["id"], i["instance_type"], i["state"], i["zone"], (i["addresses"] or ["-"])[0], pod))
print("%d machines, $%.4f an hour at list price" % (len(rows), sum(price.get(i["instance_type"], 0) for i in rows)))'
}

trap '"$here/world.sh" down' EXIT
step "The local world comes up"
"$here/world.sh" up
show kubectl get nodes -o wide

step "Five examples are applied; each pod gets a machine of its own"
show kubectl apply -f "$top/examples/"
show kubectl wait pod/first --for=condition=Ready --timeout=180s
show kubectl get pods -o wide
show machines

step "The first pod's story, its log, a command in it"
show kubectl events --for pod/first
show kubectl logs first
show kubectl exec first -- uname -a

step "Several containers, and a web server by port-forward"
show kubectl wait pod/team pod/web --for=condition=Ready --timeout=180s
show kubectl logs team -c read
show kubectl exec web -- nginx -v
kubectl port-forward pod/web 8080:80 > /dev/null &
forward=$!
trap 'kill $forward 2> /dev/null || true; "$here/world.sh" down' EXIT
for _ in $(seq 100); do curl -fsS http://127.0.0.1:8080/ > /dev/null 2>&1 && break; sleep 0.1; done
show curl -fsS -o /dev/null -w 'HTTP %{http_code}, %{size_download} bytes\n' http://127.0.0.1:8080/
kill $forward

step "The Job, and who sees which GPUs"
show kubectl wait job/sum --for=condition=Complete --timeout=180s
show kubectl logs job/sum
show kubectl wait pod/gpus --for=jsonpath='{.status.phase}'=Succeeded --timeout=180s
show kubectl logs gpus --all-containers --prefix

step "Everything is deleted: the machines end with their pods"
show kubectl delete -f "$top/examples/" --timeout=120s
for _ in $(seq 600); do machines | grep -q '^0 machines' && break; sleep 0.1; done
show machines
machines | grep -q '^0 machines'

step "The local world goes down"
"$here/world.sh" down
trap - EXIT
echo "done"
