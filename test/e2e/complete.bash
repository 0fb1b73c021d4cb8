# usage: complete.bash FILE WORD ...
# Prints what bash, with the completion in FILE, offers for the last of the words.
. "$1"
shift
COMP_WORDS=(kc "$@")
COMP_CWORD=$#
# only known while a completion is under way
compopt() { :; }
_kc
printf '%s\n' "${COMPREPLY[@]}"
