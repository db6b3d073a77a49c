"""The servers that other tests lean on really start, answer and go."""

import psycopg
import redis

from tests.services import postgres, redis_server


def test_a_private_postgresql_answers_and_is_gone_afterwards() -> None:
    with postgres() as url:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 6 * 7").fetchone() == (42,)
    try:
        psycopg.connect(url, connect_timeout=2)
    except psycopg.OperationalError:
        return
    raise AssertionError("it still answers")


def test_a_private_redis_answers_and_is_gone_afterwards() -> None:
    with redis_server() as url, redis.Redis.from_url(url) as client:
        client.set("answer", 42)
        assert client.get("answer") == b"42"
    try:
        redis.Redis.from_url(url).ping()
    except redis.ConnectionError:
        return
    raise AssertionError("it still answers")
