"""Which victims, where cards are cut."""

import pytest

from scheduling.core import mig
from scheduling.core.cluster import Cluster, Gpu, Instance, Node, Part, Piece, Quota, Run, Team
from scheduling.core.plan import plan
from scheduling.core.policy import Policy
from scheduling.core.units import GPU_UNITS
from tests.pictures import ask

H100 = "NVIDIA H100 80GB HBM3"
NOW = 1000
TEAMS = (Team(1, "owner", 0, (Quota("gpu", guaranteed=GPU_UNITS),)), Team(2, "red"), Team(3, "blue"))


def instance(job, team, profile, start, **more):
    piece = Piece(1, mig.PROFILES[H100][profile].units, profile, start)
    return Run(ask(job, mig=profile, team=team, **more), (Part(1, (piece,)),), NOW - 100, running_at=NOW - 100)


@pytest.mark.parametrize(("teams", "wish"), [((2, 3), "4g.40gb"), ((2, 2), "4g.40gb"), ((2, 3), "3g.40gb")])
def test_what_was_stranded_beside_the_one_that_goes_need_not_be_taken_from_another(teams, wish):
    """Beside two instances of three slices a slice of the card is of no use to anybody; beside one of them it is."""
    layout = (Instance("3g.40gb", 0), Instance("3g.40gb", 4))
    node = Node(1, "n1", "gpu", 64_000, 256_000, (Gpu(1, H100, 81_920, mig=True, layout=layout),))
    runs = (instance(11, teams[0], "3g.40gb", 0), instance(12, teams[1], "3g.40gb", 4))
    outcome = plan(Cluster((node,), (ask(1, mig=wish, team=1),), runs, teams=TEAMS), Policy(), NOW)
    assert [stop.job for stop in outcome.stops] == [11]
    (claim,) = outcome.claims
    assert [(piece.profile, piece.start) for part in claim.parts for piece in part.pieces] == [(wish, 0)]
