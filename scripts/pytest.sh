#!/bin/bash
# pytest.sh ARGS: runs pytest; of a directory or of several files one file per processor at a time (JOBS=N: so many, JOBS=0: one
# after the other in this process). With RETRY=1 (CI) what failed runs once more, alone, and that is said aloud: a test
# that passes then is one to look at (the log has both runs), not one that is trusted.
set -u
python=${PYTHON:-/usr/bin/python3}
cache=$(mktemp -d) || exit 2
trap 'rm -rf "$cache"' EXIT

places=0
for arg; do
	[ -d "$arg" ] && places=$((places + 2))
	[ -f "${arg%%::*}" ] && places=$((places + 1))
done
jobs=0
[ "$places" -gt 1 ] && jobs=${JOBS:-$(nproc)}

run=("$python" -m pytest -q -rsfE -o cache_dir="$cache")
"${run[@]}" -n "$jobs" --dist loadfile "$@"
r=$?
if [ "$r" -eq 1 ] && [ "${RETRY:-}" = 1 ]; then
	echo "== some failed; once more, only those, one after the other"
	"${run[@]}" --last-failed --last-failed-no-failures none "$@"
	r=$?
	[ "$r" -eq 0 ] && echo "== passed the second time: see the first run above"
fi
exit "$r"
