# usage: complete.zsh FILE WORDS
# Prints what an interactive zsh, with the completion in FILE, makes of `kc WORDS` and a tabulator.
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; unsetopt zle_bracketed_paste 2>/dev/null; autoload -Uz compinit; compinit -u -D; source $1; echo rea''dy"
zpty -r -m z line '*ready*' 
zpty -w -n z "kc $2"$'\t'
sleep 1
zpty -w -n z $'\C-e\C-u'"echo do''ne"$'\n'
zpty -r -m z line '*done*'
print -r -- "$line"
zpty -d z
