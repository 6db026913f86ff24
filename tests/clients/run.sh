#!/usr/bin/env bash
# Unmodified clients against our server: redis-py, ioredis and the redis crate at their defaults, over RESP2 and RESP3; RQ with our server as its
# queue; and the modes of redis-cli and redis-benchmark that look into a server.
#
#   tests/clients/run.sh [python | node | rq | rust | tools]..      all of them, or these
#
#   HAYPILE_BIN             the server (default target/debug/haypile, built if it is missing; a redis-server is the control)
#   HAYPILE_CLIENTS_CACHE   where the clients are installed (default target/clients)
#
# The clients come from their registries by pip, npm and cargo. Where that is not possible the part is skipped with a message, or, with
# CI=true, fails.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${HAYPILE_CLIENTS_CACHE:-$root/target/clients}
server=${HAYPILE_BIN:-$root/target/debug/haypile}
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(python node rq rust tools)

if [ ! -x "$server" ]; then
  [ -z "${HAYPILE_BIN:-}" ] || { echo "$server is not there" >&2; exit 2; }
  (cd "$root" && cargo build --bin haypile)
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
server_pid=
finish() {
  status=$?
  if [ -n "$server_pid" ]; then
    kill "$server_pid" 2> /dev/null || true
    wait "$server_pid" 2> /dev/null || true
  fi
  [ "$status" -eq 0 ] || tail -20 "$work/server.log" >&2 || true
  rm -rf "$work"
}
trap finish EXIT

skip() {
  [ "${CI:-}" != true ] || { echo "FAILED: $*" >&2; exit 1; }
  echo "SKIPPED: $*"
}

port=
while [ -z "$port" ]; do
  port=$((20000 + RANDOM % 10000))
  (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && port=
done
mkdir "$work/data"
"$server" --port "$port" --dir "$work/data" --save '' > "$work/server.log" 2>&1 &
server_pid=$!
for ((i = 0; i < 300; i++)); do
  (exec 3<> "/dev/tcp/127.0.0.1/$port" && printf 'PING\r\n' >&3 && read -r -t 5 answer <&3 &&
    [ "${answer:0:5}" = +PONG ]) 2> /dev/null && break
  sleep 0.1
done

python_part() {
  local packages=$cache/python
  if [ ! -d "$packages" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --target "$packages.new" 'redis==8.1.0' \
      > "$work/pip.log" 2>&1 || { skip "redis-py cannot be installed: $(tail -1 "$work/pip.log")"; return; }
    mv "$packages.new" "$packages"
  fi
  for protocol in default 2 3; do
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$packages python3 "$here/with_redis_py.py" "$port" "$protocol"
  done
}

node_part() {
  local packages=$cache/node
  if [ ! -d "$packages/node_modules/ioredis" ]; then
    mkdir -p "$packages"
    npm install --silent --no-audit --no-fund --prefix "$packages" ioredis@6.0.0 > "$work/npm.log" 2>&1 ||
      { skip "ioredis cannot be installed: $(tail -1 "$work/npm.log")"; return; }
  fi
  for protocol in default 2 3; do
    NODE_PATH=$packages/node_modules node "$here/with_ioredis.cjs" "$port" "$protocol"
  done
}

rq_part() {
  local packages=$cache/rq
  if [ ! -d "$packages" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --target "$packages.new" 'redis==8.1.0' 'rq==3.0.0' \
      > "$work/pip.log" 2>&1 || { skip "rq cannot be installed: $(tail -1 "$work/pip.log")"; return; }
    mv "$packages.new" "$packages"
  fi
  for protocol in 2 3; do
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$packages:$here timeout 300 python3 "$here/with_rq.py" "$port" "$protocol"
  done
}

rust_part() {
  export CARGO_TARGET_DIR=$cache/rust
  cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" > "$work/cargo.log" 2>&1 ||
    { skip "the redis crate cannot be built: $(tail -1 "$work/cargo.log")"; return; }
  for protocol in default 2 3; do
    timeout 120 "$cache/rust/debug/with-redis-crate" "$port" "$protocol"
  done
}

# Runs a tool and looks for a pattern in what it prints.
expect() {
  local pattern=$1 output
  shift
  output=$(timeout 60 "$@" 2>&1) || true
  if ! grep -qE -- "$pattern" <<< "$output"; then
    echo "FAILED: $*: nothing like $pattern in:" >&2
    echo "$output" | tail -20 >&2
    exit 1
  fi
}

tools_part() {
  command -v redis-cli > /dev/null && command -v redis-benchmark > /dev/null ||
    { skip "redis-cli and redis-benchmark are not installed (Debian: apt-get install redis-tools)"; return; }
  local cli=(redis-cli -p "$port")
  "${cli[@]}" flushall > /dev/null
  # A million keys is another test's; here the modes are tried.
  for ((i = 0; i < 1000; i++)); do
    printf '*3\r\n$3\r\nSET\r\n$8\r\nkey:%04d\r\n$5\r\n%05d\r\n' "$i" "$i"
  done > "$work/pipe"
  expect 'errors: 0, replies: 1000' sh -c "redis-cli -p $port --pipe < '$work/pipe'"
  expect '^1000$' "${cli[@]}" dbsize
  "${cli[@]}" setrange big 99999 x > /dev/null
  expect '^1001$' sh -c "redis-cli -p $port --scan | sort -u | wc -l"
  expect '^100$' sh -c "redis-cli -p $port --scan --pattern 'key:00*' | sort -u | wc -l"
  expect 'Biggest string found .*big.* has 100000 bytes' "${cli[@]}" --bigkeys
  expect 'Biggest string found .*big.* has [0-9]+ bytes' "${cli[@]}" --memkeys
  expect '^1001 +[0-9.]+[KMG]? ' timeout 2 stdbuf -oL "${cli[@]}" --stat
  expect '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+$' timeout 2 "${cli[@]}" --latency
  expect '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+' timeout 4 stdbuf -oL "${cli[@]}" --raw --latency-history -i 1
  expect 'K,L,M,N,O,P,Q' timeout 3 stdbuf -oL "${cli[@]}" --latency-dist -i 1
  # What is not there says so.
  expect 'ERR An LFU maxmemory policy is not selected' "${cli[@]}" --hotkeys
  expect "SYNC with master failed: -ERR unknown command 'SYNC'" "${cli[@]}" --rdb "$work/dump.rdb"
  expect 'redis_version' "${cli[@]}" info
  expect 'hello world' "${cli[@]}" -3 echo 'hello world'
  expect '^server|"server"' "${cli[@]}" -3 hello
  expect 'ERR unknown command' "${cli[@]}" nosuch
  expect 'key value \[NX' "${cli[@]}" help set
  expect '12345' sh -c "printf 12345 | redis-cli -p $port -x set piped > /dev/null; redis-cli -p $port get piped"
  expect 'PONG' sh -c "printf 'select 1\\nping\\n' | redis-cli -p $port"
  local commands=ping_inline,ping_mbulk,set,get,incr,mset
  expect 'MSET .*requests per second' redis-benchmark -p "$port" -q -n 20000 -t "$commands"
  expect 'GET: .*requests per second' redis-benchmark -p "$port" -q -n 20000 -t set,get -P 16 -r 1000 -d 100
  expect 'GET: .*requests per second' redis-benchmark -p "$port" -q -n 20000 -t set,get -3 --threads 2
  expect 'requests per second' redis-benchmark -p "$port" -q -n 20000 -r 100000 lpush list:__rand_int__ 1
  echo "redis-cli, redis-benchmark: as expected"
}

for part in "${parts[@]}"; do
  "${part}_part"
done
