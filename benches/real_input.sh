#!/usr/bin/env bash
# A first day with real input: a million key-values through `redis-cli --pipe`, kill -9, restart, count and compare by
# digest; then redis-benchmark. `tests/real_input.rs` is the same in small.
#
#   benches/real_input.sh [KEYS]        (1,000,000)
#
#   HAYPILE_BIN (else a release build), WORK (default target/real_input), FLAGS (default --memory-budget 512mb)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
keys=${1:-1000000}
work=${WORK:-$root/target/real_input}
flags=${FLAGS:---memory-budget 512mb}
# shellcheck source=benches/common.sh
. "$root/benches/common.sh"
need redis-cli redis-benchmark
find_haypile
port=$((20000 + RANDOM % 10000))
mkdir -p "$work"
rm -rf "$work/data"

pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2> /dev/null || true' EXIT

cli() {
  redis-cli -p "$port" "$@"
}

start() {
  # shellcheck disable=SC2086 # the flags are words
  "$haypile" --port "$port" --dir "$work/data" --enable-debug-command yes $flags >> "$work/server.log" 2>&1 &
  pid=$!
  local i
  for ((i = 0; i < 600; i++)); do
    [ "$(cli ping 2> /dev/null)" != PONG ] || return 0
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  tail -5 "$work/server.log" >&2
  exit 1
}

now() {
  date +%s.%N
}

took() {
  awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.2f s", to - from }'
}

check() {
  [ "$2" = "$3" ] || { echo "FAILED: $1: $2, not $3" >&2; exit 1; }
}

# Keys and values that a formula gives, so that any of them can be asked for later.
input=$work/input-$keys.resp
if [ ! -s "$input" ]; then
  mkdir -p "$work/data"
  awk -v keys="$keys" 'BEGIN {
    for (i = 0; i < keys; i++) {
      key = sprintf("user:%08d", i)
      value = sprintf("{\"id\":%d,\"name\":\"user %d\",\"score\":%.0f,\"seen\":%.0f}", i, i, (i * 7919) % 100003, i * 86400)
      printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(value), value
    }
  }' > "$input.new"
  mv "$input.new" "$input"
fi

start
from=$(now)
cli --pipe < "$input" | tail -1 | tee "$work/pipe.txt"
grep -q "errors: 0, replies: $keys" "$work/pipe.txt"
echo "loaded $keys keys in $(took "$from")"
check count "$(cli dbsize)" "$keys"
digest=$(cli debug digest)
echo "digest $digest"

kill -9 "$pid"
wait "$pid" 2> /dev/null || true
from=$(now)
start
echo "killed, and ready again after $(took "$from")"
check "count after kill -9" "$(cli dbsize)" "$keys"
from=$(now)
check "digest after kill -9" "$(cli debug digest)" "$digest"
check "a scan" "$(cli --scan --pattern 'user:*' | wc -l)" "$keys"
echo "counted, scanned and compared in $(took "$from")"
for ((i = 0; i < keys; i += keys / 20)); do
  value=$(printf '{"id":%d,"name":"user %d","score":%d,"seen":%d}' "$i" "$i" $(((i * 7919) % 100003)) $((i * 86400)))
  check "user:$i" "$(cli get "$(printf 'user:%08d' "$i")")" "$value"
done
echo "twenty values are what was loaded"

redis-benchmark -p "$port" -t set,get -r 1000000 -n 1000000 -d 100 -P 16 -q | tr '\r' '\n' | grep 'requests per second'
cli info memory | grep -E 'used_memory_(rss_)?human' || true
cli shutdown || true
wait "$pid"
pid=
rm -rf "$work/data"
echo "real input: passed"
