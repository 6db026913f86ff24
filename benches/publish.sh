#!/usr/bin/env bash
# PUBLISH to 100 subscribers: ours and redis-server in turns, medians and their ratio.
#
#   ROUNDS=5 SECONDS_EACH=4 SUBSCRIBERS=100 PUBLISHERS=10 HAYPILE_BIN=.. REDIS_BIN=redis-server benches/publish.sh
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-4}
haypile=${HAYPILE_BIN:-$root/target/release/haypile} redis=${REDIS_BIN:-redis-server}
publish=${PUBLISH_BIN:-$root/target/release/examples/publish}
[ -x "$haypile" ] || (cd "$root" && cargo build --release --bin haypile)
[ -x "$publish" ] || (cd "$root" && cargo build --release --example publish)
work=$(mktemp -d)
pid=
stop() {
  [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2> /dev/null || true
  pid=
}
trap 'stop; rm -rf "$work"' EXIT

one() {
  local port=$((20000 + RANDOM % 10000))
  mkdir -p "$work/data"
  "$1" --port "$port" --dir "$work/data" --save '' --appendonly yes > "$work/log" 2>&1 &
  pid=$!
  until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
    kill -0 "$pid" || { tail -3 "$work/log" >&2; exit 2; }
    sleep 0.1
  done
  "$publish" --port "$port" --seconds "$seconds" --subscribers "${SUBSCRIBERS:-100}" --publishers "${PUBLISHERS:-10}" |
    sed 's/.*publishes_per_s=\([0-9]*\).*/\1/'
  stop
  rm -rf "$work/data"
}

for ((round = 0; round < rounds; round++)); do
  one "$haypile" >> "$work/ours"
  one "$redis" >> "$work/redis"
done
median() {
  sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"
}
awk -v ours="$(median "$work/ours")" -v redis="$(median "$work/redis")" 'BEGIN {
  printf "publishes/s: haypile %d, redis-server %d, ratio %.2f\n", ours, redis, ours / redis
}'
