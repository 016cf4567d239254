# Completion of svctl for fish.
# The command on the line, if it has one already.
function __svctl_command
    set -l words (commandline -opc)
    set -l value 0
    for word in $words[2..-1]
        if test $value = 1
            set value 0
        else if contains -- $word -d --dir
            set value 1
        else if not string match -q -- '-*' $word
            echo $word
            return 0
        end
    end
    return 1
end
function __svctl_is
    set -l command (__svctl_command); and contains -- $command $argv
end
# The options that choose the directory of services.
function __svctl_tree
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        switch $words[$i]
            case -d --dir
                printf '%s\n' -d (string unescape -- $words[(math $i + 1)])
            case --user
                echo --user
        end
    end
end
# The names for the command: definitions to enable, services with a log, or services.
function __svctl_names
    switch (__svctl_command)
        case enable
            set -q SVSRC; or set -l SVSRC /etc/sv
            ls -1 -- $SVSRC 2>/dev/null
        case new up down names import lint
        case log
            svctl names --log (__svctl_tree) 2>/dev/null
        case '*'
            # A state comes first.
            test (commandline -opc)[-1] = wait; and return
            svctl names (__svctl_tree) 2>/dev/null
    end
end
# The options as --help prints them.
function __svctl_options
    svctl (__svctl_command) --help 2>/dev/null | string replace -rf '^  (?:-., )?(--[a-z-]+|-.) .*$' '$1'
end
complete -c svctl -f
complete -c svctl -s d -l dir -x -a '(__fish_complete_directories)'
complete -c svctl -l color -x -a 'always never auto'
complete -c svctl -n 'not __svctl_command >/dev/null' -a '@COMMANDS@'
complete -c svctl -n '__svctl_is wait; and test (commandline -opc)[-1] = wait' -a 'up down ready done'
complete -c svctl -n '__svctl_is import lint' -F
complete -c svctl -n '__svctl_is kill' -s s -l signal -x -a 'TERM HUP INT QUIT ALRM USR1 USR2 KILL STOP CONT'
complete -c svctl -n '__svctl_command >/dev/null' -a '(__svctl_names)'
complete -c svctl -n 'string match -q -- "-*" (commandline -ct)' -a '(__svctl_options)'
