# bash completion for wormctl(1); with bash-completion it is loaded by itself.

_wormctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='list status commit append extend hold release delete shorten requests approve expire policy push reindex verify export report audit events serve clock quota watch-upstream errno-table'
	local command='' words='' nth=0 i

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--state-dir | --key | --state | --hold | --uid | --expires-before | --rule | --files-from | --from | --reason | --before | --rate | --share | --since | --until | --start | --end | --path | --event | --head | --anchor | --file | --first | --jobs | --out | --html | --as | --size | --rules | --config | --cluster | --credentials | --ca | --root | --token-file | --listen | --host | --user | --password-file | --retention | --settle | --rescan | --id | --output | --files | --to | --count | --type | --consumer) ((i++)) ;;
		-*) ;;
		*)
			if [ -z "$command" ]; then
				command=${COMP_WORDS[i]}
			else
				((nth++))
			fi ;;
		esac
	done

	case $prev in
	--state) words='retained expired held' ;;
	--uid | --as) mapfile -t COMPREPLY < <(compgen -u -- "$cur"); return ;;
	--hold | --expires-before | --rule | --reason | --before | --rate | --since | --until | --start | --end | --event | --head | --first | --path | --jobs | --size | --cluster | --root | --user | --settle | --rescan | --id | --files | --to | --count | --type | --consumer | --listen | --host) return ;;
	--retention) words='30d 6mo 1y 7y 10y' ;;
	--state-dir | --out)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return ;;
	--key | --files-from | --from | --anchor | --file | --html | --rules | --config | --credentials | --ca | --token-file | --password-file | --output) ;;
	*)
		case $command:$cur in
		:-*) words='--state-dir --key --json --help --version' ;;
		:*) words=$commands ;;
		list:-*) words='--state --hold --uid --expires-before --rule --json --count --null --header --state-dir --help' ;;
		status:-*) words='--json --state-dir --key --help' ;;
		commit:-* | append:-* | extend:-*)
			words='--recursive --files-from --null --json --state-dir --help' ;;
		hold:-*) words='--recursive --future --reason --from --null --progress --json --state-dir --help' ;;
		release:-*) words='--recursive --all --reason --from --null --progress --json --state-dir --help' ;;
		delete:-* | shorten:-*) words='--reason --files-from --null --json --state-dir --help' ;;
		requests:-*) words='--json --state-dir --help' ;;
		approve:-*) words='--share --json --state-dir --help' ;;
		expire:-*) words='--list --delete --before --rate --json --state-dir --help' ;;
		policy:-*) words='--as --size --rules --used --json --state-dir --help' ;;
		policy:*) [ "$nth" -gt 0 ] || words='check test show diff reload' ;;
		push:-*) words='--state --again --fix --all --rate --resume --quiet --config --cluster --credentials --ca --insecure --root --token-file --user --password-file --no-test --batch --json --state-dir --help' ;;
		push:*) [ "$nth" -gt 0 ] || words='status list retry check setup reconcile' ;;
		reindex:-*) words='--json --state-dir --key --help' ;;
		audit:-*) words='--since --until --uid --path --event --denied --start --end --type --success --failure --events --head --anchor --file --first --json --state-dir --help' ;;
		audit:*) [ "$nth" -gt 0 ] || words='show viewer verify export' ;;
		events:-*) words='--listen --token-file --allow-remote --consumer --from --to --count --path --type --uid --refused --raw --json --state-dir --help' ;;
		events:*) [ "$nth" -gt 0 ] || words='tail replay consumers consumer stats sse listen decode' ;;
		serve:-*) words='--listen --token-file --host --allow-remote --json --state-dir --help' ;;
		clock:-*) words='--reason --json --state-dir --help' ;;
		clock:*) [ "$nth" -gt 0 ] || words='status accept' ;;
		quota:-*) words='--fix --json --state-dir --key --help' ;;
		quota:*) [ "$nth" -gt 0 ] || words='list check' ;;
		verify:-*) words='--rate --jobs --since --resume --quiet --json --state-dir --key --help' ;;
		export:-*) words='--out --json --state-dir --help' ;;
		report:-*) words='--html --text --json --state-dir --help' ;;
		watch-upstream:-*) words='--retention --legal-hold --recursive --settle --since --rescan --once --dry-run --id --output --jobs --files --verbose --config --cluster --credentials --ca --insecure --json --help' ;;
		watch-upstream:*) return ;;
		errno-table:*) words='--help' ;;
		extend:*) [ "$nth" -gt 0 ] || words='30d 6mo 1y 7y 10y infinite' ;;
		hold:*) [ "$nth" -gt 0 ] || words='list show' ;;
		release:*) [ "$nth" -gt 0 ] || return ;;
		esac ;;
	esac
	if [ -n "$words" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
	fi
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

complete -F _wormctl wormctl
