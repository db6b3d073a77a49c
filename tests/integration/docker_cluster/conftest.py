"""One cluster for all tests of this folder, with a short lease; when it has gone, nothing of it is left."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.starting import running_cluster
from tests.cluster.work import make_people

LEASE_S = 10


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with running_cluster(BERTH_NODE_LEASE=f"{LEASE_S}s") as started:
        yield started


@pytest.fixture(scope="package")
def tokens(cluster: Cluster) -> dict[str, str]:
    """API tokens of alice, who is of team red, and charlie, of team blue."""
    return make_people(cluster)
