# Completion of runitbox for fish.
complete -c runitbox -n __fish_is_first_arg -f -a '@NAMES@ --list --version --help --install --uninstall --install-man --uninstall-man'
