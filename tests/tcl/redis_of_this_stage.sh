#!/usr/bin/env bash
# A real redis-server without the commands that Haypile has not got yet: the control for skip.txt. What fails here fails
# for want of a command; what passes here must pass against ours.
#
#   HAYPILE_BIN=tests/tcl/redis_of_this_stage.sh tests/tcl/run.sh
#
# As commands arrive, their names leave this list, and their tests leave skip.txt.
missing='
restore-asking
psync sync replconf failover
eval eval_ro evalsha evalsha_ro fcall fcall_ro script
'
flags=()
for name in $missing; do
  flags+=(--rename-command "$name" '')
done
exec "${HAYPILE_REDIS:-redis-server}" "${flags[@]}" "$@"
