#!/bin/bash
# Starts a whole control plane on this machine: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
# usage: control-plane.sh BIN_DIR STATE_DIR HOST_ADDRESS
# ORCA_APISERVER_FLAGS: more flags of kube-apiserver, whose paths begin in STATE_DIR/pki.
# ORCA_AUDIT_POLICY: what it records, instead of what ORCA asks for.
# Leaves STATE_DIR/admin.conf, STATE_DIR/pki and one STATE_DIR/NAME.pid for each process; ready in about 4 s.
# The Node and RBAC authorizers and NodeRestriction are on, as on any cluster of today.
set -euo pipefail
bin=$1 state=$2 host=$3
here=$(cd "$(dirname "$0")" && pwd)
. "$here/process.sh"

mkdir -p "$state/pki"
cd "$state/pki"

certificate() { # NAME SUBJECT [SUBJECT_ALT_NAME]
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2> /dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
    -extfile <(printf 'extendedKeyUsage=clientAuth,serverAuth\n%s' "${3:-}") 2> /dev/null
}

if [ ! -f front-proxy-client.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 3650 \
    -subj /CN=local-cluster-ca -addext keyUsage=critical,keyCertSign,cRLSign 2> /dev/null
  openssl genrsa -out sa.key 2048 2> /dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
  certificate apiserver /CN=kube-apiserver \
    "subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$host"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate front-proxy-client /CN=front-proxy-client
fi

kubeconfig() { "$bin/kubernetes/kubectl" config --kubeconfig="$state/admin.conf" "$@" > /dev/null; }
kubeconfig set-cluster local --server="https://$host:6443" --certificate-authority=ca.crt --embed-certs
kubeconfig set-credentials admin --client-certificate=admin.crt --client-key=admin.key --embed-certs
kubeconfig set-context local --cluster=local --user=admin
kubeconfig use-context local

launch "$state" etcd "$bin/etcd/etcd" --data-dir="$state/etcd" --unsafe-no-fsync --log-level=warn \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
  --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
  --initial-cluster=default=http://127.0.0.1:2380

cat > "$state/audit-policy.yaml" << 'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users: ["system:serviceaccount:orca-system:orca"]
  - level: None
END
[ -z "${ORCA_AUDIT_POLICY:-}" ] || cp "$ORCA_AUDIT_POLICY" "$state/audit-policy.yaml"

launch "$state" apiserver "$bin/kubernetes/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
  --secure-port=6443 --bind-address="$host" --advertise-address="$host" \
  --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
  --kubelet-client-certificate=kubelet-client.crt --kubelet-client-key=kubelet-client.key \
  --kubelet-preferred-address-types=InternalIP,Hostname \
  --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
  --service-account-issuer=https://kubernetes.default.svc \
  --service-cluster-ip-range=10.96.0.0/16 --allow-privileged --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --requestheader-client-ca-file=ca.crt --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file=front-proxy-client.crt --proxy-client-key-file=front-proxy-client.key \
  --audit-policy-file="$state/audit-policy.yaml" --audit-log-path="$state/audit.log" --audit-log-mode=batch --audit-log-batch-max-wait=1s \
  --enable-aggregator-routing ${ORCA_APISERVER_FLAGS:-}

await 60 "the API server" "$state/apiserver.log" "$bin/kubernetes/kubectl" --kubeconfig="$state/admin.conf" get --raw /readyz

launch "$state" controller-manager "$bin/kubernetes/kube-controller-manager" --kubeconfig="$state/admin.conf" \
  --service-account-private-key-file=sa.key --root-ca-file=ca.crt --cluster-signing-cert-file=ca.crt \
  --cluster-signing-key-file=ca.key --use-service-account-credentials --leader-elect=false
launch "$state" scheduler "$bin/kubernetes/kube-scheduler" --kubeconfig="$state/admin.conf" --leader-elect=false
