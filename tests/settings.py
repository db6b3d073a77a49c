"""The product's settings, read in a world of the tests' own: no variable of the caller's shell, a data folder in /tmp.

BERTH_DATABASE_URL and BERTH_REDIS_URL alone are kept: `tests/run.py` sets them to run the same tests on PostgreSQL.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

for _name in [name for name in os.environ if name.startswith("BERTH_")]:
    if _name not in {"BERTH_DATABASE_URL", "BERTH_REDIS_URL"}:
        del os.environ[_name]
_data = tempfile.mkdtemp(prefix="berth-tests-")
atexit.register(shutil.rmtree, _data, ignore_errors=True)
os.environ["BERTH_DATA"] = _data
Path(_data, "static").mkdir()  # nothing is collected into it, but WhiteNoise warns where it is missing

from portal.settings import *  # noqa: E402, F403
from portal.settings import DATABASES  # noqa: E402

if os.environ.get("BERTH_DATABASE_URL"):
    # The test database is dropped at the end, which a pool's idle connections would forbid.
    DATABASES["default"]["OPTIONS"].pop("pool")  # type: ignore[attr-defined]
else:
    # A file, not memory: agent and worker threads have connections of their own, as in the product.
    DATABASES["default"]["TEST"] = {"NAME": Path(_data) / "tests.sqlite3"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # logging in is not what tests wait for
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
