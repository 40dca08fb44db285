t=$ORCA_EXIT_TOKENS
unset ORCA_EXIT_TOKENS
exec 3<<END
$t
END
exec /bin/sh -c "$@"
