# Completion of sv for fish.
function __sv_services
    if set -q SVDIR
        ls $SVDIR 2>/dev/null
        return
    end
    for place in /service /etc/service /var/service
        if test -d $place
            ls $place
            return
        end
    end
end
complete -c sv -f
complete -c sv -n __fish_is_first_arg -a '@VERBS@'
complete -c sv -n 'not __fish_is_first_arg' -a '(__sv_services)'
