# usage: identify.sh TOOL=PROGRAM ...
# For each program that is there a line: tool, hash of the program (of gcc the compiler proper as well), first line of
# its --version, with tabs between.
for pair in "$@"; do
  tool=${pair%%=*}
  path=$(command -v "${pair#*=}") || continue
  hash=$(sha256sum < "$(readlink -f "$path")")
  if [ "$tool" = gcc ]; then
    hash="$hash $(sha256sum < "$(readlink -f "$("$path" -print-prog-name=cc1)")")"
  fi
  hash=$(printf '%s' "$hash" | sha256sum | cut -c1-12)
  printf '%s\t%s\t%s\n' "$tool" "$hash" "$("$path" --version | head -n 1)"
done
