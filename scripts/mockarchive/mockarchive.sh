# mockarchive.sh: a tape archive for a shell script. Source it (bash, dash, busybox sh):
#
#	. /usr/local/share/mockarchive/mockarchive.sh
#	mockarchive_start --profile eth-lts		# sets MOCKARCHIVE_MOUNT and the others below
#	echo one >"$MOCKARCHIVE_MOUNT/myfile"
#	mockarchive_ctl settle				# time stands still until it is moved
#	cat "$MOCKARCHIVE_MOUNT/myfile"			# Input/output error: it is on tape
#	mockarchive_ctl settle
#	cat "$MOCKARCHIVE_MOUNT/myfile"			# one
#	mockarchive_stop
#
# mockarchive_start sets MOCKARCHIVE_MOUNT, MOCKARCHIVE_REPLICA, MOCKARCHIVE_STORE, MOCKARCHIVE_URL (a UNIX socket, what `mockarchive
# ctl` uses), MOCKARCHIVE_HTTP (http://127.0.0.1:PORT), MOCKARCHIVE_LOG and MOCKARCHIVE_PID. Stop it also when the script fails:
#	trap mockarchive_stop EXIT
# $MOCKARCHIVE names the program where it is not in $PATH. Needs fusermount3 and mktemp, nothing else.

mockarchive_start()
{
	MOCKARCHIVE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/mockarchive.XXXXXX") || return
	MOCKARCHIVE_MOUNT=$MOCKARCHIVE_DIR/final MOCKARCHIVE_STORE=$MOCKARCHIVE_DIR/store MOCKARCHIVE_REPLICA=$MOCKARCHIVE_DIR/replica
	MOCKARCHIVE_LOG=$MOCKARCHIVE_DIR/log MOCKARCHIVE_URL=unix:$MOCKARCHIVE_DIR/http
	export MOCKARCHIVE_URL
	mkdir "$MOCKARCHIVE_MOUNT" "$MOCKARCHIVE_STORE" "$MOCKARCHIVE_REPLICA" || return
	# A --clock of the caller's comes later, and counts.
	MOCKARCHIVE_RUN_DIR=$MOCKARCHIVE_DIR "${MOCKARCHIVE:-mockarchive}" "$MOCKARCHIVE_MOUNT" --store "$MOCKARCHIVE_STORE" \
		--replica "$MOCKARCHIVE_REPLICA" --http "$MOCKARCHIVE_URL" --http 127.0.0.1:0 --clock manual --foreground "$@" \
		>"$MOCKARCHIVE_LOG" 2>&1 </dev/null &
	MOCKARCHIVE_PID=$!
	mockarchive_tries=0
	until mockarchive_ctl clock >/dev/null 2>&1; do
		mockarchive_tries=$((mockarchive_tries + 1))
		if ! kill -0 "$MOCKARCHIVE_PID" 2>/dev/null || [ "$mockarchive_tries" -gt 600 ]; then
			echo 'mockarchive.sh: mockarchive did not start:' >&2
			cat "$MOCKARCHIVE_LOG" >&2
			mockarchive_stop
			return 1
		fi
		sleep 0.05
	done
	MOCKARCHIVE_HTTP=http://$(mockarchive_ctl --json state | sed -n 's,.*"\(127\.0\.0\.1:[0-9]*\)".*,\1,p' | head -n 1)
	export MOCKARCHIVE_HTTP
}

mockarchive_ctl()
{
	"${MOCKARCHIVE:-mockarchive}" ctl --url "$MOCKARCHIVE_URL" "$@"
}

# Ends it and takes away its directory, with everything in it. Its exit status; 0 if none was started.
mockarchive_stop()
{
	[ -n "${MOCKARCHIVE_DIR:-}" ] || return 0
	mockarchive_status=0
	if [ -n "${MOCKARCHIVE_PID:-}" ]; then
		mockarchive_ctl fault clear >/dev/null 2>&1 || :	# who hangs in one can go
		kill "$MOCKARCHIVE_PID" 2>/dev/null || :
		wait "$MOCKARCHIVE_PID" || mockarchive_status=$?
	fi
	fusermount3 -uzq "$MOCKARCHIVE_MOUNT" 2>/dev/null || :	# it was unmounted at its end
	rm -rf "$MOCKARCHIVE_DIR"
	MOCKARCHIVE_DIR='' MOCKARCHIVE_PID=''
	return "$mockarchive_status"
}
