#!/usr/bin/env bash
# Redis's own test suite against our server: each unit over a fresh one, in the suite's external-server mode, or (--spawn) started and
# ended by the suite itself, as often and with the configuration that it likes.
#
#   tests/tcl/run.sh                        all units of tests/tcl/units.txt
#   tests/tcl/run.sh unit/expire ..         these units
#   tests/tcl/run.sh -v unit/expire         with the suite's own output
#   tests/tcl/run.sh --spawn [-v] [UNIT ..] our server in the place of src/redis-server; units of tests/tcl/units_spawned.txt
#
# unit/tls is run over TLS, with certificates made for it, and needs the package tcl-tls.
#
#   HAYPILE_BIN         the server (default target/debug/haypile, built if it is missing; a redis-server is the control)
#   HAYPILE_TCL_CACHE   where Redis's source package is kept (default target/tcl)
#   HAYPILE_TCL_SKIP    the list of tests left out (default tests/tcl/skip.txt)
#   HAYPILE_TCL_FLAGS   further flags for the server
#
# Prints passed, failed and skipped per unit. Exits 1 on any failure that is not in the list, and 2 when it could not run.
# The suite is not part of this repository: `apt-get source` fetches it from the machine's own Debian mirror.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${HAYPILE_TCL_CACHE:-$root/target/tcl}
skips=${HAYPILE_TCL_SKIP:-$here/skip.txt}
server=${HAYPILE_BIN:-$root/target/debug/haypile}
verbose=no spawn=no list=$here/units.txt
while :; do
  case ${1:-} in
    -v) verbose=yes ;;
    --spawn) spawn=yes list=$here/units_spawned.txt ;;
    *) break ;;
  esac
  shift
done
units=("$@")
if [ ${#units[@]} -eq 0 ]; then
  mapfile -t units < <(sed -n 's/^\([^# ][^ ]*\).*/\1/p' "$list")
fi

cannot() {
  echo "tests/tcl/run.sh: $*" >&2
  exit 2
}

# A source list of our own beside the machine's: its mirrors, with the sources instead of the packages.
source_list() {
  local file=$1
  : > "$file"
  local one
  for one in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$one" ] && sed -n 's/^deb \(.*debian.*\)/deb-src \1/p' "$one" >> "$file"
  done
  for one in /etc/apt/sources.list.d/*.sources; do
    [ -f "$one" ] || continue
    awk '
      function flush(  count, list, i) {
        if (types ~ /deb/ && uris ~ /debian/) {
          count = split(suites, list, " ")
          for (i = 1; i <= count; i++)
            print "deb-src " (key == "" ? "" : "[signed-by=" key "] ") uris " " list[i] " " components
        }
        types = uris = suites = components = key = ""
      }
      /^[ \t]*$/ { flush() }
      /^Types:/ { types = $0 }
      /^URIs:/ { uris = $2 }
      /^Suites:/ { sub(/^Suites: */, ""); suites = $0 }
      /^Components:/ { sub(/^Components: */, ""); components = $0 }
      /^Signed-By:/ { key = $2 }
      END { flush() }
    ' "$one" >> "$file"
  done
}

fetch_suite() {
  command -v apt-get > /dev/null || cannot "Redis's tests come by apt-get source, and there is no apt-get"
  mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial" "$cache/source"
  source_list "$cache/apt/sources.list"
  local options=(
    -o "Dir::Etc::sourcelist=$cache/apt/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt" -o APT::Sandbox::User=root
  )
  echo "fetching Redis's source package into $cache"
  apt-get "${options[@]}" update > "$cache/apt/log" 2>&1 || cannot "apt-get update: $(tail -3 "$cache/apt/log")"
  (cd "$cache/source" && apt-get "${options[@]}" --download-only source redis) > "$cache/apt/log" 2>&1 ||
    cannot "apt-get source redis: $(tail -3 "$cache/apt/log")"
  rm -rf "$cache/redis.new"
  mkdir "$cache/redis.new"
  tar xzf "$cache"/source/redis_*.orig.tar.gz -C "$cache/redis.new" --strip-components=1
  # Tests that call the tools look for them where a build leaves them.
  local tool
  for tool in redis-cli redis-benchmark; do
    command -v "$tool" > /dev/null && ln -sf "$(command -v "$tool")" "$cache/redis.new/src/$tool"
  done
  mv "$cache/redis.new" "$cache/redis"
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
  done
  echo "$port"
}

command -v tclsh > /dev/null || cannot "tclsh is not installed (Debian: apt-get install tcl)"
[ -f "$cache/redis/tests/test_helper.tcl" ] || fetch_suite
if [ ! -x "$server" ]; then
  [ -z "${HAYPILE_BIN:-}" ] || cannot "$server is not there"
  (cd "$root" && cargo build --bin haypile)
fi

work=$(mktemp -d "$cache/run.XXXXXX")
server_pid=
stop_server() {
  if [ -n "$server_pid" ]; then
    kill -9 "$server_pid" 2> /dev/null || true
    wait "$server_pid" 2> /dev/null || true
    server_pid=
  fi
}
# The suite and all that it started: a process group of its own.
suite_pid=
stop_suite() {
  if [ -n "$suite_pid" ]; then
    kill -9 -- "-$suite_pid" 2> /dev/null || true
    wait "$suite_pid" 2> /dev/null || true
    suite_pid=
  fi
}
finish() {
  stop_suite
  stop_server
  rm -rf "$work"
}
trap finish EXIT

# The suite is of 7.0, where a small set of strings was a hash table already.
encodings='--set-max-listpack-entries 0'

start_server() {
  local port=$1 folder=$2
  mkdir -p "$folder"
  # shellcheck disable=SC2086 # the flags are words
  (cd "$folder" && exec "$server" --port "$port" --dir "$folder" --enable-debug-command yes --save '' \
    $encodings ${HAYPILE_TCL_FLAGS:-}) > "$folder/server.log" 2>&1 &
  server_pid=$!
  local i
  for ((i = 0; i < 600; i++)); do
    if (exec 3<> "/dev/tcp/127.0.0.1/$port" && printf 'PING\r\n' >&3 && read -r -t 5 answer <&3 &&
      [ "${answer:0:5}" = +PONG ]) 2> /dev/null; then
      return
    fi
    kill -0 "$server_pid" 2> /dev/null || break
    sleep 0.1
  done
  tail -5 "$folder/server.log" >&2
  cannot "the server does not start"
}

# unit | name of the test, or /pattern/ | reason
skip_names() {
  awk -F ' [|] ' -v unit="$1" '!/^ *(#|$)/ && ($1 == unit || $1 == "*") { print $2 }' "$skips"
}

plain() {
  sed 's/\x1b\[[0-9;]*m//g' "$1"
}

# What the list has behind the name of a unit: flags of the suite.
flags_of() {
  sed -n "s|^$1 ||p" "$list"
}

# A copy of the suite with our server where it looks for its own, and room for what it writes.
copy_suite() {
  mkdir -p "$1/src"
  cp -r "$cache/redis/tests" "$cache/redis/utils" "$1"
  ln -s "$(realpath "$server")" "$1/src/redis-server"
  local tool
  for tool in redis-cli redis-benchmark; do
    command -v "$tool" > /dev/null && ln -s "$(command -v "$tool")" "$1/src/$tool"
  done
  mkdir -p "$1/tests/tmp"
  # What users are told has other words since 7.2.
  sed -i -e 's/NOPERM\*channels\*/NOPERM*channel*/' -e 's/NOPERM\*keys\*/NOPERM*key*/' \
    -e 's/assert_equal "This user has no/assert_match "User * has no/' \
    -e 's/{user hpuser on nopass resetchannels/{user hpuser on nopass sanitize-payload resetchannels/' "$1"/tests/unit/acl*.tcl
}

# Certificates for unit/tls, with parameters of a named group, since finding some takes minutes.
make_certificates() {
  [ -d "$1/tests/tls" ] && return
  mkdir "$1/tests/tls"
  (cd "$1" && openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out tests/tls/redis.dh &&
    utils/gen-test-certs.sh) > "$work/certificates" 2>&1 || {
    cat "$work/certificates" >&2
    cannot "no certificates for unit/tls"
  }
}

run_spawned() {
  local port=$1 unit=$2
  set -m
  # shellcheck disable=SC2046 # the flags are words
  (cd "$work/suite" && exec timeout --foreground 1500 tclsh tests/test_helper.tcl --single "$unit" --clients 1 --baseport "$port" \
    --portcount 300 --durable --tags -large-memory --skipfile "$work/skip" $(flags_of "$unit")) > "$work/output" 2>&1 &
  suite_pid=$!
  set +m
  local status=0
  wait "$suite_pid" || status=$?
  stop_suite
  return "$status"
}

count() {
  grep -c "^\[$1\]:" "$2" || true
}

all_passed=0 all_failed=0 all_skipped=0
failures=$work/failures
: > "$failures"
printf '%-24s %8s %8s %8s %8s\n' unit passed failed skipped seconds
[ "$spawn" = no ] || copy_suite "$work/suite"
for unit in "${units[@]}"; do
  port=$(free_port)
  folder=$work/${unit//\//-}
  [ "$spawn" = yes ] || start_server "$port" "$folder"
  skip_names "$unit" > "$work/skip"
  start=$SECONDS
  status=0
  if [ "$spawn" = yes ]; then
    [ "$unit" != unit/tls ] || make_certificates "$work/suite"
    run_spawned "$port" "$unit" || status=$?
  else
    # shellcheck disable=SC2046 # the flags are words
    (cd "$cache/redis" && timeout 900 tclsh tests/test_helper.tcl --host 127.0.0.1 --port "$port" --single "$unit" \
    --baseport "$((port - 10000))" --durable --tags -large-memory --skipfile "$work/skip" $(flags_of "$unit")) > "$work/output" 2>&1 || status=$?
  fi
  plain "$work/output" > "$work/plain"
  [ "$verbose" = no ] || cat "$work/plain"
  passed=$(count ok "$work/plain")
  failed=$(count err "$work/plain")
  skipped=$(($(count skip "$work/plain") + $(count ignore "$work/plain")))
  sed -n '/^\[err\]:/,/^\[ok\]:\|^\[skip\]\|^\[[0-9]*\/[0-9]* done\]/p' "$work/plain" |
    grep -v '^\[\(ok\|skip\|ignore\)\]' | sed "s|^|$unit: |" | cut -c1-400 >> "$failures" || true
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
    {
      echo "$unit: the suite ended with status $status"
      tail -25 "$work/plain" | sed "s|^|$unit: |" | cut -c1-400
    } >> "$failures"
  fi
  if [ "$spawn" = no ] && ! kill -0 "$server_pid" 2> /dev/null; then
    failed=$((failed + 1))
    {
      echo "$unit: the server ended during the unit"
      tail -25 "$folder/server.log" | sed "s|^|$unit: |"
    } >> "$failures"
  fi
  stop_server
  rm -rf "$folder"
  printf '%-24s %8d %8d %8d %8d\n' "$unit" "$passed" "$failed" "$skipped" $((SECONDS - start))
  all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed)) all_skipped=$((all_skipped + skipped))
done

if [ -s "$failures" ]; then
  echo
  cat "$failures"
fi
echo
echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
[ "$all_failed" -eq 0 ]
