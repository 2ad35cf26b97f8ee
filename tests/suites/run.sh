#!/bin/bash
# run.sh MODE NAME... : runs outside checks on wormfs. MODE: never (a plain passthrough), lock (files are locked at close).
# Environment: WORMFS [build/wormfs], OPTIONS (more mount options), LOGS [build/suites]. Ends with "N passed, N failed".
set -u
here=$(cd "$(dirname "$0")" && pwd) mode=$1; shift
wormfs=$(realpath "${WORMFS:-build/wormfs}") logs=${LOGS:-build/suites}; mkdir -p "$logs"; logs=$(realpath "$logs")
suites=$here
case $mode in
never) options=commit=never ;;
lock)	# the suites as they are, but for writer.py: after it each acknowledged file must be locked, too
	options=commit=close; export WRITER_ARGS=norename WRITER_DIR=$here
	suites=$logs/locked; rm -rf "$suites"; mkdir "$suites" && ln -s "$here"/* "$suites"/ && ln -sf "$here/locked.py" "$suites/writer.py" || exit 2 ;;
*) echo "run.sh: MODE is never or lock" >&2; exit 2 ;;
esac
options=$options${OPTIONS:+,$OPTIONS}
export FS_MOUNT="$wormfs \$BASE \$MNT -o state=\${WORK:-/run}/state,$options"
export FS_FG="$wormfs -f \$BASE \$MNT -o state=\${WORK:-/run}/state,$options"
passed=0 failed=0 skipped=0
run() {
	local name=$1 line r; shift
	timeout -k 10 "${LIMIT:-900}" "$@" </dev/null >"$logs/$mode-$name.log" 2>&1
	r=$?
	if [ $r -eq 77 ]; then	# what this machine cannot do
		skipped=$((skipped + 1)); echo "SKIP - $mode $name: $(tail -n 1 "$logs/$mode-$name.log")"
		return
	fi
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$logs/$mode-$name.log" | tail -1)
	if [[ $line =~ ^([0-9]+)\ passed,\ 0\ failed ]] && [ "${BASH_REMATCH[1]}" -gt 0 ]; then
		passed=$((passed + 1)); echo "ok - $mode $name: $line"
	else
		failed=$((failed + 1)); echo "not ok - $mode $name: ${line:-no verdict} (log: $logs/$mode-$name.log)"
		tail -n 8 "$logs/$mode-$name.log" | sed 's/^/    /'
	fi
}
# What a crash may leave: with locking a file whose close was acknowledged is whole and cannot be replaced.
crash_ops='echo data >a; sync a; mv a b'
crash_check='[ ! -e b ] || [ "$(cat b)" = data ]'
error_ops='echo data >a; mv a b; truncate -s 2 b'
error_check='echo ok >new.$$ && [ "$(cat new.$$)" = ok ]'
if [ "$mode" = lock ]; then	# beside the mount: whether close has returned 0
	crash_ops="python3 $here/locked.py a --write data ../acked"
	crash_check="python3 $here/locked.py a --check data ../acked"' && { [ ! -s a ] || [ "$(cat a)" = data ]; }'
	error_ops="$crash_ops; mv a b; truncate -s 2 a"
	error_check="python3 $here/locked.py a --check data ../acked && $error_check"
fi
for name; do
	case $name in
	kill9) run kill9 bash "$suites/kill9.sh" "${ROUNDS:-6}" ;;
	powerloss-ext4) run powerloss-ext4 bash "$suites/powerloss.sh" "${ROUNDS:-4}" ;;
	powerloss-xfs) MKFS='mkfs.xfs -q -f' run powerloss-xfs bash "$suites/powerloss.sh" "${ROUNDS:-4}" ;;
	snapshots) run snapshots bash "$suites/snapshots.sh" 4 ;;
	crashpoint) run crashpoint bash "$suites/crashpoint.sh" "$crash_ops" "$crash_check" "${POINTS:-2}" ;;
	errinject) run errinject bash "$suites/errinject.sh" "$error_ops" "$error_check" ;;
	users)	# users.sh leaves it out without a word
		ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || { skipped=$((skipped + 1)); echo "SKIP - $mode users, its PostgreSQL part: not installed"; }
		SRC=${SRC:-/usr/share/perl} run users bash "$here/users.sh" ;;
	smb) [ "$mode" = lock ] && export WORM=1; run smb bash "$here/smb.sh" ;;
	nfs) run nfs bash "$here/nfs.sh" ;;
	stress) run stress bash "$here/stress.sh" ;;
	uml-dm) run uml-dm bash "$here/uml.sh" dm 180 ;;
	uml-nfsd) run uml-nfsd bash "$here/uml.sh" nfsd 180 ;;
	uml-quota) gcc -o "$logs/dqnl" "$here/dqnl.c" $(pkg-config --cflags --libs libnl-3.0 libnl-genl-3.0) &&
		QUOTA_ENFORCED=1 QUOTA_LISTEN=1 EXTRA="$logs/dqnl" run uml-quota bash "$here/uml.sh" quota 180 ;;
	*) echo "run.sh: no suite '$name'" >&2; exit 2 ;;
	esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$((passed + skipped))" -gt 0 ]
