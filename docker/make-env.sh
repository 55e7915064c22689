#!/bin/sh
# Write docker/.env from docker/.env.example, each empty value replaced by a fresh secret.
# Another path for the result may be given. A file that exists is left alone.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=${1:-$here/.env}

if [ -e "$target" ]; then
  echo "$target exists already; nothing changed." >&2
  exit 1
fi

secret() {
  # 192 bits in hex: nothing in it has a meaning in a URL or in a configuration file.
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

unfinished=$(mktemp "$target.XXXXXX")
trap 'rm -f "$unfinished"' EXIT
while IFS= read -r line; do
  case $line in
    '#'*) ;;
    *=) line=$line$(secret) ;;
  esac
  printf '%s\n' "$line"
done <"$here/.env.example" >"$unfinished"
# A hard link, unlike a rename, never replaces what another run has just written.
ln "$unfinished" "$target"
echo "$target written."
