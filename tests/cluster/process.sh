# Sourced by the scripts beside it: starting, awaiting and ending background processes.

launch() { # STATE_DIR NAME COMMAND...
  local state=$1 name=$2
  shift 2
  setsid "$@" >> "$state/$name.log" 2>&1 < /dev/null &
  echo $! > "$state/$name.pid"
}

await() { # SECONDS WHAT LOG COMMAND...
  local seconds=$1 what=$2 log=$3 end=$((SECONDS + $1))
  shift 3
  until "$@" > /dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then
      echo "$what is not ready after $seconds s; the end of $log:" >&2
      tail -n 20 "$log" >&2
      return 1
    fi
    sleep 0.1
  done
}

alive() { [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null; }

# Ends a process group that `launch` started; SIGKILL after ten seconds.
finish() { # STATE_DIR NAME
  local file=$1/$2.pid pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  kill -TERM -- "-$pid" 2> /dev/null || true
  for _ in $(seq 100); do alive "$pid" || break; sleep 0.1; done
  kill -KILL -- "-$pid" 2> /dev/null || true
  rm -f "$file"
}
