"""What stays warm between plans changes no decision: whatever happens, and whatever of a plan is not carried out, the
warm planner decides what a cold one would on its snapshot (Toy compares them at every step)."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.core.cluster import Booking, Run, Window
from scheduling.core.lifecycle import JobState
from scheduling.core.plan import Planner, plan
from scheduling.core.policy import Policy, SizeRule, Tier
from tests.properties.test_plan_properties import EXAMPLES, THOROUGH
from tests.properties.toy import Toy
from tests.properties.worlds import stories, team_trees

FEW = settings(THOROUGH, max_examples=EXAMPLES // 2)

#: batch takes turns by size, nothing is lost with a suspended job
TURNS = Policy(
    tiers=(Tier("production"), Tier("normal", rotate=True), Tier("batch", size_rule=SizeRule.ATTAINED, rotate=True)),
    attained_base=42_000 * 60, turn_s=60, turn_factor=1, keeps_work=True, max_parked_s=900,
)  # fmt: skip
DISTURBANCES = st.sampled_from(
    ("nothing", "nothing", "drain", "return", "lose", "quotas", "book", "withdraw", "forget", "start", "stop", "later")
)


def disturb(data, toy, what):
    """Something happens beside what plans ask for."""
    planner, now = toy.planner, toy.now
    hosts = sorted(planner.ledger.hosts)
    if what in ("drain", "return"):
        node = planner.ledger.hosts[data.draw(st.sampled_from(hosts))].node
        planner.node_changed(replace(node, accepts=what == "return"))
    elif what == "lose" and len(hosts) > 1:
        empty = [host for host in hosts if not planner.ledger.hosts[host].parts]
        if empty:
            planner.node_removed(empty[0])
    elif what == "quotas":
        teams = data.draw(team_trees())
        if len(teams) >= len(planner.teams):
            open_at = Window(days=(0, 1, 2, 3, 4, 5, 6), starts=600, ends=2000)
            planner.teams_changed(tuple(replace(team, windows=(open_at,) * (team.id % 2)) for team in teams))
    elif what == "book":
        planner.booked((Booking(1, 1, (hosts[0],), now + 100, now + 700),))
    elif what == "withdraw" and planner.queue.asks:
        planner.withdraw(data.draw(st.sampled_from(sorted(planner.queue.asks))))
    elif what == "later" and planner.queue.asks:
        ask = planner.queue.asks[data.draw(st.sampled_from(sorted(planner.queue.asks)))]
        if not ask.pinned:
            planner.submit(replace(ask, not_before=now + 300, version=ask.version + 1))
    elif what in ("start", "stop") and planner.runs:
        run = planner.runs[data.draw(st.sampled_from(sorted(planner.runs)))]
        if run.state in (JobState.RUNNING, JobState.PLACED, JobState.STARTING):
            state, since = (JobState.PLACED, 0) if what == "start" else (JobState.RUNNING, now)
            planner.changed(replace(run, state=state, running_at=since, since=now), now=now)


@THOROUGH
@given(stories(most_jobs=12), st.data())
def test_disturbances_and_plans_that_are_not_carried_out_leave_the_warm_plan_the_cold_one(story, data):
    cluster, policy, steps = story
    toy = Toy(cluster, TURNS if data.draw(st.booleans()) else policy)
    for seconds, jobs in [*steps, *((seconds, []) for seconds in (0, 30, 600, 1000))]:
        for ask in jobs:
            toy.submit(ask)
        what = data.draw(DISTURBANCES)
        if what == "forget":  # this plan is made, and nobody acts on it
            assert toy.planner.plan(toy.now) == plan(toy.planner.snapshot(), toy.policy, toy.now)
        disturb(data, toy, what)
        toy.step(seconds)


@FEW
@given(stories(most_jobs=12))
def test_time_that_passes_without_a_change_is_time_for_a_cold_planner_too(story):
    """Deadlines, minimum runtimes, parked jobs, claims and lost work all move with the clock alone."""
    cluster, policy, steps = story
    toy = Toy(cluster, policy)
    for seconds, jobs in steps:
        for ask in jobs:
            toy.submit(ask)
        toy.step(seconds)
    for later in (1, 31, 125, 700, 1500, 40_000):
        world = toy.planner.snapshot()
        assert toy.planner.plan(toy.now + later) == plan(world, policy, toy.now + later)


@FEW
@given(stories(most_jobs=12))
def test_a_clock_that_is_turned_back_makes_the_plan_that_was_made_then(story):
    """All but deadlines: one that could not be met once is not looked at again."""
    cluster, policy, steps = story
    planner = Planner(policy)
    planner.load(replace(cluster, asks=tuple(replace(ask, deadline=0) for _, jobs in steps for ask in jobs)))
    for place in planner.plan(0).places:
        wish = planner.queue.asks[place.job]
        planner.started(Run(wish, place.parts, 0, running_at=1, since=1, pool=place.pool), now=0)
    for now in (5000, 200, 2000, 50):
        assert planner.plan(now) == plan(planner.snapshot(), policy, now)
