#!/usr/bin/env bash
# Sessions beside redis-server on this machine, in turns: MULTI of ten SETs at pipeline 16, PUBLISH to 100 subscribers, and what one
# client's KEYS, MONITOR or unread messages cost the others.
#
#   benches/sessions.sh                 all three
#   benches/sessions.sh multi publish   ratios only
#   benches/sessions.sh disturb         the other clients' times only
#
#   ROUNDS=5 SECONDS_EACH=4 CLIENTS=10 PIPELINE=16 SUBSCRIBERS=100 PUBLISHERS=10 KEYS=1000000 MEMORY_BUDGET=512mb
#   HAYPILE_BIN, SESSIONS_BIN, PUBLISH_BIN (else release builds), REDIS_BIN=redis-server
#
# Each round starts a fresh server of each kind, the order alternating; both log every write (everysec). Medians, their ratio, and the
# server's processor time for each transaction and each PUBLISH.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-4}
haypile=${HAYPILE_BIN:-$root/target/release/haypile} redis=${REDIS_BIN:-redis-server}
sessions=${SESSIONS_BIN:-$root/target/release/examples/sessions}
publish=${PUBLISH_BIN:-$root/target/release/examples/publish}
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(multi publish disturb)
[ -x "$haypile" ] || (cd "$root" && cargo build --release --bin haypile)
[ -x "$sessions" ] || (cd "$root" && cargo build --release --example sessions)
[ -x "$publish" ] || (cd "$root" && cargo build --release --example publish)
work=$(mktemp -d)
pid= port=
stop() {
  [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2> /dev/null || true
  pid=
}
trap 'stop; rm -rf "$work"' EXIT

start() {
  port=$((20000 + RANDOM % 10000))
  rm -rf "$work/data"
  mkdir -p "$work/data"
  case $1 in
    haypile)
      "$haypile" --port "$port" --dir "$work/data" --appendfsync everysec --memory-budget "${MEMORY_BUDGET:-512mb}" > "$work/log" 2>&1 &
      ;;
    redis)
      "$redis" --port "$port" --dir "$work/data" --save '' --appendonly yes --appendfsync everysec > "$work/log" 2>&1 &
      ;;
  esac
  pid=$!
  until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
    kill -0 "$pid" 2> /dev/null || { tail -3 "$work/log" >&2; exit 2; }
    sleep 0.1
  done
}

one() {
  start "$1"
  case $2 in
    multi)
      "$sessions" --port "$port" --pid "$pid" --test multi --seconds "$seconds" --clients "${CLIENTS:-10}" --pipeline "${PIPELINE:-16}"
      ;;
    publish)
      "$publish" --port "$port" --pid "$pid" --seconds "$seconds" --subscribers "${SUBSCRIBERS:-100}" \
        --publishers "${PUBLISHERS:-10}"
      ;;
    disturb)
      "$sessions" --port "$port" --pid "$pid" --test disturb --seconds "$seconds" --keys "${KEYS:-1000000}"
      ;;
  esac
  stop
}

median() {
  sed -n "s/.*$2=\([0-9.]*\).*/\1/p" "$1" | sort -n | sed -n "$(((rounds + 1) / 2))p"
}

for test in "${tests[@]}"; do
  if [ "$test" = disturb ]; then
    for kind in haypile redis; do
      one "$kind" disturb | sed "s/^/$kind: /"
    done
    continue
  fi
  for ((round = 0; round < rounds; round++)); do
    order=(haypile redis)
    [ $((round % 2)) -eq 0 ] || order=(redis haypile)
    for kind in "${order[@]}"; do
      one "$kind" "$test" >> "$work/$kind-$test"
    done
  done
  rate=$([ "$test" = multi ] && echo transactions_per_s || echo publishes_per_s)
  awk -v test="$test" -v rate="$rate" \
    -v ours="$(median "$work/haypile-$test" "$rate")" -v redis="$(median "$work/redis-$test" "$rate")" \
    -v our_cpu="$(median "$work/haypile-$test" cpu_us_per_op)" -v redis_cpu="$(median "$work/redis-$test" cpu_us_per_op)" 'BEGIN {
    printf "%s: haypile %d, redis-server %d %s, ratio %.2f; cpu per op %.2f and %.2f us\n", test, ours, redis, rate, ours / redis, our_cpu, redis_cpu
  }'
done
