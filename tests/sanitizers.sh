#!/usr/bin/env bash
# The engine's concurrent tests under ThreadSanitizer and AddressSanitizer, and its unsafe code under Miri. Needs a nightly toolchain;
# for TSan also its rust-src (the standard library has to be instrumented too, or its locks look like races), for Miri the miri component.
# What the toolchain lacks is said and passed over; under CI=true it is a failure.
#
#   tests/sanitizers.sh [thread] [address] [miri]        all of them by default
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1
host=$(rustc -vV | sed -n 's/^host: //p')
chosen=${*:-thread address miri}

# Memtable and cache under many threads, the publish step, the view, the log's threads; then whole databases under load.
units="memtable::memtable::tests::eight memtable::memtable::tests::an_iterator cache::block_cache::tests::threads
  cache::block_cache::tests::blocks_outlive db::publish wal::recovery::tests::four_threads wal::log::tests::the_log_thread"
whole="at_once while_writers_go_on under_threads after_close"

lacks() {
  echo "passed over: $1" >&2
  [ "${CI:-}" != true ]
}

has() { rustup component list --toolchain nightly 2>/dev/null | grep -q "^$1.*(installed)"; }

sanitize() {
  local name=$1
  shift
  printf '\n== %s sanitizer ==\n' "$name"
  export CARGO_TARGET_DIR=target/sanitize-$name RUSTFLAGS="-Zsanitizer=$name" HAYPILE_STRESS_MS=5000
  cargo +nightly test --quiet "$@" --target "$host" -p haypile-lsm --lib -- $units
  cargo +nightly test --quiet "$@" --target "$host" -p haypile-lsm --test engine -- $whole
  unset CARGO_TARGET_DIR RUSTFLAGS
}

rustup toolchain list 2>/dev/null | grep -q nightly || { lacks "there is no nightly toolchain"; exit; }
for tool in $chosen; do
  case $tool in
    thread) if has rust-src; then sanitize thread -Zbuild-std; else lacks "ThreadSanitizer: nightly has no rust-src"; fi ;;
    address) sanitize address ;;
    miri)
      if has miri; then
        printf '\n== miri ==\n'
        # Small on purpose: Miri is a thousand times slower. Integers that become pointers happen inside crossbeam-epoch.
        export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" PROPTEST_CASES=2 CARGO_TARGET_DIR=target/miri
        cargo +nightly miri test --quiet -p haypile-lsm --lib -- memtable::arena memtable::skiplist db::view
      else
        lacks "Miri: nightly has no miri component"
      fi ;;
    *) echo "thread, address or miri, not $tool" >&2; exit 2 ;;
  esac
done
