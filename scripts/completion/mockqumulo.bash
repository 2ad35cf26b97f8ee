# bash completion for mockqumulo(1); with bash-completion it is loaded by itself.

_mockqumulo()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	case $prev in
	--tree)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return ;;
	--password-file | --token-file | --cert-out | --state)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return ;;
	--ids)
		mapfile -t COMPREPLY < <(compgen -W 'inode own' -- "$cur")
		return ;;
	--listen)
		mapfile -t COMPREPLY < <(compgen -W '127.0.0.1: [::1]: unix:' -- "$cur")
		return ;;
	--set)
		compopt -o nospace
		mapfile -t COMPREPLY < <(mockqumulo --help 2>/dev/null | sed -nE "s/^  ([a-z-]+=)[^ ]* \(.*/\1/p" | grep "^$cur")
		return ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W '--tree --listen --http --allow-remote --user --password-file --token-file --cert-out
		--name --clock --latency --state --ids --journal --threads --set --help --version' -- "$cur")
}

complete -F _mockqumulo mockqumulo
