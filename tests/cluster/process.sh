# Sourced by the scripts beside it: starting, awaiting and ending background processes.

launch() { # STATE_DIR NAME COMMAND...
  local state=$1 name=$2
  shift 2
  setsid "$@" >> "$state/$name.log" 2>&1 < /dev/null &
  echo "$! $(started $!)" > "$state/$name.pid"
}

# When a process began, in ticks since the boot: tells it from a later one with the same number.
started() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d ' ' -f 20; }

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

# Whether what `launch` started still runs.
alive() { # STATE_DIR NAME
  local pid began
  read -r pid began 2> /dev/null < "$1/$2.pid" || return 1
  [ -n "$began" ] && [ "$(started "$pid")" = "$began" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2> /dev/null
}

# Ends it in the middle of what it does, as a crash would.
slay() { # STATE_DIR NAME
  local pid
  if alive "$@"; then
    read -r pid _ < "$1/$2.pid"
    kill -KILL -- "-$pid" 2> /dev/null || true
    while alive "$@"; do sleep 0.05; done
  fi
  rm -f "$1/$2.pid"
}

# Ends a process group that `launch` started; SIGKILL after 25 seconds, which is what ORCA may take and some.
finish() { # STATE_DIR NAME
  local file=$1/$2.pid pid
  [ -f "$file" ] || return 0
  if alive "$@"; then
    read -r pid _ < "$file"
    kill -TERM -- "-$pid" 2> /dev/null || true
    kill -CONT -- "-$pid" 2> /dev/null || true
    for _ in $(seq 250); do alive "$@" || break; sleep 0.1; done
    kill -KILL -- "-$pid" 2> /dev/null || true
  fi
  rm -f "$file"
}
