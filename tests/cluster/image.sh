#!/bin/bash
# Makes the machine image, in the cache that all clones share; prints nothing when it is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
"$top/localstack/image/build.sh" "$cache/bin/kubernetes/kubelet" "$cache/image"
