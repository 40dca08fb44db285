#!/bin/bash
# Makes the machine image and fills the registry, into the cache that all clones share; prints nothing when both are there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
"$top/localstack/image/build.sh" "$cache/bin/kubernetes/kubelet" "$cache/image"
"$top/localstack/image/images.sh" "$cache/bin/crane/crane" "$cache"
