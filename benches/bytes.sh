#!/usr/bin/env bash
# What small collections and a hot counter take, in memory and on disk.
#
#   benches/bytes.sh
#
#   HAYPILE_BIN (else a release build), WORK (default target/bytes), FLAGS (default --memory-budget 256mb),
#   HASHES, SETS (how many, default 1,000,000 each), INCREMENTS (default 10,000,000)
#
# Each part runs over a fresh folder. *Raw* is what the user gave: keys, fields, members, scores as text, values. Bytes in memory are what the
# process has resident after the load, more than before it; bytes on disk those of the tables after a close (the log is preallocated).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=${WORK:-$root/target/bytes}
flags=${FLAGS:---memory-budget 256mb}
hashes=${HASHES:-1000000}
sets=${SETS:-1000000}
increments=${INCREMENTS:-10000000}
# shellcheck source=benches/common.sh
. "$root/benches/common.sh"
need redis-cli redis-benchmark
find_haypile
port=$((20000 + RANDOM % 9000))
own=
trap 'kill -9 "$own" 2> /dev/null || true' EXIT

start() {
  rm -rf "$work"
  mkdir -p "$work"
  # shellcheck disable=SC2086 # the flags are words
  "$haypile" --port "$port" --dir "$work/data" $flags > "$work/log" 2>&1 &
  own=$!
  for ((i = 0; i < 100; i++)); do
    [ "$(redis-cli -p "$port" ping 2> /dev/null)" != PONG ] || return 0
    sleep 0.1
  done
  echo "the server did not start: $(tail -3 "$work/log")" >&2
  exit 1
}

stop() {
  redis-cli -p "$port" shutdown > /dev/null 2>&1 || true
  wait "$own" || true
}

resident() {
  awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$own/status"
}

tables() {
  find "$work/data" -name '*.sst' -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }'
}

# Name, raw bytes; the commands come on the standard input.
part() {
  local name=$1 raw=$2 before after disk
  start
  before=$(resident)
  redis-cli -p "$port" --pipe > /dev/null
  after=$(resident)
  stop
  disk=$(tables)
  printf '| %-44s | %6d | %6d | %6d | %5.2f |\n' "$name" $((raw >> 20)) $((after - before)) $((disk >> 20)) \
    "$(awk -v a="$disk" -v b="$raw" 'BEGIN { print a / b }')"
}

echo "| what | raw MB | resident MB | tables MB | tables of raw |"
echo "|---|---|---|---|---|"
# Values of digits that do not repeat; LZ4 finds less in them than in words.
part "$hashes hashes of 8 fields of 16 bytes" $((hashes * (15 + 8 * 32))) < <(awk -v n="$hashes" 'BEGIN {
  srand(1)
  for (i = 0; i < n; i++) {
    printf "HSET hash:%010d", i
    for (f = 0; f < 8; f++) printf " field:%010d %08d%08d", f, int(rand() * 1e8), int(rand() * 1e8)
    printf "\n"
  }
}')
part "$sets sorted sets of 10 members of 16 bytes" $((sets * (15 + 10 * 22))) < <(awk -v n="$sets" 'BEGIN {
  srand(2)
  for (i = 0; i < n; i++) {
    printf "ZADD zset:%010d", i
    for (m = 0; m < 10; m++) printf " %06d %08d%08d", int(rand() * 1e6), int(rand() * 1e8), int(rand() * 1e8)
    printf "\n"
  }
}')

# A counter: what a read of it costs before, after, and after a restart.
read_cost() {
  redis-benchmark -p "$port" -P 16 -c 20 -n 500000 --csv GET counter | tail -1 | awk -F'","' '{ gsub(/"/, "", $2); printf "%d", $2 }'
}
start
redis-cli -p "$port" incr counter > /dev/null
fresh=$(read_cost)
redis-benchmark -p "$port" -q -P 64 -c 20 -n "$increments" INCR counter > /dev/null
hot=$(read_cost)
stop
disk=$(tables)
"$haypile" --port "$port" --dir "$work/data" $flags > "$work/log" 2>&1 &
own=$!
until [ "$(redis-cli -p "$port" ping 2> /dev/null)" = PONG ]; do sleep 0.1; done
value=$(redis-cli -p "$port" get counter)
again=$(read_cost)
stop
[ "$value" = $((increments + 1)) ] || { echo "the counter says $value after $((increments + 1)) increments" >&2; exit 1; }
printf '\n%d INCRs of one key: %d bytes of tables after a close; GETs a second %d before, %d after, %d after a restart\n' \
  "$increments" "$disk" "$fresh" "$hot" "$again"
