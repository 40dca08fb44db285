#!/bin/bash
# run.sh SECONDS KEEP [TARGET...]: replays what is kept of earlier runs, then tries each target (all of them, if none is
# named) for so long, guided by coverage. With KEEP not empty, inputs that reach what no kept one does are kept in corpus/.
set -euo pipefail
cd "$(dirname "$0")"
seconds=$1 keep=$2
shift 2
# shellcheck disable=SC2046 # names without blanks
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' Cargo.toml)
cp ../../Cargo.lock .
RUSTC_WRAPPER=$PWD/rustc.sh cargo build --quiet
mkdir -p artifacts
for target in "$@"; do
  work=target/corpus/$target kept=corpus/$target run=target/debug/$target
  mkdir -p "$work" "$kept"
  "$run" -runs=0 "$kept" > "target/$target.log" 2>&1 || { tail -n 30 "target/$target.log"; exit 1; }
  "$run" "$work" "$kept" -max_total_time="$seconds" -max_len=4096 -timeout=20 -print_final_stats=1 \
    -artifact_prefix="artifacts/$target-" > "target/$target.log" 2>&1 || { tail -n 30 "target/$target.log"; exit 1; }
  awk -v target="$target" '/cov:/ { cov = $4 } /number_of_executed_units/ { runs = $2 }
    END { printf "%-16s %12d executions, %5d counters reached\n", target, runs, cov }' "target/$target.log"
  if [ -n "$keep" ]; then
    rm -rf target/merged && mkdir target/merged
    "$run" -set_cover_merge=1 target/merged "$kept" "$work" > "target/$target.log" 2>&1
    rm -rf "$kept" && mv target/merged "$kept"
  fi
done
