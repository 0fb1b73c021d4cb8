# usage: identify.sh TOOL=PROGRAM ...
# Prints a line for each program that is installed: tool, hash of the program (of gcc with the compiler proper, cc1), and
# the first line of its --version, separated by tabs.
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
