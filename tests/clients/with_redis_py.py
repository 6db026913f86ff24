"""redis-py against a server: with_redis_py.py PORT PROTOCOL, where the protocol is 2, 3, or `default` for the client's own.

Each check is an ordinary use of the client; its own parsing of replies is part of what is tried. Prints one line, or fails.
"""

import asyncio
import sys
import time

import redis
import redis.asyncio

PORT, PROTOCOL = int(sys.argv[1]), sys.argv[2]
PROTOCOL_OPTION = {} if PROTOCOL == "default" else {"protocol": int(PROTOCOL)}


def connect(**options):
    return redis.Redis(port=PORT, **PROTOCOL_OPTION, **options)


def fails(error, words, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except error as seen:
        assert words in str(seen), (words, seen)
        return
    raise AssertionError(f"{function} did not fail with {words!r}")


def strings(r):
    assert r.set("s", "value") is True
    assert r.get("s") == b"value" and r.get("none") is None
    assert r.set("s", "v2", nx=True) is None and r.set("s", "v2", xx=True) is True
    assert r.set("s", "v3", get=True) == b"v2"
    assert r.set("s", "v4", ex=100) and 90 < r.ttl("s") <= 100
    assert r.set("s", "v5", keepttl=True) and 90 < r.ttl("s") <= 100
    assert r.getex("s", persist=True) == b"v5" and r.ttl("s") == -1
    assert r.execute_command("SETEX", "s", 100, "v") and r.set("s", "w", nx=True) is None
    assert r.append("s", "abc") == 4 and r.strlen("s") == 4 and r["s"] == b"vabc"
    assert r.getrange("s", 1, -1) == b"abc" and r.substr("s", 0, 1) == b"va" and r.setrange("s", 6, "z") == 7
    assert r.getdel("s") == b"vabc\0\0z" and r.getset("s", 1) is None
    assert r.incr("n") == 1 and r.incrby("n", 9) == 10 and r.decr("n") == 9 and r.decrby("n", 4) == 5
    assert r.incrbyfloat("n", 0.5) == 5.5
    assert r.mset({"a": "ohmytext", "b": "mynewtext"}) and r.msetnx({"a": 1, "c": 2}) is False
    assert r.mget("a", "none", "b") == [b"ohmytext", None, b"mynewtext"]
    assert r.lcs("a", "b") == b"mytext" and r.lcs("a", "b", len=True) == 6
    found = r.lcs("a", "b", idx=True, minmatchlen=4, withmatchlen=True)
    as_map = {"matches": [[[4, 7], [5, 8], 4]], "len": 6}
    if isinstance(found, list):
        found = dict(zip(found[::2], found[1::2]))
    assert {getattr(name, "decode", lambda name=name: name)(): value for name, value in found.items()} == as_map, found
    fails(redis.ResponseError, "not an integer", r.incr, "a")
    fails(redis.ResponseError, "unknown command 'NOSUCH'", r.execute_command, "NOSUCH", "x")


def bitmaps(r):
    assert r.setbit("bits", 7, 1) == 0 and r.getbit("bits", 7) == 1 and r.setbit("bits", 100, 1) == 0
    assert r.bitcount("bits") == 2 and r.bitcount("bits", 0, 7, "BIT") == 1
    assert r.bitpos("bits", 1) == 7 and r.bitpos("bits", 1, 8, -1, "BIT") == 100
    assert r.bitop("NOT", "inverse", "bits") == 13 and r.bitop("AND", "none", "bits", "inverse") == 13
    assert r.bitcount("none") == 0
    field = r.bitfield("field", default_overflow="SAT").set("u8", "#0", 200).incrby("u8", "#0", 100).get("u8", 0)
    assert field.execute() == [0, 255, 255]
    assert r.bitfield_ro("field", "u4", 0, items=[("u4", 4)]) == [15, 15]


def keys(r):
    r.flushall()
    assert r.dbsize() == 0 and r.randomkey() is None
    r.mset({f"key:{number}": number for number in range(500)})
    assert r.exists("key:1", "key:2", "none") == 2 and "key:1" in r and r.touch("key:1", "none") == 1
    assert set(r.scan_iter(match="key:4?", count=50)) == {f"key:4{digit}".encode() for digit in range(10)}
    assert len(set(r.scan_iter(_type="string"))) == 500 and not list(r.scan_iter(_type="hash"))
    assert sorted(r.keys("key:49[0-2]")) == [b"key:490", b"key:491", b"key:492"]
    assert r.type("key:1") == b"string" and r.type("none") == b"none"
    assert r.expire("key:1", 100) is True and r.expire("key:1", 50, gt=True) is False
    assert r.pexpire("key:1", 60_000, lt=True) and 50_000 < r.pttl("key:1") <= 60_000
    assert r.expireat("key:1", 4_000_000_000) and r.expiretime("key:1") == 4_000_000_000
    assert r.pexpiretime("key:1") == 4_000_000_000_000 and r.persist("key:1") is True and r.ttl("none") == -2
    assert r.rename("key:1", "renamed") is True and r.renamenx("renamed", "key:2") is False
    assert r.copy("renamed", "copied") is True and r.copy("renamed", "copied") is False
    assert r.move("copied", 3) and not r.exists("copied")
    assert r.swapdb(3, 4) and connect(db=4).get("copied") == b"1"
    assert r.delete("key:3", "key:4", "none") == 2 and r.unlink("key:5") == 1
    assert r.object("encoding", "key:6") == b"int" and r.object("idletime", "key:6") >= 0
    assert r.object("refcount", "key:6") >= 1 and r.memory_usage("key:6") > 0
    assert r.flushdb() is True and r.dbsize() == 0
    fails(redis.ResponseError, "no such key", r.rename, "none", "x")
    r.set("short", 1, px=20)
    time.sleep(0.05)
    assert r.get("short") is None


def large_values(r):
    value = bytes(range(256)) * (20 << 12)
    assert len(value) == 20 << 20
    assert r.set("large", value) and r.get("large") == value and r.strlen("large") == len(value)
    assert r.getrange("large", 1 << 20, (1 << 20) + 255) == bytes(range(256))
    assert r.append("large", b"tail") == len(value) + 4 and r.getrange("large", -4, -1) == b"tail"
    assert r.delete("large") == 1
    key = b"k" * (1 << 16)
    assert r.set(key, 1) and r.get(key) == b"1" and r.delete(key) == 1


def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for number in range(1000):
        pipe.set(f"p:{number}", number).incr("total")
    replies = pipe.execute()
    assert replies[0::2] == [True] * 1000 and replies[1::2] == list(range(1, 1001))
    pipe.get("p:1").incr("p:x").execute_command("INCR", "p:text")
    r.set("p:text", "text")
    replies = pipe.execute(raise_on_error=False)
    assert replies[:2] == [b"1", 1] and isinstance(replies[2], redis.ResponseError), replies


def connections(r):
    assert r.ping() is True and r.echo("word") == b"word"
    mine = connect(client_name="a-test", db=5, decode_responses=True)
    info = mine.client_info()
    assert info["name"] == "a-test" and info["db"] in (5, "5") and info["resp"] in (PROTOCOL, "2" if PROTOCOL == "2" else "3"), info
    assert info["lib-name"].startswith("redis-py") and info["lib-ver"]
    assert mine.client_getname() == "a-test" and mine.client_setname("b") is True
    everyone = mine.client_list()
    assert {"b"} <= {client["name"] for client in everyone} and all(client["addr"] for client in everyone)
    assert [client["id"] for client in mine.client_list(client_id=[mine.client_id()])] == [str(mine.client_id())]
    assert mine.client_kill_filter(_id=mine.client_id(), skipme=True) == 0
    assert mine.client_no_evict("ON") in (True, "OK") and mine.client_no_touch("OFF") in (True, "OK")
    assert mine.client_pause(1) is True and mine.client_unpause() in (True, "OK")
    assert mine.client_trackinginfo()
    assert mine.client_unblock(mine.client_id()) is False
    assert mine.client_getredir() == -1
    mine.set("only here", 1)
    assert r.get("only here") is None
    victim = connect(client_name="victim")
    address = victim.client_info()["addr"]
    assert r.client_kill(address) is True
    assert victim.ping() is True  # The client connects again by itself.
    fails(redis.ResponseError, "No such client", r.client_kill, "1.2.3.4:5")
    reset = connect()
    assert reset.reset() in (True, b"RESET", None, "RESET")


def passwords(r):
    assert r.config_set("requirepass", "secret") is True
    try:
        fails(redis.AuthenticationError, "", connect().ping)
        fails(redis.AuthenticationError, "", connect(password="wrong").ping)
        assert connect(password="secret").ping() and connect(username="default", password="secret").ping()
        late = connect(password="secret")
        assert late.auth("secret") and late.acl_whoami() in ("default", b"default")
    finally:
        assert connect(password="secret").config_set("requirepass", "") is True


def server(r):
    info = r.info()
    assert info["redis_version"].startswith("7.4") and info["role"] == "master"
    assert info["connected_clients"] >= 1 and info["used_memory"] > 0
    r.set("one", 1)
    assert r.info("keyspace")["db0"]["keys"] >= 1
    assert r.info("commandstats")["cmdstat_set"]["calls"] >= 1 and "cluster_enabled" in r.info("cluster")
    assert r.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    assert r.config_set("timeout", 0) and r.config_resetstat() is True
    assert abs(r.time()[0] - time.time()) < 5 and r.lastsave() is not None
    assert r.command_count() > 50 and r.execute_command("COMMAND INFO", "get")
    assert r.command()["set"]["flags"] and r.execute_command("COMMAND DOCS", "get")
    assert [str(key, "utf8") if isinstance(key, bytes) else key for key in r.command_getkeys("MSET", "a", 1, "b", 2)] == [
        "a",
        "b",
    ]
    assert r.command_list(category="bitmap") and r.command_getkeysandflags("SET", "a", 1)
    assert isinstance(r.slowlog_get(), list) and r.slowlog_len() >= 0 and r.slowlog_reset() is True
    assert r.memory_stats() and r.memory_purge() and r.role()[0] in ("master", b"master")
    assert r.wait(0, 0) == 0 and r.waitaof(0, 0, 0)[1] == 0
    assert r.save() is True and r.bgsave() and r.bgrewriteaof()
    assert r.module_list() == [] and len(r.acl_users()) == 1 and r.acl_cat() and r.acl_genpass()
    assert b"ver." in r.lolwut() and r.function_list() == []
    fails(redis.ResponseError, "DEBUG command not allowed", r.execute_command, "DEBUG", "DIGEST")
    fails(redis.ResponseError, "cluster support disabled", r.execute_command, "CLUSTER", "INFO")


async def in_async():
    async with redis.asyncio.Redis(port=PORT, **PROTOCOL_OPTION) as r:
        assert await r.set("async", 1)
        assert await asyncio.gather(*(r.incr("async") for _ in range(50)))
        assert await r.get("async") == b"51"
        found = [key async for key in r.scan_iter("asyn?")]
        assert found == [b"async"]


def main():
    r = connect()
    r.flushall()
    for part in (strings, bitmaps, keys, large_values, pipelines, connections, passwords, server):
        part(r)
    asyncio.run(in_async())
    print(f"redis-py {redis.__version__} over RESP {PROTOCOL}: as expected")


main()
