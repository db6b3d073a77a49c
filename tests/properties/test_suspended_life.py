"""The same state machine in a world that is too small for its jobs, nearly all of which may be suspended: so they are,
again and again, by an owner who wants his cards and by others whose turn it is."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from scheduling.core.cluster import Ask, Gpu, Node, Quota, Shape, Team
from scheduling.core.lifecycle import JobState
from scheduling.core.policy import Policy, SizeRule, Tier
from tests.properties import test_turns
from tests.properties.test_life import Life
from tests.properties.worlds import H100

S = JobState
#: its GPU memory lies in its node's memory, or is about to
SAVED = (S.SUSPENDING, S.SUSPENDED, S.RESUMING)
OWNER, BORROWERS = 1, (2, 3)


class Counted(dict):
    """The state of each job; `visits` counts how often one came into each state, over all runs of the machine."""

    visits: Counter[JobState] = Counter()

    def __setitem__(self, job, state):
        self.visits[state] += 1
        super().__setitem__(job, state)


class SuspendedLife(Life):
    check_plan = staticmethod(test_turns.everything)

    @initialize(
        cards=st.lists(st.integers(1, 3), min_size=1, max_size=2), rotate=st.booleans(),
        memory_gib=st.sampled_from((24, 64)), guaranteed=st.sampled_from((0, 50_000, 100_000)),
    )  # fmt: skip
    def build(self, cards, rotate, memory_gib, guaranteed):
        batch = Tier("batch", size_rule=SizeRule.ATTAINED, rotate=rotate)
        nodes = tuple(
            Node(n, f"n{n}", "h100", 16_000, memory_gib * 1024,
                 tuple(Gpu(10 * n + card, H100, 81_920) for card in range(count)))
            for n, count in enumerate(cards, start=1)
        )  # fmt: skip
        teams = (
            Team(OWNER, "owner", quotas=(Quota("h100", percent_milli=guaranteed),)),
            *(Team(team, f"t{team}") for team in BORROWERS),
        )
        self.begin(nodes, teams, Policy(tiers=(Tier("production"), Tier("normal"), batch), turn_s=60))
        self.state = Counted()
        for _ in range(sum(cards)):
            self.submit(BORROWERS[0], 1, 1, 90_000, "batch", "suspendable", 4096, 0)

    # ------------------------------------------------------------------------------------- what people do
    change_quotas = tick_again = None  # what `Life` has seen to, and here only makes room or takes time

    @rule(
        team=st.sampled_from((OWNER, OWNER, *BORROWERS)), gpus=st.sampled_from((1, 1, 2)), replicas=st.sampled_from((1, 1, 2)),
        limit_s=st.sampled_from((1200, 10_000, 90_000)), tier=st.sampled_from(("normal", "batch", "batch")),
        way_out=st.sampled_from(("suspendable",) * 4 + ("evicted", "stays")), saved_mib=st.sampled_from((2048, 8192)),
        seconds=st.sampled_from((-1, 30, 700)),
    )  # fmt: skip
    def submit(self, team, gpus, replicas, limit_s, tier, way_out, saved_mib, seconds):
        """One job, and then mostly time goes by: else few random runs would come so far."""
        self.jobs += 1
        shape = Shape(gpus=gpus, replicas=replicas, cpu_millis=1000, memory_mib=1024)
        able, stays = way_out == "suspendable", way_out == "stays"
        self.queue(
            Ask(self.jobs, team, 10 * team, shape, 0, limit_s, tier=tier, preemptible=not stays, suspendable=able,
                saved_mib=saved_mib)
        )  # fmt: skip
        if seconds >= 0:
            self.time_goes_by(seconds)

    @rule(seconds=st.sampled_from((30, 700, 3000)))
    def time_goes_by(self, seconds):
        """As in a calm installation: the plan, what it wants, and the plan again."""
        self.tick(seconds)
        self.all_goes_well()
        self.tick(60)
        self.all_goes_well()

    @rule(seconds=st.sampled_from((1000, 1300)))
    def nothing_comes_for_a_while(self, seconds):
        """The short ones end, and those who were suspended for them go on."""
        for _ in range(4):
            self.time_goes_by(seconds)

    # ------------------------------------------------------------------------------------- what must hold
    def tick(self, seconds):
        waiting = dict(self.planner.queue.asks)
        before = dict(self.state)
        super().tick(seconds)
        for job, state in self.state.items():
            if (before[job], state) == (S.SUSPENDED, S.RESUMING):
                assert self.planner.runs[job].parts == waiting[job].pinned, "it resumes on its own cards or not at all"
        for job, ask in self.planner.queue.asks.items():
            if self.state[job] is S.SUSPENDED:
                assert ask.suspended_at > self.now - self.policy.max_parked_s, "parked for too long"

    @invariant()
    def what_is_saved_lies_in_the_memory_of_its_node_and_is_no_use_of_its_team(self):
        for host in self.planner.ledger.hosts.values():
            here = [(run.ask, run.parts) for run in self.planner.runs.values()]
            here += [(ask, ask.pinned) for ask in self.planner.queue.asks.values()]
            used = sum(part.memory_mib for run in self.planner.runs.values() for part in run.parts
                       if part.node == host.id)  # fmt: skip
            used += sum(part.memory_mib for claim in self.planner.claims.values() for part in claim.parts
                        if part.node == host.id)  # fmt: skip
            used += sum(ask.saved_mib for ask, parts in here for part in parts
                        if part.node == host.id and self.state[ask.job] in SAVED)  # fmt: skip
            assert host.memory == host.node.memory_mib - used
        parked = {job for job, state in self.state.items() if state is S.SUSPENDED} - self.planner.claims.keys()
        assert not parked & self.planner.held.keys()

    @invariant()
    def whoever_is_on_the_cards_of_a_suspended_job_leaves_in_time(self):
        """It ends, or may be evicted, before the other is given up."""
        for ask in self.planner.queue.asks.values():
            cards = {piece.gpu for part in ask.pinned for piece in part.pieces}
            given_up = ask.suspended_at + self.policy.max_parked_s
            for run in self.planner.runs.values():
                on_them = any(piece.gpu in cards for part in run.parts for piece in part.pieces)
                if on_them and run.held_at > ask.suspended_at and not run.ask.preemptible:
                    assert run.ends_by(self.now) <= given_up


TestSuspendedLife = SuspendedLife.TestCase
TestSuspendedLife.settings = settings(
    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_the_machine_gets_jobs_suspended_and_back():
    """Its own steps, told as a story: whatever random runs may reach, this they can."""
    life = SuspendedLife()
    life.build(cards=[1], rotate=False, memory_gib=24, guaranteed=100_000)
    life.submit(OWNER, 1, 1, 1200, "normal", "evicted", 2048, 30)
    assert (life.state[1], life.state[2]) == (S.SUSPENDED, S.RUNNING)
    life.nothing_comes_for_a_while(1000)
    assert (life.state[1], life.state[2]) == (S.RUNNING, S.TIMED_OUT)
    assert life.state.visits[S.RESUMING] >= 1
    life.what_is_saved_lies_in_the_memory_of_its_node_and_is_no_use_of_its_team()
