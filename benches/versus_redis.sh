#!/usr/bin/env bash
# Haypile beside redis-server on this machine: the same load in turns, medians over paired rounds, and their ratios.
#
#   benches/versus_redis.sh                  seven rounds of SET and GET at 10 connections, pipeline 1 and 16
#   benches/versus_redis.sh rss [KEYS]       resident memory of both after loading so many keys (10 million)
#
#   ROUNDS=7 SECONDS_EACH=10 KEYS=1000000 CLIENTS=10 PIPELINES="1 16" TESTS="set get" VALUE_BYTES=100
#   MEMORY_BUDGET=512mb   APPENDFSYNC=everysec
#   HAYPILE_BIN (else a release build), REDIS_BIN=redis-server, LOAD_BIN (else a release build of benches/load.rs)
#   WORK                  where the data folders and raw results go (default target/versus)
#   FLAGS                 further flags for Haypile
#
# Each round starts a fresh server of each kind, the order alternating, loads every key once, and runs the tests one after
# the other; the writes of a window are enough that flush and compaction run in it. Both log every write (`appendonly yes`
# for redis-server). Raw lines go to $WORK/results.tsv.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${ROUNDS:-7}
seconds=${SECONDS_EACH:-10}
keys=${KEYS:-1000000}
clients=${CLIENTS:-10}
pipelines=${PIPELINES:-1 16}
tests=${TESTS:-set get}
bytes=${VALUE_BYTES:-100}
budget=${MEMORY_BUDGET:-512mb}
fsync=${APPENDFSYNC:-everysec}
redis=${REDIS_BIN:-redis-server}
work=${WORK:-$root/target/versus}
mode=${1:-speed}

command -v "$redis" > /dev/null || { echo "$redis is not installed (Debian: apt-get install redis)" >&2; exit 2; }
if [ -z "${HAYPILE_BIN:-}" ]; then
  (cd "$root" && cargo build --release --bin haypile)
fi
if [ -z "${LOAD_BIN:-}" ]; then
  (cd "$root" && cargo build --release --example load)
fi
haypile=${HAYPILE_BIN:-$root/target/release/haypile}
load=${LOAD_BIN:-$root/target/release/examples/load}
mkdir -p "$work"

pid=
stop() {
  if [ -n "$pid" ]; then
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    pid=
  fi
}
trap stop EXIT

port=
start() {
  local kind=$1 folder=$work/data
  stop
  rm -rf "$folder"
  mkdir -p "$folder"
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
  done
  case $kind in
    haypile)
      # shellcheck disable=SC2086 # the flags are words
      "$haypile" --port "$port" --dir "$folder" --appendfsync "$fsync" --memory-budget "$budget" ${FLAGS:-} \
        > "$work/haypile.log" 2>&1 &
      ;;
    redis)
      "$redis" --port "$port" --dir "$folder" --appendonly yes --appendfsync "$fsync" --save '' \
        > "$work/redis.log" 2>&1 &
      ;;
  esac
  pid=$!
  local i
  for ((i = 0; i < 300; i++)); do
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && return
    sleep 0.1
  done
  echo "$kind does not start" >&2
  tail -5 "$work/$kind.log" >&2
  exit 1
}

fill() {
  "$load" --port "$port" --pid "$pid" --test fill --clients 4 --pipeline 64 --keys "$1" --size "$bytes"
}

field() {
  sed -n "s/.*\b$1=\([0-9.]*\).*/\1/p" <<< "$2"
}

if [ "$mode" = rss ]; then
  keys=${2:-10000000}
  for kind in haypile redis; do
    start "$kind"
    line=$(fill "$keys")
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status")
    after=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status")
    "$load" --port "$port" --pid "$pid" --test get --clients 10 --pipeline 16 --keys "$keys" --seconds 20 > /dev/null
    read_after=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status")
    peak_after=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status")
    echo "$kind: $keys keys of $bytes bytes at $(field per_second "$line") a second;" \
      "resident $after MiB (peak $peak), after 20 s of reads $read_after MiB (peak $peak_after);" \
      "on disk $(du -sm "$work/data" | cut -f1) MiB"
    stop
  done
  rm -rf "$work/data"
  exit 0
fi

results=$work/results.tsv
printf 'round\tserver\ttest\tpipeline\tper_second\tp50_us\tp99_us\tp999_us\tmax_us\tcpu_us\trss_mib\terrors\tmisses\n' > "$results"
{
  echo "# $(date -u +%F), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), kernel $(uname -r)"
  echo "# haypile: $("$haypile" --version | head -1)"
  echo "# redis: $("$redis" --version)"
  echo "# $rounds rounds, $seconds s each, $keys keys, $bytes-byte values, $clients connections, appendfsync $fsync, memory budget $budget"
} | tee "$work/machine.txt"
for ((round = 1; round <= rounds; round++)); do
  order="haypile redis"
  [ $((round % 2)) -eq 1 ] || order="redis haypile"
  for kind in $order; do
    start "$kind"
    line=$(fill "$keys")
    echo "round $round $kind fill: $line" >&2
    for test in $tests; do
      for pipeline in $pipelines; do
        line=$("$load" --port "$port" --pid "$pid" --test "$test" --clients "$clients" --pipeline "$pipeline" \
          --keys "$keys" --size "$bytes" --seconds "$seconds" --seed "$round")
        echo "round $round $kind $test P$pipeline: $line" >&2
        printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$round" "$kind" "$test" "$pipeline" \
          "$(field per_second "$line")" "$(field p50_us "$line")" "$(field p99_us "$line")" "$(field p999_us "$line")" \
          "$(field max_us "$line")" "$(field cpu_us_per_operation "$line")" "$(field rss_mib "$line")" \
          "$(field errors "$line")" "$(field misses "$line")" >> "$results"
      done
    done
    stop
  done
done
rm -rf "$work/data"

# Medians of each number, and the median of the paired ratios.
awk -F '\t' -v tests="$tests" -v pipelines="$pipelines" -v rounds="$rounds" '
  function median(list, count,  i, j, swap) {
    for (i = 2; i <= count; i++)
      for (j = i; j > 1 && list[j - 1] > list[j]; j--) { swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap }
    return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
  }
  function middle(server, column,  i, list) {
    for (i = 1; i <= rounds; i++) list[i] = value[i, server, test, pipeline, column] + 0
    return median(list, rounds)
  }
  function ratio(column,  i, list, below) {
    for (i = 1; i <= rounds; i++) {
      below = value[i, "redis", test, pipeline, column]
      list[i] = below > 0 ? value[i, "haypile", test, pipeline, column] / below : 0
    }
    return median(list, rounds)
  }
  NR > 1 { for (i = 5; i <= NF; i++) value[$1, $2, $3, $4, i] = $i; errors += $12 }
  END {
    names[5] = "ops/s"; names[6] = "p50 us"; names[7] = "p99 us"; names[8] = "p99.9 us"; names[9] = "max us"
    names[10] = "cpu us/op"; names[11] = "rss MiB"
    printf "%-10s %-12s %12s %12s %8s\n", "test", "number", "haypile", "redis", "ratio"
    count = split(tests, test_list, " ")
    many = split(pipelines, pipeline_list, " ")
    for (t = 1; t <= count; t++)
      for (p = 1; p <= many; p++) {
        test = test_list[t]; pipeline = pipeline_list[p]
        for (column = 5; column <= 11; column++)
          printf "%-10s %-12s %12.1f %12.1f %8.2f\n", test " P" pipeline, names[column], middle("haypile", column),
            middle("redis", column), ratio(column)
      }
    if (errors > 0) printf "ERRORS: %d\n", errors
  }
' "$results" | tee "$work/summary.txt"
