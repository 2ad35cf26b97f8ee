# bash completion for wormfs(8); with bash-completion it is loaded by itself.

_wormfs()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local options='rules= commit= retention= min= max= mode= hold= hold_role= privdel= approve= staging= staging_idle= settle= digest= digest_rate= sync= atime_api= shared= state= key=
		clock= push= push_root= push_credentials= push_ca= push_insecure push_wait= push_undated= push_retry= push_connections= push_in_flight= passthrough= io_uring= splice= threads= uring_depth= descriptors= xattr= allow_other
		audit= audit_success= audit_failure= audit_rotate= audit_anchor= events= events_types= events_ring= events_credentials= events_ca= quota= quota_hit_count quota_listen quota_notify= no_allow_other ro noatime nodev nosuid noexec dev suid exec remount'
	local i list last name before values=''

	COMPREPLY=()
	# Bash breaks words at "=" and ":": what -o got so far is put together again.
	list=$cur
	for ((i = COMP_CWORD - 1; i > 0; i--)); do
		[ "${COMP_WORDS[i]}" = -o ] && break
		list=${COMP_WORDS[i]}$list
	done
	if [ "$i" -gt 0 ]; then
		last=${list##*,}
		name=${last%%=*}
		case $last in
		commit=*) values='close idle: chmod explicit never' ;;
		retention=*) values='30d 1y 7y 10y infinite unspecified' ;;
		mode=*) values='governance compliance' ;;
		privdel=*) values='off on never' ;;
		sync=*) values='follow close' ;;
		digest=*) values='on off' ;;
		atime_api=*) values='off on' ;;
		shared=*) values='auto no yes' ;;
		passthrough=* | io_uring=* | splice=*) values='auto no' ;;
		audit=*) values='on off' ;;
		audit_success=* | audit_failure=*) values='all none commit deny_*' ;;
		events=*) values='on strict off json: beegfs7: beegfs8: cloudevents: cloudevents-batch: syslog: journald:' ;;
		events_types=*) values='all' ;;
		quota_notify=*) values='stdout netlink command: http:// https://' ;;
		xattr=*) values='auto trusted user' ;;
		push=*) values='qumulo:' ;;
		push_undated=*) values='fail hold' ;;
		clock=*) values='own wall file:' ;;
		state=* | key=* | audit_anchor=* | rules=* | quota=* | push_credentials=* | push_ca=* | events_credentials=* | events_ca=*)
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "${last#*=}")
			return ;;
		*=*) return ;;
		esac
		compopt -o nospace
		if [ -n "$values" ]; then
			[ "$prev" = "$name" ] && cur=''	# the word is the "=" itself
			mapfile -t COMPREPLY < <(compgen -W "$values" -- "${cur##*=}")
		else
			before=${cur%"${cur##*,}"}
			mapfile -t COMPREPLY < <(compgen -P "$before" -W "$options" -- "${cur##*,}")
		fi
		return
	fi
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '-f -d -o --foreground --debug --help --version' -- "$cur")
		return
	fi
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -d -- "$cur")
}

complete -F _wormfs wormfs
