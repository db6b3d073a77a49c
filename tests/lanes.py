"""Which tests follow each other in one worker when `tests/run.py` runs two of them.

Tests with a Docker Engine share one engine and the machine's firewall, so they are one lane, the longest, which
pytest-xdist therefore begins with. The others stay together by file, for what a module starts only once. Workers tell
the names of tests and nothing else, so a test with Docker says so in its name.

(pytest-xdist's own `loadgroup` does not group anything under pytest 9.2.)
"""

from xdist.scheduler import LoadScopeScheduling

DOCKER = "docker"


def lane_of(nodeid: str) -> str:
    return DOCKER if DOCKER in nodeid else nodeid.split("::")[0]


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)
