"""Do the servers that the settings name answer? Asked once before the portal starts, with little patience."""

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict

PATIENCE_S = 3


def database_trouble(url: str) -> str:
    """ "" when PostgreSQL lets us in, else one sentence."""
    try:
        psycopg.connect(url, connect_timeout=PATIENCE_S).close()
    except psycopg.Error as error:
        host = conninfo_to_dict(url).get("host") or "this machine's socket"
        return f"The database at {host} does not answer: {_first_line(error)}; start it or unset BERTH_DATABASE_URL."
    return ""


def broker_trouble(url: str) -> str:
    """ "" when Redis answers, else one sentence."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S) as client:
            client.ping()
    except ValueError as error:
        return f"BERTH_REDIS_URL cannot be read: {_first_line(error)}; it must look like redis://host:6379/0."
    except (redis.RedisError, OSError) as error:
        where = url.split("://", 1)[1].rsplit("@", 1)[-1]  # without the password
        return f"The Redis at {where} does not answer: {_first_line(error)}; start it or unset BERTH_REDIS_URL."
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
