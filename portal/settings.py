"""Every setting, one screen per topic. docs/settings.md describes the BERTH_* ones; unknown names stop the start."""

import contextlib
import os
import re
import secrets
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from portal.kernel.env import (
    BadSetting,
    env_bool,
    env_duration,
    env_host_name,
    env_int,
    env_networks,
    env_path,
    env_secret,
    env_str,
    env_url,
    env_urls,
    refuse_unknown,
)

BASE_DIR = Path(__file__).resolve().parent.parent

# -- where things are -------------------------------------------------------------------------------------------------
BERTH_DATA = env_path("BERTH_DATA", BASE_DIR / "var")
BERTH_HOST = env_str("BERTH_HOST", "127.0.0.1")
BERTH_PORT = env_int("BERTH_PORT", 8000, low=1, high=65535)
BERTH_GATEWAY_PORT = env_int("BERTH_GATEWAY_PORT", 8001, low=1, high=65535)
if BERTH_PORT == BERTH_GATEWAY_PORT:
    raise BadSetting(f"BERTH_PORT and BERTH_GATEWAY_PORT are both {BERTH_PORT}; give each a port of its own.")
BERTH_PORTAL_URL = env_url("BERTH_PORTAL_URL", f"http://localhost:{BERTH_PORT}")
# Workspaces live at w-<id>.<domain>. Empty until an admin sets one for a portal that is reached by a bare IP address.
BERTH_WORKSPACE_DOMAIN = env_host_name("BERTH_WORKSPACE_DOMAIN", "localhost")
BERTH_GATEWAY_URL = env_url("BERTH_GATEWAY_URL", f"http://{BERTH_WORKSPACE_DOMAIN}:{BERTH_GATEWAY_PORT}")
# Where agents of other machines reach each gateway process, when that is not where browsers do.
BERTH_GATEWAY_ADDRESSES = env_urls("BERTH_GATEWAY_ADDRESSES", BERTH_GATEWAY_URL)
BERTH_DEBUG = env_bool("BERTH_DEBUG", False)

# -- the local node ---------------------------------------------------------------------------------------------------
BERTH_ADMIN_PASSWORD = env_secret("BERTH_ADMIN_PASSWORD")
BERTH_DRIVER = env_str("BERTH_DRIVER", "auto", choices=("auto", "docker", "process"))
BERTH_DOCKER_HOST = env_str("BERTH_DOCKER_HOST", "")
BERTH_OPEN_NETWORKS = env_networks("BERTH_OPEN_NETWORKS")
BERTH_SIMULATED_GPUS = env_int("BERTH_SIMULATED_GPUS", 2, low=0, high=16)
BERTH_LAB_PYTHON = env_path("BERTH_LAB_PYTHON", BASE_DIR / ".venv-lab" / "bin" / "python")

# -- who goes first ---------------------------------------------------------------------------------------------------
# The scheduler's policy, in the format that `manage.py simulate --policy` reads: what was tried can be put to work.
BERTH_POLICY_FILE = env_str("BERTH_POLICY_FILE", "")

# -- how long things may take -----------------------------------------------------------------------------------------
BERTH_NOTEBOOK_LIMIT = env_duration("BERTH_NOTEBOOK_LIMIT", timedelta(hours=12))
BERTH_PLACE_TIMEOUT = env_duration("BERTH_PLACE_TIMEOUT", timedelta(minutes=10))
BERTH_START_TIMEOUT = env_duration("BERTH_START_TIMEOUT", timedelta(minutes=2))
BERTH_NODE_LEASE = env_duration("BERTH_NODE_LEASE", timedelta(seconds=30))
if BERTH_NODE_LEASE.total_seconds() < 10:
    raise BadSetting("BERTH_NODE_LEASE must be 10s or more: a node has to be able to miss an exchange.")

# -- secrets ----------------------------------------------------------------------------------------------------------


def _kept_secret(name: str) -> str:
    """A random secret that this installation makes once and keeps in its data folder, readable by nobody else."""
    path = BERTH_DATA / name
    try:
        if not path.exists():
            BERTH_DATA.mkdir(parents=True, exist_ok=True)
            # Written aside and linked into place: two processes that start together agree on one secret.
            draft = path.with_name(f".{name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        kept = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise BadSetting(
            f"Berth cannot keep its secrets in the data folder {BERTH_DATA} ({error.strerror}: {error.filename}); "
            "change its owner or set BERTH_DATA to another folder."
        ) from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"{path} is not a secret that Berth wrote; remove it, and a new one is made.") from error
    if not kept:
        raise BadSetting(f"{path} is empty; remove it, and a new one is made.")
    return kept


SECRET_KEY = env_secret("BERTH_SECRET_KEY") or _kept_secret("secret_key")

# -- database and broker: SQLite and memory unless told otherwise -----------------------------------------------------
BERTH_DATABASE_URL = env_secret("BERTH_DATABASE_URL")
BERTH_REDIS_URL = env_secret("BERTH_REDIS_URL")
if BERTH_REDIS_URL and not BERTH_REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise BadSetting(
        "BERTH_REDIS_URL must begin with redis://, rediss:// or unix://, as redis://host:6379/0, or be unset."
    )

# Where agents of other machines reach the same Redis; without it they are not woken and rely on their interval.
BERTH_NODE_REDIS_URL = env_str("BERTH_NODE_REDIS_URL", "")
if BERTH_NODE_REDIS_URL and not (BERTH_REDIS_URL and re.fullmatch(r"rediss?://[^/@\s]+(/\d+)?", BERTH_NODE_REDIS_URL)):
    raise BadSetting(
        "BERTH_NODE_REDIS_URL must look like rediss://host:6379/0, without account, and goes with BERTH_REDIS_URL: it "
        "is the same Redis as agents reach it."
    )

DATABASES: dict[str, dict[str, Any]]
if BERTH_DATABASE_URL:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    # Neither sentence repeats the value: it has a password in it.
    if not BERTH_DATABASE_URL.startswith(("postgresql://", "postgres://")):
        raise BadSetting("BERTH_DATABASE_URL must look like postgresql://user:password@host/name, or be unset.")
    try:
        _pg = conninfo_to_dict(BERTH_DATABASE_URL)
    except ProgrammingError as _error:
        raise BadSetting(
            "BERTH_DATABASE_URL cannot be read; it must look like postgresql://user:password@host:5432/name, with any "
            "of :/?#@ in the password written as %3A and so on."
        ) from _error
    if not all(port.isdigit() and 0 < int(port) < 65536 for port in str(_pg.get("port", "5432")).split(",")):
        raise BadSetting("BERTH_DATABASE_URL has a port that is none; it must be a whole number from 1 to 65535.")
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _pg.pop("dbname", "berth"),
            "USER": _pg.pop("user", ""),
            "PASSWORD": _pg.pop("password", ""),
            "HOST": _pg.pop("host", ""),
            "PORT": str(_pg.pop("port", "")),
            "CONN_MAX_AGE": 0,
            "OPTIONS": {**_pg, "pool": {"min_size": 1, "max_size": 16, "timeout": 10}},
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BERTH_DATA / "berth.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA cache_size=-8000;",
            },
        }
    }

CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [BERTH_REDIS_URL]}}
        if BERTH_REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
    )
}
CACHES = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": BERTH_REDIS_URL}
        if BERTH_REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    ),
    # Readings of GPUs and the like: exchanges with nodes go on while Redis is away.
    "nodes": (
        {"BACKEND": "portal.cache.ForgivingRedisCache", "LOCATION": BERTH_REDIS_URL, "KEY_PREFIX": "nodes"}
        if BERTH_REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "nodes"}
    ),
}

CELERY_BROKER_URL = BERTH_REDIS_URL or "memory://localhost/"
CELERY_BROKER_TRANSPORT_OPTIONS = {} if BERTH_REDIS_URL else {"polling_interval": 0.05}
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# The scheduling loop is a thread of each worker process, which must not be copied by a fork.
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = 4
CELERY_BEAT_SCHEDULE = {
    "watch nodes": {"task": "scheduling.watch_nodes", "schedule": 5.0, "options": {"expires": 5}},
}

# -- Django -----------------------------------------------------------------------------------------------------------
DEBUG = BERTH_DEBUG
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "channels",
    "tenants",
    "scheduling",
    "workspaces",
    "portal",
]
MIDDLEWARE = [
    "portal.pages.headers.SecurityHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "portal.pages.headers.SameOriginOnly",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.pages.errors.BerthErrorPages",
]
ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env_path("BERTH_STATIC_ROOT", BERTH_DATA / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "tenants.User"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
CSRF_FAILURE_VIEW = "portal.pages.errors.csrf_failure"
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

# WhiteNoise answers with a plain iterator; under ASGI Django reads it whole, which for our small files is as good.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

# -- who may talk to us -----------------------------------------------------------------------------------------------
# Only the names that the portal is served under; a workspace's host name is never one of them.
_portal_host = re.sub(r":\d+$", "", BERTH_PORTAL_URL.split("://", 1)[1])
ALLOWED_HOSTS = sorted({_portal_host, "localhost", "127.0.0.1", "[::1]"})
_secure = BERTH_PORTAL_URL.startswith("https://")
SESSION_COOKIE_NAME = "__Host-sessionid" if _secure else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if _secure else "csrftoken"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if _secure:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "portal.api_errors.handle",
    "UNAUTHENTICATED_USER": None,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "DEBUG" if DEBUG else "INFO"},
    "loggers": {
        "uvicorn": {"level": "WARNING"},
        "celery": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
        # Strangers' requests, answered with one sentence; a traceback for each is not an event of ours.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.security.RequestDataTooBig": {"level": "CRITICAL"},
        "django.security.TooManyFieldsSent": {"level": "CRITICAL"},
        "django.security.TooManyFilesSent": {"level": "CRITICAL"},
    },
}

refuse_unknown()
