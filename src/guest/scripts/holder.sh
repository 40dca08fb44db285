# Finds the SSH session that listens on 127.0.0.1:@port@ and prints `PID STARTED`: its process, and when that began, in ticks
# since the boot. Nothing, if nobody listens. Ends it only if it is the one of @session@, which somebody saw before.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin LC_ALL=C
expected='@session@'
place=$(printf '0100007F:%04X' @port@)

# The socket that listens there, by its inode. State 0A is LISTEN.
listener() {
	while read -r _ here _ state _ _ _ _ _ inode _; do
		if [ "$here $state" = "$place 0A" ]; then
			echo "$inode"
			break
		fi
	done < /proc/net/tcp
}

# process PID: its parent, and when it began.
process() {
	{ read -r line < "/proc/$1/stat"; } 2> /dev/null || return 1
	# Behind the name, which may be anything.
	set -- ${line##*) }
	echo "$2 ${20}"
}

socket=$(listener)
[ -n "$socket" ] || exit 0

own=' '
pid=$$
while [ "$pid" -gt 1 ]; do
	own="$own$pid "
	up=$(process "$pid") || break
	pid=${up% *}
done

# An sshd of this machine, as the one above this shell is; a container may have one of its own.
found=
for dir in /proc/[0-9]*; do
	{ read -r name < "$dir/comm"; } 2> /dev/null || continue
	case $name in sshd*) ;; *) continue ;; esac
	[ "$dir/ns/mnt" -ef "/proc/$$/ns/mnt" ] || continue
	if ls -l "$dir/fd" 2> /dev/null | grep -qF "socket:[$socket]"; then
		found=${dir#/proc/}
		break
	fi
done
case $own in
*" ${found:-none} "*)
	echo "the session that asks listens on port @port@ itself" >&2
	exit 1
	;;
esac
started=$(process "${found:-none}")
if [ -z "$started" ]; then
	# It may have ended just now.
	[ "$(listener)" = "$socket" ] || exit 0
	echo "port @port@ is taken by something that is no SSH session of this machine" >&2
	exit 1
fi
session="$found ${started#* }"
if [ -z "$expected" ]; then
	echo "$session"
	exit 0
fi
[ "$session" = "$expected" ] || exit 0

kill "$found"
tries=0
while [ "$(listener)" = "$socket" ]; do
	sleep 0.05
	tries=$((tries + 1))
	case $tries in
	40)
		now=$(process "$found")
		[ "${now#* }" = "${started#* }" ] && kill -9 "$found"
		;;
	100)
		echo "the SSH session of process $found does not end" >&2
		exit 1
		;;
	esac
done
exit 0
