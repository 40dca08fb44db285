#!/bin/sh
# cargo calls this in place of rustc (RUSTC_WRAPPER): `orca` and the targets are compiled with counters that libFuzzer
# reads, everything else as always, so that nothing of it is built a second time.
case " $* " in
  *" --crate-name orca "* | *" targets/"*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares ;;
  *) exec "$@" ;;
esac
