# usage: GROUP... -- COMMAND...
# Runs a command in control groups: a process can only put itself into one before it becomes the command.
while [ "$1" != -- ]; do
	echo $$ > "$1/cgroup.procs"
	shift
done
shift
exec "$@"
