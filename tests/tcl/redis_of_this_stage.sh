#!/usr/bin/env bash
# A real redis-server without the commands that Haypile has not got yet: the control for skip.txt. What fails here fails
# for want of a command; what passes here must pass against ours.
#
#   HAYPILE_BIN=tests/tcl/redis_of_this_stage.sh tests/tcl/run.sh
#
# As commands arrive, their names leave this list, and their tests leave skip.txt.
missing='
multi exec discard watch unwatch
subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe publish spublish pubsub
dump restore restore-asking migrate sort sort_ro monitor latency
replicaof slaveof psync sync replconf failover asking
eval eval_ro evalsha evalsha_ro fcall fcall_ro script
lpush rpush lpushx rpushx lpop rpop llen lindex lset lrange linsert lrem ltrim lpos lmove lmpop rpoplpush
blpop brpop blmove blmpop brpoplpush
zadd zrem zcard zscore zmscore zincrby zrank zrevrank zcount zlexcount zscan zrandmember
zrange zrevrange zrangebyscore zrevrangebyscore zrangebylex zrevrangebylex zrangestore
zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax zmpop bzpopmin bzpopmax bzmpop
zunion zunionstore zinter zinterstore zintercard zdiff zdiffstore
xadd xlen xrange xrevrange xread xreadgroup xdel xtrim xack xclaim xautoclaim xpending xgroup xinfo xsetid
pfadd pfcount pfmerge pfdebug pfselftest
geoadd geodist geohash geopos geosearch geosearchstore georadius georadius_ro georadiusbymember georadiusbymember_ro
'
flags=()
for name in $missing; do
  flags+=(--rename-command "$name" '')
done
exec "${HAYPILE_REDIS:-redis-server}" "${flags[@]}" "$@"
