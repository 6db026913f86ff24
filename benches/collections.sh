#!/usr/bin/env bash
# Collections against redis-server, in one run: the commands of a queue, a set, a hash .. on small collections, on one of a million
# elements, and on one key by all clients (once more with two workers, as more cores would have them); and how many bytes many small collections take on disk.
#
#   benches/collections.sh [REQUESTS]          (1,000,000 for each command and round; `quick` for 100,000)
#
#   HAYPILE_BIN (else a release build), REDIS (default redis-server), WORK (default target/collections),
#   FLAGS (default --memory-budget 1gb), HASHES (how many small hashes for the bytes, default 1,000,000), FILL (writes that fill the
#   large ones, default 2,000,000), SETTLE (seconds of rest behind the fill, default 8), ROUNDS (default 3)
#
# Prints a table: command, rates of both, their ratio (the median of the rounds, in each of which both run one behind the other, and the
# least and the greatest), and the processor time of each operation in microseconds. `benches/bars.awk` draws it.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
requests=${1:-1000000}
[ "$requests" != quick ] || requests=100000
work=${WORK:-$root/target/collections}
flags=${FLAGS:---memory-budget 1gb}
redis=${REDIS:-redis-server}
hashes=${HASHES:-1000000}
fill=${FILL:-2000000}
rounds=${ROUNDS:-3}
# shellcheck source=benches/common.sh
. "$root/benches/common.sh"
need redis-cli redis-benchmark "$redis"
find_haypile
rm -rf "$work"
mkdir -p "$work/haypile" "$work/redis"
ours=$((20000 + RANDOM % 5000))
theirs=$((ours + 5000))
# shellcheck disable=SC2086 # the flags are words
"$haypile" --port "$ours" --dir "$work/haypile" $flags > "$work/haypile.log" 2>&1 &
own=$!
second=
"$redis" --port "$theirs" --dir "$work/redis" --appendonly yes --appendfsync everysec --save '' > "$work/redis.log" 2>&1 &
other=$!
# shellcheck disable=SC2086 # there may be no second
trap 'kill -9 "$own" "$other" $second 2> /dev/null || true' EXIT

await() {
  local i
  for ((i = 0; i < 100; i++)); do
    [ "$(redis-cli -p "$1" ping 2> /dev/null)" != PONG ] || return 0
    sleep 0.1
  done
  echo "nothing answers on port $1" >&2
  exit 1
}
await "$ours"
await "$theirs"

# Processor time of a process in clock ticks.
ticks() {
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# Rate, and microseconds of processor time for each operation: port, process, words.
measure() {
  local port=$1 process=$2 before rate
  shift 2
  before=$(ticks "$process")
  rate=$(redis-benchmark -p "$port" -P 16 -c 50 -n "$requests" -r 1000000 --csv "$@" | tail -1 | awk -F'","' '{ gsub(/"/, "", $2); print $2 }')
  echo "$rate $(awk -v t="$(($(ticks "$process") - before))" -v hz="$(getconf CLK_TCK)" -v n="$requests" 'BEGIN { printf "%.2f", t / hz * 1e6 / n }')"
}

row() {
  local name=$1 mine yours round
  shift
  for ((round = 0; round < rounds; round++)); do
    if ((round % 2 == 0)); then
      read -r -a mine < <(measure "$ours" "$own" "$@")
      read -r -a yours < <(measure "$theirs" "$other" "$@")
    else
      read -r -a yours < <(measure "$theirs" "$other" "$@")
      read -r -a mine < <(measure "$ours" "$own" "$@")
    fi
    awk -v a="${mine[0]}" -v b="${yours[0]}" -v c="${mine[1]}" -v d="${yours[1]}" 'BEGIN { print (b ? a / b : 0), a, b, c, d }'
  done | sort -n | awk -v name="$name" '
    { for (i = 1; i <= 5; i++) value[NR, i] = $i }
    END {
      m = int((NR + 1) / 2)
      printf "| %-34s | %10.0f | %10.0f | %5.2f | %.2f..%.2f | %6.2f | %6.2f |\n", name, value[m, 2], value[m, 3], value[m, 1],
        value[1, 1], value[NR, 1], value[m, 4], value[m, 5]
    }'
}

both() {
  redis-cli -p "$ours" "$@" > /dev/null
  redis-cli -p "$theirs" "$@" > /dev/null
}

# Fills a key on both: command, then the words of one element.
fill() {
  local port
  for port in "$ours" "$theirs"; do
    redis-benchmark -p "$port" -q -P 64 -c 20 -n "$fill" -r 1000000 "$@" > /dev/null
  done
}

echo "| command | ours /s | redis /s | ratio | of | ours us | redis us |"
echo "|---|---|---|---|---|---|---|"
row 'HSET, small' HSET small:__rand_int__ field value
row 'SADD, small' SADD set:__rand_int__ member
row 'ZADD, small' ZADD zset:__rand_int__ 1 member
row 'LPUSH, small' LPUSH list:__rand_int__ element
row 'RPOP, small' RPOP list:__rand_int__
row 'SPOP, small' SPOP set:__rand_int__
row 'INCR' INCR counter:__rand_int__
row 'XADD, small' XADD stream:__rand_int__ '*' field value
both FLUSHALL
fill HSET hash field:__rand_int__ value
fill SADD set member:__rand_int__
fill ZADD zset __rand_int__ member:__rand_int__
fill LPUSH list element:__rand_int__
fill XADD stream '*' field value
# What the fill left to compact is not part of what follows.
sleep "${SETTLE:-8}"
row 'HSET, one of a million' HSET hash field:__rand_int__ value
row 'SADD, one of a million' SADD set member:__rand_int__
row 'ZADD, one of a million' ZADD zset __rand_int__ member:__rand_int__
row 'LPUSH, one of a million' LPUSH list element
row 'RPOP, one of a million' RPOP list
row 'SPOP, one of a million' SPOP set
row 'XADD, one of a million' XADD stream '*' field value
row 'LRANGE_100, one of a million' LRANGE list 0 99
row 'ZRANGE 100, one of a million' ZRANGE zset 0 99
both FLUSHALL
both HSET h f1 v1 f2 v2 f3 v3 f4 v4 f5 v5 f6 v6 f7 v7 f8 v8 f9 v9 f10 v10 f11 v11 f12 v12 f13 v13 f14 v14 f15 v15 f16 v16 f17 v17 f18 v18 f19 v19 f20 v20
both RPUSH l $(seq 1 100)
row 'HGETALL of 20' HGETALL h
row 'LRANGE_100, small' LRANGE l 0 99
row 'INCR, one key, 50 clients' INCR one
row 'LPUSH, one key, 50 clients' LPUSH hot element
row 'HSET, one key, 50 clients' HSET hot2 field value
# shellcheck disable=SC2086 # the flags are words
"$haypile" --port $((ours + 1)) --dir "$work/second" $flags --workers 2 > "$work/second.log" 2>&1 &
second=$!
await $((ours + 1))
(
  ours=$((ours + 1)) own=$second
  row 'INCR, one key, two workers' INCR one2
  row 'LPUSH, one key, two workers' LPUSH hot3 element
  row 'HSET, one key, two workers' HSET hot4 field value
)
kill -9 "$second"
wait "$second" 2> /dev/null || true
second=
both FLUSHALL

# Bytes on disk of many small collections, against what the user gave: key, fields and values.
awk -v n="$hashes" 'BEGIN {
  for (i = 0; i < n; i++) {
    printf "HSET hash:%010d", i
    for (f = 0; f < 8; f++) printf " field:%010d %s%08d", f, substr("abcdefgh", f + 1, 1) "alue:xx", (i * 7919 + f) % 100000000
    printf "\n"
  }
}' | redis-cli -p "$ours" --pipe > /dev/null
redis-cli -p "$ours" shutdown > /dev/null 2>&1 || true
wait "$own" || true
raw=$((hashes * (15 + 8 * 32)))
tables=$(find "$work/haypile" -name '*.sst' -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
disk=$(du -sb "$work/haypile" | cut -f1)
# The log is preallocated: what counts of few collections is the tables.
printf '\n%d hashes of 8 fields of 16 bytes: %d MB raw, %d MB of tables after a close, %.2f of it; %d MB with the log\n' "$hashes" \
  $((raw >> 20)) $((tables >> 20)) "$(awk -v a="$tables" -v b="$raw" 'BEGIN { print a / b }')" $((disk >> 20))
