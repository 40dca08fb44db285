# Becomes a container. Runs in mount, network, UTS and IPC namespaces of its own, so that its mounts and its interface end
# with it whatever happens to the local cloud. Reads one line when the host has put the interface in.
# Environment: NAME (its host name), DIR (its files), IMAGE (root file system), ADDRESS, GATEWAY.
# usage: [SOURCE TARGET]... -- COMMAND...    (what is mounted where; what it becomes, with programs by their full paths)

read -r _
ip link set lo up
ip address add "$ADDRESS/32" dev eth0
ip link set eth0 up
ip route add "$GATEWAY" dev eth0
ip route add default via "$GATEWAY"

mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
cd "$DIR/root"
mkdir -p proc sys dev etc tmp
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid,size=64k dev dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do
	: > "dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=64m shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "dev/${n#*:}"; done
for file in hosts hostname resolv.conf; do
	# A link would lead out of the image.
	[ ! -L "etc/$file" ] || rm "etc/$file"
	[ -e "etc/$file" ] || : > "etc/$file"
	mount --bind "$DIR/$file" "etc/$file"
done
while [ "$1" != -- ]; do
	mkdir -p ".$2"
	mount --bind "$1" ".$2"
	shift 2
done
shift

# Its root replaces the host's, of which nothing is in reach then; and it is the first process of its own.
exec unshare --pid --fork --kill-child=KILL sh -euc '
	mount -t proc -o nosuid,nodev,noexec proc proc
	# Of it, what is of the whole host cannot be changed.
	for path in sys sysrq-trigger irq bus fs; do
		[ ! -e "proc/$path" ] || { mount --bind "proc/$path" "proc/$path" && mount -o remount,bind,ro "proc/$path"; }
	done
	printf %s "$NAME" > /proc/sys/kernel/hostname
	mount --move . /
	exec "$@" < /dev/null' sh "$@"
