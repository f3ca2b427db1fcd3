"""What redis-py does with the RESP port, unmodified: python clients.py HOST:PORT TOKEN."""

import sys
import time

import redis

HOST, PORT = sys.argv[1].rsplit(":", 1)
TOKEN = sys.argv[2]


def refused(kind, call, *words):
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), error
        return
    raise AssertionError(f"not refused: {words}")


def values(r):
    assert r.ping()
    assert r.set("a", "1") is True
    assert r.get("a") == b"1"
    assert r.get("gone") is None
    assert r.set("a", "2", nx=True) is None
    assert r.set("a", "2", xx=True, get=True) == b"1"
    binary = bytes(range(256)) * 1000
    assert r.set("binary", binary) and r.get("binary") == binary
    assert r.strlen("binary") == 256_000
    assert r.append("a", "34") == 3
    assert r.getset("a", "5") == b"234"
    assert r.getdel("a") == b"5"
    assert r.mset({"m1": "1", "m2": "2"})
    assert r.mget("m1", "gone", "m2") == [b"1", None, b"2"]
    assert r.msetnx({"m2": "x", "m3": "x"}) is False
    assert r.incr("n") == 1 and r.incrby("n", 41) == 42 and r.decr("n", 2) == 40
    refused(redis.ResponseError, lambda: r.incr("binary"), "not an integer")
    assert r.exists("m1", "m1", "gone") == 2
    assert r.type("m1") == b"string" and r.type("gone") == b"none"
    assert r.delete("m1", "gone") == 1 and r.unlink("m2") == 1
    assert r.set("schlüssel/日本", "wert") and r.get("schlüssel/日本") == b"wert"
    refused(redis.ResponseError, lambda: r.set(b"\xff", "x"), "UTF-8")


def lives(r):
    assert r.set("t", "1", ex=100) and 99 <= r.ttl("t") <= 100
    assert r.set("t", "2", keepttl=True) and 99 <= r.ttl("t") <= 100
    assert r.expire("t", 50) and 49 <= r.ttl("t") <= 50
    assert r.expire("t", 100, lt=True) is False
    assert r.expireat("t", int(time.time()) + 10) and 8 <= r.ttl("t") <= 10
    assert 0 < r.pttl("t") <= 10_000
    assert r.getex("t", px=5000) == b"2" and r.pttl("t") <= 5000
    assert r.persist("t") and r.ttl("t") == -1 and r.ttl("gone") == -2
    assert r.setex("t", 1000, "3") and r.psetex("t", 30, "4")
    while r.exists("t"):
        pass
    assert r.expire("gone", 1) is False
    refused(redis.ResponseError, lambda: r.set("t", "1", ex=0), "invalid expire")


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p/{n}", n).incr("count").get(f"p/{n}")
        answers = pipe.execute()
    assert answers == [one for n in range(1000) for one in (True, n + 1, str(n).encode())]
    assert sorted(r.scan_iter(match="p/*", count=100)) == sorted(f"p/{n}".encode() for n in range(1000))
    assert r.dbsize() >= 1000
    assert len(r.keys("p/99*")) == 11
    with r.pipeline() as pipe:
        pipe.set("x", 1).incr("x").get("x")
        assert pipe.execute() == [True, 2, b"2"]
    refused(redis.ResponseError, lambda: r.mget([f"k{n}" for n in range(1001)]), "1000")


def conflicts(r, other):
    r.set("balance", 10)
    with r.pipeline() as pipe:
        pipe.watch("balance")
        seen = int(pipe.get("balance"))
        other.set("balance", 99)
        pipe.multi()
        pipe.set("balance", seen + 1)
        refused(redis.WatchError, pipe.execute)
    assert r.get("balance") == b"99"

    def add(pipe):
        seen = int(pipe.get("balance"))
        pipe.multi()
        pipe.set("balance", seen + 1)

    assert r.transaction(add, "balance") == [True]
    assert r.get("balance") == b"100"
    lock = r.set("lock", "me", nx=True, px=10_000)
    assert lock and other.set("lock", "you", nx=True, px=10_000) is None


def refusals(r):
    refused(redis.ResponseError, lambda: r.lpush("list", "1"), "unknown command")
    refused(redis.ResponseError, lambda: r.publish("channel", "1"), "unknown command")
    refused(redis.ResponseError, lambda: r.eval("return 1", 0), "unknown command")
    refused(redis.ResponseError, lambda: r.set("large", b"x" * ((8 << 20) + 1)), "maximum allowed size")
    assert r.ping(), "the connection is good still"


def main():
    for protocol in (2, 3):
        options = {"host": HOST, "port": int(PORT), "protocol": protocol, "socket_timeout": 60}
        r = redis.Redis(password=TOKEN, client_name="test", **options)
        other = redis.Redis(username="svc/cache", password=TOKEN, **options)
        for key in r.scan_iter():
            r.delete(key)
        values(r)
        lives(r)
        pipelines(r)
        conflicts(r, other)
        refusals(r)
        dev = redis.Redis(password=TOKEN, db=1, **options)
        assert dev.get("balance") is None
        assert dev.client_info()["db"] in (1, "1") and r.client_getname() in ("test", b"test")
        assert r.info()["redis_version"] and "get" in r.command() and r.config_get("save") == {"save": ""}
        refused(redis.AuthenticationError, redis.Redis(**options).ping)
        refused(redis.AuthenticationError, redis.Redis(password="0123456789abcdef", **options).ping)


main()
