# Completion of stator for bash (1). Commands and options are those that `stator --help` and
# `stator COMMAND --help` name, so that this file knows none of them itself.
# shellcheck shell=bash

# Words of the output of "$@ --help" that match the sed expression $1.
_stator_said() {
    local expression=$1
    shift
    "$@" --help 2>/dev/null | sed -nE "$expression"
}

_stator() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} words='' files=no takes
    COMPREPLY=()

    if ((COMP_CWORD == 1)); then
        words=$(_stator_said 's/^  ([a-z]+) .*/\1/p' "$program")
    elif [[ $word == -* ]]; then
        words=$(_stator_said 's/^ +(-.,)? *(--[a-z-]+).*/\2/p' "$program" "$command")
    elif [[ $before == -* ]]; then
        # What the option takes, if anything: "--config=FILE", "-d, --data=DATA|@FILE|-".
        takes=$(_stator_said "s/^ +(.*, )?${before}(,.*)?=([^ ]+).*/\\3/p" "$program" "$command")
        case $before=$takes in
            --method=* | -X=*) words='GET HEAD POST PUT PATCH DELETE OPTIONS' ;;
            *=*FILE*) files=yes ;;
            *=?*) ;;
            *) files=yes ;;
        esac
    elif [[ $command == schema ]]; then
        words='function platform'
    elif [[ $command == cron ]]; then
        ((COMP_CWORD > 2)) || words=next
    elif [[ $command == kafka ]] && ((COMP_CWORD == 2)); then
        words='lag peek replay-dlq'
    elif [[ $command == python ]] && ((COMP_CWORD == 2)); then
        words=build
    else
        files=yes
    fi
    if [[ $files == yes ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "${word#@}")
        [[ $word != @* ]] || COMPREPLY=("${COMPREPLY[@]/#/@}")
        compopt -o filenames 2>/dev/null
    else
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    fi
}

complete -F _stator stator
