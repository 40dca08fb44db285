#!/bin/bash
# Keeps a second name for every log file of every container: rotation, and the removal of a deleted pod's containers,
# then take nothing away that is not archived yet. Names are RUN.log.SERIAL, where the serial number rises from file to
# file of a run. ORCA removes what it has archived, but never the youngest of a run; what nobody archives is bounded.
# While nothing changes, no process is started.
export LC_ALL=C
shopt -s nullglob
umask 077
from=${1:-/var/log/pods} to=${2:-/var/log/orca/pods} most=@most@
mkdir -p "$to" || exit
# Nobody writes to it: a read that times out is a pause.
pause=$(mktemp -u /run/orca/keep-logs.XXXXXX)
mkfifo "$pause" && exec 9<> "$pause" && rm -f "$pause" || exit
# By file: the youngest of its names.
declare -A youngest

# oldest FILE...: the first of the lowest run.
oldest() {
	local file run low=
	for file; do
		run=${file##*/}
		run=${run%%.*}
		if [ -z "$low" ] || [ "$run" -lt "$low" ]; then
			low=$run
			found=$file
		fi
	done
}

keep() {
	local file=$1 dir run serial=0 link
	dir=$to/${file#"$from/"}
	dir=${dir%/*}
	run=${file##*/}
	run=${run%.log}
	case $run in '' | *[!0-9]*) return ;; esac
	local kept=("$dir/$run".log.*)
	if [ ${#kept[@]} -gt 0 ]; then
		link=${kept[-1]}
		if [ "$file" -ef "$link" ]; then
			youngest[$file]=$link
			return
		fi
		serial=$((10#${link##*.} + 1))
	fi
	[ -d "$dir" ] || mkdir -p "$dir" || return
	printf -v link '%s/%s.log.%08d' "$dir" "$run" "$serial"
	ln "$file" "$link" || return
	youngest[$file]=$link
	local all=("$dir"/*.log.*)
	if [ ${#all[@]} -gt "$most" ]; then
		oldest "${all[@]}"
		rm -f "$found"
	fi
}

while :; do
	for file in "$from"/*/*/*.log; do
		[ "$file" -ef "${youngest[$file]-}" ] || keep "$file"
	done
	read -r -t 0.2 -u 9
done
