#!/usr/bin/env bash
# Whether churn rots a collection: one hot key is filled and emptied at the same pace, minute after minute, by redis-benchmark scripts.
#
#   benches/churn.sh [MINUTES] [PATTERN ..]     (30; zset list stream)
#
#   zset     ZADD and ZREMRANGEBYRANK on one sorted set (kvrocks issue 494)
#   list     LPUSH and RPOP on one list
#   stream   XADD with MAXLEN
#
# Prints the rate of each minute, its relation to the first's (at least 0.70 is meant), and the server's processor time for a command in
# microseconds, which tells more where the machine has other work.
#
#   STEP (seconds a minute has, default 60), HAYPILE_BIN (else a release build), WORK (default target/churn), FLAGS (default --memory-budget 512mb)
# No names of files for the star of XADD.
set -euo pipefail -f

root=$(cd "$(dirname "$0")/.." && pwd)
minutes=${1:-30}
shift || true
patterns=("$@")
[ ${#patterns[@]} -gt 0 ] || patterns=(zset list stream)
work=${WORK:-$root/target/churn}
flags=${FLAGS:---memory-budget 512mb}
step=${STEP:-60}
# shellcheck source=benches/common.sh
. "$root/benches/common.sh"
need redis-cli redis-benchmark
find_haypile
mkdir -p "$work"

pids=()
trap 'for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill -9 "$pid" 2> /dev/null || true; done' EXIT

# Processor time of a process in clock ticks.
ticks() {
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# The pair of commands, each run over and over beside the other; 100,000 elements stay.
load() {
  case $1 in
    zset)
      echo "ZADD hot __rand_int__ member:__rand_int__"
      echo "ZREMRANGEBYRANK hot 100000 -1"
      ;;
    list)
      echo "LPUSH hot element:__rand_int__"
      echo "RPOP hot"
      ;;
    stream)
      echo "XADD hot MAXLEN ~ 100000 * field value:__rand_int__"
      ;;
    *)
      echo "no such pattern: $1" >&2
      exit 2
      ;;
  esac
}

for pattern in "${patterns[@]}"; do
  port=$((20000 + RANDOM % 10000))
  rm -rf "$work/data"
  # shellcheck disable=SC2086 # the flags are words
  "$haypile" --port "$port" --dir "$work/data" $flags > "$work/server.log" 2>&1 &
  server=$!
  pids+=("$server")
  for ((i = 0; i < 100; i++)); do
    [ "$(redis-cli -p "$port" ping 2> /dev/null)" != PONG ] || break
    sleep 0.1
  done
  mapfile -t commands < <(load "$pattern")
  # What is there from the beginning.
  # shellcheck disable=SC2086 # the words of a command
  redis-benchmark -p "$port" -q -n 100000 -r 1000000 -P 32 -c 10 ${commands[0]} > /dev/null
  first=0
  for ((minute = 1; minute <= minutes; minute++)); do
    loaders=()
    before=$(redis-cli -p "$port" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
    for command in "${commands[@]}"; do
      # shellcheck disable=SC2086 # the words of a command
      redis-benchmark -p "$port" -q -n 2000000000 -r 1000000 -P 16 -c 10 $command > /dev/null 2>&1 &
      loaders+=($!)
      pids+=($!)
    done
    ticks_before=$(ticks "$server")
    sleep "$step"
    ticks_after=$(ticks "$server")
    after=$(redis-cli -p "$port" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
    kill "${loaders[@]}" 2> /dev/null || true
    wait "${loaders[@]}" 2> /dev/null || true
    rate=$(((after - before) / step))
    [ "$minute" -gt 1 ] || first=$rate
    size=$(du -sm "$work/data" | cut -f1)
    ratio=$(awk -v a="$rate" -v b="$first" 'BEGIN { printf "%.2f", b ? a / b : 0 }')
    us=$(awk -v t=$((ticks_after - ticks_before)) -v hz="$(getconf CLK_TCK)" -v n=$((after - before)) \
      'BEGIN { printf "%.2f", n ? t / hz * 1e6 / n : 0 }')
    printf '%-7s minute %3d  %8d commands/s  %5s of the first  %6s us each  %6d MB on disk\n' "$pattern" "$minute" "$rate" "$ratio" "$us" "$size"
  done
  kill "$server"
  wait "$server" || true
done
