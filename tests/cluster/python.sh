#!/bin/bash
# A Python with the programs that the local cloud is checked against (boto3, moto), in the cache that all clones share.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${ORCA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orca}
key=$(sha256sum < "$here/requirements.txt" | cut -c1-16)
out=$cache/python-$key
if [ ! -e "$out/.done" ]; then
  echo "installing boto3 and moto (once; into $out) ..." >&2
  rm -rf "$out"
  python3 -m venv "$out"
  "$out/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  touch "$out/.done"
fi
ln -sfn "$out" "$cache/python"
