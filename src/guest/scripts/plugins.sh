# Takes CNI plugins, an archive on standard input, and moves them into their folder when they are whole and on the disk:
# one that is there is taken for good at the next connect.
mkdir -p @dir@ && into=$(mktemp -d @dir@/.orca.XXXXXX) || exit
trap 'rm -rf "$into"' EXIT
tar -xzpf - -C "$into" && sync "$into"/* && mv -f "$into"/* @dir@/
