"""The simulator and the live loop decide the same: one story, told to both."""

import pytest

from portal.kernel import clock
from scheduling import wiring
from tests.scenarios.live_world import LiveWorld
from tests.scenarios.story import HERE, read_story, simulated

STORIES = sorted(path.stem for path in HERE.glob("*.yaml"))


@pytest.fixture
def live(db: None, manual_clock: clock.ManualClock):
    before, worlds = wiring.wired(), []

    def build(story) -> LiveWorld:
        worlds.append(LiveWorld(story, manual_clock))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()
    wiring.use(before)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_comes_out_as_told_in_the_simulator_and_in_the_live_loop(name, live, tmp_path):
    story = read_story(name, tmp_path)
    fates, past = simulated(story)
    assert {job: fate for job, fate in fates.items() if job in story.expected} == story.expected
    lived, remembered = live(story).run()
    assert lived == fates
    assert remembered == past
