#!/usr/bin/env bash
# Pages of SCAN and HSCAN beside one very large hash: how long each takes.
#
#   benches/scans.sh [FIELDS]     (100,000,000)
#
# Fills a hash by HSET of a hundred fields each, beside 100,000 small keys, then follows 2,000 cursors of each with COUNT 10, once at rest and once with
# a writer on the hash. Prints percentiles in microseconds as the server measured them, and how many took 5 ms or more (none is meant).
#
#   HAYPILE_BIN (else a release build), WORK (default target/scans), FLAGS (default --memory-budget 1gb), PAGES (default 2000)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
fields=${1:-100000000}
work=${WORK:-$root/target/scans}
flags=${FLAGS:---memory-budget 1gb}
pages=${PAGES:-2000}
# shellcheck source=benches/common.sh
. "$root/benches/common.sh"
need redis-cli redis-benchmark
find_haypile
rm -rf "$work"
mkdir -p "$work/data"
port=$((20000 + RANDOM % 10000))
# shellcheck disable=SC2086 # the flags are words
"$haypile" --port "$port" --dir "$work/data" $flags > "$work/server.log" 2>&1 &
server=$!
writer=
trap 'kill -9 "$server" $writer 2> /dev/null || true' EXIT
cli() { redis-cli -p "$port" "$@"; }
for ((i = 0; i < 100; i++)); do
  [ "$(cli ping 2> /dev/null)" != PONG ] || break
  sleep 0.1
done

awk -v n=100000 'BEGIN { for (i = 0; i < n; i++) printf "SET key:%d value\r\n", i }' | cli --pipe > /dev/null
started=$(date +%s)
awk -v n="$fields" 'BEGIN {
  for (i = 0; i < n; i += 100) {
    printf "*202\r\n$4\r\nHSET\r\n$3\r\nbig\r\n"
    for (f = i; f < i + 100; f++) printf "$10\r\n%010d\r\n$5\r\nvalue\r\n", (f * 7919) % n
  }
}' | cli --pipe > /dev/null
echo "$(cli hlen big) fields in $(($(date +%s) - started)) s, $(du -sm "$work/data" | cut -f1) MB on disk"

# Follows cursors: name, words in front of the cursor.
follow() {
  local cursor=0 page
  for ((page = 0; page < pages; page++)); do
    cursor=$(cli "$@" "$cursor" COUNT 10 | head -1)
  done
}

round() {
  cli config resetstat > /dev/null
  cli slowlog reset > /dev/null
  cli config set slowlog-log-slower-than 5000 slowlog-max-len 10000 > /dev/null
  follow hscan big
  follow scan
  local command
  for command in hscan scan; do
    printf '%-10s %-6s %s, 5 ms or more: %d\n' "$1" "$command" \
      "$(cli info latencystats | tr -d '\r' | sed -n "s/^latency_percentiles_usec_$command://p")" \
      "$(cli slowlog get -1 | grep -cix "$command" || true)"
  done
}

round 'at rest'
redis-benchmark -p "$port" -q -n 2000000000 -r "$fields" -P 16 -c 10 HSET big __rand_int__ other > /dev/null 2>&1 &
writer=$!
sleep 1
round 'writing'
