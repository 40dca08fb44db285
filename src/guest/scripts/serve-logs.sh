#!/bin/bash
# Answers what ORCA asks about the kept log files of one pod, one question a line:
#   list                   lines `SIZE CONTAINER/RUN.log.SERIAL`, then `.`
#   wait SECONDS           `.` as soon as one of them may have grown since the last list, or after that time, or when
#                          an empty line comes
#   read NAME OFFSET COUNT COUNT, these bytes, `.`; or `gone`
#   drop NAME              removes it; `.`
# While nothing changes, no process is started.
export LC_ALL=C
shopt -s nullglob
root=${2:-/var/log/orca/pods}/$1
mark=$(mktemp /run/orca/serve-logs.XXXXXX) || exit
trap 'rm -f "$mark"' EXIT
trap exit HUP TERM PIPE
listed=0

# Whether there is anything new since the last list.
changed() {
	local file files=("$root"/*/*.log.*)
	[ ${#files[@]} = "$listed" ] || return 0
	for file in "${files[@]}"; do
		# What was written in the same moment may have been written after the list.
		[ "$mark" -nt "$file" ] || return 0
	done
	return 1
}

while IFS=' ' read -r ask name offset count; do
	case $ask in
	list)
		: > "$mark"
		files=("$root"/*/*.log.*)
		listed=${#files[@]}
		if [ "$listed" -gt 0 ]; then
			cd "$root" && stat -c '%s %n' -- "${files[@]#"$root/"}" 2> /dev/null
		fi
		echo .
		;;
	wait)
		for ((tries = name * 4; tries > 0; tries--)); do
			changed && break
			read -r -t 0.25
			# Above 128 nothing came in time.
			[ $? -gt 128 ] || break
		done
		echo .
		;;
	read)
		{
			echo "$count"
			dd iflag=skip_bytes,count_bytes bs=65536 skip="$offset" count="$count" status=none <&8
			echo .
		} 8< "$root/$name" || echo gone
		;;
	drop)
		rm -f -- "$root/$name"
		echo .
		;;
	esac
done
