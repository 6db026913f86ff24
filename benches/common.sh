# Sourced by the scripts beside it, which set `root`: what each of them needs first.
# shellcheck shell=bash

# Ends the script unless all these programs are there.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed (Debian: apt-get install redis)" >&2; exit 2; }
  done
}

# Sets `haypile` to HAYPILE_BIN, or to a release build that it makes.
find_haypile() {
  if [ -z "${HAYPILE_BIN:-}" ]; then
    (cd "$root" && cargo build --release --bin haypile)
  fi
  haypile=${HAYPILE_BIN:-$root/target/release/haypile}
}
