#!/bin/bash
# pytest.sh ARGS: runs pytest. With RETRY=1 (CI) what failed runs once more, alone, and that is said aloud: a test
# that passes then is one to look at (the log has both runs), not one that is trusted.
set -u
python=${PYTHON:-/usr/bin/python3}
cache=$(mktemp -d) || exit 2
trap 'rm -rf "$cache"' EXIT
"$python" -m pytest -q -rsfE -o cache_dir="$cache" "$@"
r=$?
if [ "$r" -eq 1 ] && [ "${RETRY:-}" = 1 ]; then
	echo "== some failed; once more, only those"
	"$python" -m pytest -q -rsfE -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@"
	r=$?
	[ "$r" -eq 0 ] && echo "== passed the second time: see the first run above"
fi
exit "$r"
