# Watches this machine's NVIDIA GPUs until its standard input ends: rows of nvidia-smi after `g `, messages of the
# driver in the kernel's log after `k `. One nvidia-smi stays, since each start of it may wake the GPUs up.
export LC_ALL=C
columns='@columns@'
gpus() {
	while :; do
		# Only what this driver knows: one unknown column and it answers nothing.
		help=$(nvidia-smi --help-query-gpu 2>&1)
		query=
		for column in $columns; do
			case $help in *"\"$column\""*) query=$query,$column ;; esac
		done
		[ -n "$query" ] || query=,index,uuid
		nvidia-smi --query-gpu="${query#,}" --format=csv -lms @period@ 2>&1
		sleep 20
	done
}
# What was said before this connection counts, too.
messages() {
	if command -v journalctl > /dev/null; then
		journalctl --dmesg --boot --follow --lines=20000 --output=short-unix --no-pager --quiet 2> /dev/null
	else
		dmesg --follow 2> /dev/null
	fi | grep --line-buffered 'NVRM: Xid'
}
command -v nvidia-smi > /dev/null || { echo 'g no nvidia-smi on this machine'; cat > /dev/null; exit 0; }
gpus | sed -u 's/^/g /' &
messages | sed -u 's/^/k /' &
cat > /dev/null
trap '' TERM
kill -TERM 0
