read -r end_token restart_token <&3
exec 3<&-
child= stopped= interrupted= over= napping=
nap() {
  sleep "$1" > /dev/null 2>&1 &
  napping=$!
  wait "$napping"
  kill "$napping" 2> /dev/null
}
signal() {
  interrupted=1
  if [ -n "$over" ]; then
    kill "$napping" 2> /dev/null
    exit 0
  fi
  stopped=1
  [ -z "$child" ] || kill -s "$1" "$child" 2> /dev/null
}
trap 'signal TERM' TERM
trap 'signal INT' INT
trap 'signal HUP' HUP
trap 'signal QUIT' QUIT
trap 'interrupted=1; [ -z "$child" ] || kill -s KILL "$child" 2> /dev/null' USR1
say() { printf '\n%s\n' "$*"; }
rest() {
  over=1
  while :; do nap 3600; done
}
if [ -e "$ran" ] && [ "$policy" = never ]; then
  say "ORCA-AGAIN $restart_token"
  rest
fi
: > "$ran" 2> /dev/null
prepare || { say "ORCA-EXIT $end_token 128"; rest; }
if [ "$lifetime" -gt 0 ]; then
  (
    trap - TERM INT HUP QUIT USR1
    sleep "$lifetime" > /dev/null
    kill -s TERM $$
    sleep "$grace" > /dev/null
    kill -s USR1 $$
    if command -v curl > /dev/null; then
      curl -fsS -X DELETE -H "Authorization: Bearer $RUNPOD_API_KEY" "$api/pods/$RUNPOD_POD_ID"
    elif command -v wget > /dev/null; then
      wget -q --method=DELETE --header="Authorization: Bearer $RUNPOD_API_KEY" "$api/pods/$RUNPOD_POD_ID"
    fi
  ) > /dev/null 2>&1 &
fi
run=0 pause=10
while :; do
  began=$(date +%s)
  "$@" < /dev/null &
  child=$!
  code=
  while :; do
    interrupted=
    wait "$child"
    now=$?
    # A shell that has told a child's end once answers 127 from then on.
    [ "$now" -eq 127 ] && [ -n "$code" ] || code=$now
    [ -n "$interrupted" ] || break
  done
  child=
  if [ -n "$stopped" ] || [ "$policy" = never ] || { [ "$policy" = on-failure ] && [ "$code" -eq 0 ]; }; then
    break
  fi
  run=$((run + 1))
  say "ORCA-RESTART $restart_token $run $code"
  [ $(($(date +%s) - began)) -lt 600 ] || pause=10
  nap "$pause"
  [ -z "$stopped" ] || break
  pause=$((pause * 2))
  [ "$pause" -le 300 ] || pause=300
done
say "ORCA-EXIT $end_token $code"
rest
