"""A small chaos: what must hold does, whatever is broken (the large one is `make chaos`)."""

import pytest

from tests.cluster.chaos.__main__ import chaos

pytestmark = [pytest.mark.docker, pytest.mark.long]


def test_every_job_ends_once_and_nothing_is_held_twice_while_parts_are_killed(capsys: pytest.CaptureFixture[str]):
    broken = chaos(jobs=40, gangs=4, seed=2, most_s=480)
    assert broken == 0, capsys.readouterr().out
