# bash completion for mockarchive(1); with bash-completion it is loaded by itself.

_mockarchive()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=''

	COMPREPLY=()
	if [ "${COMP_WORDS[1]}" = ctl ]; then
		local commands='state files file archive release recall cancel evict pin lose damage corrupt unavailable available mend delete wait drives drive library faults fault clock advance settle settings set profile journal metrics reset exit'

		case $prev in
		ctl | --json) words=$commands ;;
		--copy) words='tape replica both' ;;
		--as) words='plain hsm_state dsmls dmattr eos' ;;
		--state) words='writing resident archiving dual released partial recalling lost damaged unavailable failed-archive failed-recall' ;;
		--url | --timeout | --hits | --fault | --pin | --id | --after | advance) return ;;
		library) words='up down' ;;
		fault) words='add show on off remove clear' ;;
		clock) words='real manual scaled:' ;;
		profile) words='eth-lts baker lustre lustre-nonblocking dmf samba cta' ;;
		reset) words='faults settings drives counters journal files clock all' ;;
		esac
		case $words:$cur in
		:-*) words='--url --mount --json --copy --state --as --timeout --fault --hits --pin --id --after --force --follow --help' ;;
		:*)
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return ;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
	fi
	case $prev in
	--profile) words='eth-lts baker lustre lustre-nonblocking dmf samba cta' ;;
	--clock) words='real manual scaled:' ;;
	--set)
		compopt -o nospace
		words=$(mockarchive --help 2>/dev/null | sed -n 's/^  \([a-z][a-z._]*=\).*/\1/p') ;;
	--http | --token | --site) return ;;
	-o) words='worm' ;;
	*)
		case $cur in
		-*) words='--store --replica --profile --set --clock --http --token --allow-remote --site -o --foreground --debug --help --version' ;;
		*)
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			[ "$COMP_CWORD" -eq 1 ] && mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W ctl -- "$cur")
			return ;;
		esac ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _mockarchive mockarchive
