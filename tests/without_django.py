"""A pytest plugin: importing Django, or anything that needs it, is an error. `make test-core` uses it."""

import sys
from importlib.abc import MetaPathFinder

BARRED = ("django", "rest_framework", "celery", "channels", "redis", "docker")


class _Barrier(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] in BARRED:
            raise ModuleNotFoundError(f"{fullname} is out of reach of the scheduler core")


sys.meta_path.insert(0, _Barrier())
