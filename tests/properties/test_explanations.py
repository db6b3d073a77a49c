"""Every number in every sentence is true: each hold of each plan, worked out anew from the snapshot (`retold`)."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import mig
from scheduling.core.cluster import Booking, Window
from scheduling.core.explain import SENTENCES, sentence
from tests.properties.retold import Aftermath
from tests.properties.test_plan_properties import THOROUGH, play
from tests.properties.worlds import stories

DAY = 86_400
RIGHTS = {"guarantee_used", "user_limit", "team_limit", "pool_full"}
#: codes with which every hold of a run of the tests was met, for whoever wants to know how far the stories reach
SEEN: dict[str, int] = {}


@st.composite
def booked_stories(draw, **more):
    """Stories in which some nodes are booked and some do not accept work, teams have hours, jobs start later, and the
    batch tier takes short turns."""
    cluster, policy, steps = draw(stories(**more))
    *upper, batch = policy.tiers
    policy = replace(policy, tiers=(*upper, replace(batch, rotate=draw(st.booleans()))), turn_s=60, turn_factor=1)
    hours = draw(st.sampled_from(((), (), (Window((0, 3), 600, 7200),), (Window((3,), 0, 300), Window((4,), 0, 300)))))
    teams = (replace(cluster.teams[0], windows=hours), *cluster.teams[1:])
    later = draw(st.sampled_from((0, 0, 0, 700)))
    steps = [(s, [replace(job, not_before=later * (job.job % 3 == 0)) for job in jobs]) for s, jobs in steps]
    bookings = tuple(
        Booking(number, draw(st.integers(1, len(cluster.teams))), (draw(st.sampled_from(cluster.nodes)).id,), starts,
                starts + draw(st.sampled_from((300, 4000))))
        for number, starts in enumerate(draw(st.lists(st.sampled_from((0, 50, 500, 3000)), max_size=2)), start=1)
    )  # fmt: skip
    closed = draw(st.sampled_from((0, 0, 1, 2)))
    nodes = tuple(replace(node, accepts=node.id != closed) for node in cluster.nodes)
    return replace(cluster, nodes=nodes, bookings=bookings, teams=teams), policy, steps


@THOROUGH
@given(booked_stories())
def test_every_number_in_every_sentence_is_true(story):
    play(story, check_every_number)


@THOROUGH
@given(booked_stories(mig=True, most_jobs=10))
def test_every_number_is_true_where_cards_are_cut(story):
    play(story, check_every_number)


def check_every_number(before, outcome, toy):
    after = Aftermath(before, outcome, toy.policy, toy.now)
    for hold in outcome.holds:
        SEEN[str(hold.code)] = SEEN.get(str(hold.code), 0) + 1
        assert sentence(hold.code, dict(hold.numbers)), hold
        try:
            check_one(after, after.asks[hold.job], str(hold.code), dict(hold.numbers))
        except AssertionError as error:
            raise AssertionError(f"{hold}\n{after.asks[hold.job]}\n{error}") from error


def check_one(after, ask, code, numbers):
    now, shape = after.now, ask.shape
    could = [node for node in after.before.nodes if after.could_hold(node, shape)]
    if code == "not_before":
        assert numbers == {"starts": ask.not_before}
        assert ask.not_before > now
    elif code == "never_fits":
        assert not could
        assert {
            "gpus": shape.gpus,
            "cpu_millis": shape.cpu_millis,
            "memory_mib": shape.memory_mib,
        }.items() <= numbers.items()
    elif code == "no_nodes":
        assert numbers == {"nodes": len(could) if after.before.nodes else 0}
        assert not any(node.accepts for node in could)
    elif code == "team_window":
        hours = [after.teams[team].windows for team in after.line(ask.team) if after.teams[team].windows]
        today = now // DAY * DAY
        starts = sorted(today + day * DAY + window.starts for each in hours for window in each for day in range(9))
        opens = next(at for at in (now, *(at for at in starts if at > now)) if _all_open(hours, at))
        assert numbers == {"opens": opens}
        assert opens > now
    elif code == "claimed":
        claim = next(claim for claim in after.claims if claim.job == ask.job)
        assert numbers == {"stopping": sum(victim in after.runs for victim in claim.victims)}
        assert numbers["stopping"]
    elif ask.pinned:
        check_suspended(after, ask, code, numbers)
    elif code in RIGHTS:
        verdicts = [after.missing(ask, pool) for pool in sorted({node.pool for node in could})]
        plain = [{name.removesuffix("_cpu_millis"): value for name, value in numbers.items()}]
        assert any(code == told and plain[0] in rows for told, rows in verdicts), verdicts
        closed = {node.pool for node in could} - {node.pool for node in could if node.accepts}
        assert all(after.missing(ask, pool)[0] for pool in {node.pool for node in could} - closed)
    elif code == "next":
        assert after.outcome.claims or (after.outcome.places and not shape.wants_gpu), "nothing came free in this cycle"
    else:
        check_room(after, ask, code, numbers, could)


def _all_open(hours, at):
    """1 January 1970 was a Thursday, which is 3 where Monday is 0."""
    day, second = (at // DAY + 3) % 7, at % DAY
    return all(any(day in w.days and w.starts <= second < w.ends for w in each) for each in hours)


def check_room(after, ask, code, numbers, could):
    """The nodes that it may use now: of its kind, accepting, where it has the rights, and not booked for others."""
    now, shape = after.now, ask.shape
    missing = {pool: after.missing(ask, pool)[0] for pool in {node.pool for node in could}}
    pools = {pool for pool, code_ in missing.items() if code_ is None}
    pools = pools or {pool for pool, code_ in missing.items() if code_ == "pool_full"}
    assert pools, missing
    accepting = [node for node in could if node.accepts and node.pool in pools]
    usable = [node for node in accepting if not after.booked_for_others(node, ask.team, now)]
    held_by = {node.id: after.replicas(node, ask) for node in accepting}
    if code == "gpus_busy":
        most = max((len(after.free_cards(node, shape)) for node in usable), default=0)
        assert numbers == {"gpus": shape.gpus, "free_gpus": most}
        assert most < shape.gpus
    elif code == "island_busy":
        most = max((len(after.free_cards(node, shape)) for node in usable), default=0)
        assert numbers == {"gpus": after.whole(shape), "free_gpus": most}
        assert most < after.whole(shape)
    elif code == "slices_busy":
        check_slices(after, ask, numbers, usable)
    elif code in ("cpu_busy", "memory_busy"):
        check_sides(after, ask, code, numbers, usable)
    elif code == "gang_busy":
        gather = max if shape.required == "island" else sum
        fitting = max(gather([held_by[node.id] for node in usable if node.pool == pool] or [0]) for pool in pools)
        assert numbers == {"replicas": shape.replicas, "fitting": fitting}
        assert fitting < shape.replicas
    elif code == "topology":
        level = (*after.policy.levels, "node").index(shape.required)
        sums: dict[object, int] = {}
        for node in usable:
            key = (node.pool, node.path[: level + 1] if level < len(after.policy.levels) else node.id)
            sums[key] = sums.get(key, 0) + held_by[node.id]
        assert numbers == {"replicas": shape.replicas, "together": max(sums.values())}
        assert sum(sums.values()) >= shape.replicas > max(sums.values())
    elif code == "reserved":
        check_kept(after, ask, numbers)
        assert numbers["node"] in {node.id for node in usable if held_by[node.id]}
        assert now < numbers["until"] < now + ask.limit_s
    else:
        assert code == "booked"
        booking = next(b for b in after.before.bookings if b.id == numbers["booking"])
        assert numbers == {"booking": booking.id, "team": booking.team, "node": numbers["node"],
                           "starts": booking.starts, "ends": booking.ends}  # fmt: skip
        assert numbers["node"] in booking.nodes
        assert held_by[numbers["node"]]
        assert booking.team not in after.line(ask.team)
        assert booking.starts < now + ask.limit_s
        assert booking.ends > now


def check_kept(after, ask, numbers):
    """Somebody else is promised something on that node at that very time."""
    promised = [
        r for r in after.outcome.reserves
        if r.job != ask.job and r.at == numbers["until"] and numbers["node"] in {part.node for part in r.parts}
    ]  # fmt: skip
    parked = [
        other for other in after.before.asks
        if other.pinned and other.suspended_at + after.policy.max_parked_s == numbers["until"]
        and numbers["node"] in {part.node for part in other.pinned}
    ]  # fmt: skip
    assert promised or parked


def check_sides(after, ask, code, numbers, usable):
    shape = ask.shape
    if shape.wants_gpu:
        beside = [node for node in usable if _has_cards(after, node, ask)]
        sides, word = [(after.cpu(node), after.memory(node)) for node in beside], "free"
    else:
        sides, word = [after.spare(node) for node in usable], "spare"
    most = max((cpu for cpu, _ in sides), default=0)
    if code == "cpu_busy":
        assert numbers == {"cpu_millis": shape.cpu_millis, f"{word}_cpu_millis": max(0, most)}
        assert most < shape.cpu_millis
    else:
        memory = max(memory for cpu, memory in sides if cpu >= shape.cpu_millis)
        assert numbers == {"memory_mib": shape.memory_mib, f"{word}_memory_mib": max(0, memory)}
        assert memory < shape.memory_mib


def _has_cards(after, node, ask):
    if ask.shape.gpus:
        return len(after.free_cards(node, ask.shape)) >= after.whole(ask.shape)
    return after.parts_of_cards(node, ask) > 0


def check_slices(after, ask, numbers, usable):
    shape = ask.shape
    assert not any(after.parts_of_cards(node, ask) for node in usable)
    cards = [(node, gpu) for node in usable for gpu in node.gpus if after.suits(gpu, shape)]
    if shape.mig:
        free = [profile.compute for node, gpu in cards for profile, _ in after.on_card(node, gpu, ask)]
        asked, largest = int(shape.mig[0]), max(free, default=0)
        told = {"slices": asked, "cards": len(cards)}
        assert numbers == (told | {"free_slices": largest} if largest < asked else told)
        return
    left = [found for node, gpu in cards if (found := after.on_card(node, gpu, ask)) is not None]
    most = max((share for share, _ in left), default=0)
    if "gpu_memory_mib" not in numbers:
        assert numbers == {"thousandths": shape.thousandths, "free_thousandths": most}
        assert most < shape.thousandths
        return
    memory = max(memory for share, memory in left if share >= shape.thousandths)
    assert numbers["thousandths"] == shape.thousandths
    assert numbers["free_gpu_memory_mib"] == memory < numbers["gpu_memory_mib"]


def check_suspended(after, ask, code, numbers):
    """It returns to its own cards or not at all."""
    node = after.nodes[ask.pinned[0].node]
    assert "node" not in numbers or numbers["node"] in {part.node for part in ask.pinned}
    cards = {piece.gpu for part in ask.pinned for piece in part.pieces}
    holders = {job for job, _, part in after.held for piece in part.pieces if piece.gpu in cards}
    if code == "pinned" and "busy" in numbers:
        busy = {p.gpu for _, _, part in after.held for p in part.pieces} & cards
        ends = [run.ends_by(after.now) for job, run in after.runs.items() if job in holders]
        claimed = {claim.job for claim in (*after.before.claims, *after.claims)}  # counted with its victims' grace
        ends += [
            after.now + after.policy.grace_s * (job in claimed) + after.asks[job].limit_s
            for job in holders if job in after.asks
        ]  # fmt: skip
        assert (numbers["gpus"], numbers["busy"], numbers["until"]) == (len(cards), len(busy), max(ends))
        assert busy
    elif code == "pinned" and "suspended" in numbers:
        assert ask.job in {stop.job for stop in after.outcome.stops}
        assert numbers["suspended"] == ask.suspended_at
    elif code == "pinned":
        assert not node.accepts
    elif code == "cpu_busy":
        assert numbers["free_cpu_millis"] == max(0, after.cpu(node)) < numbers["cpu_millis"] == ask.pinned[0].cpu_millis
    elif code == "memory_busy":
        assert (
            numbers["free_memory_mib"] == max(0, after.memory(node)) < numbers["memory_mib"] == ask.pinned[0].memory_mib
        )
    elif code == "reserved":
        check_kept(after, ask, numbers)
    elif code in RIGHTS:
        assert any(numbers == row for row in after.missing(ask, node.pool)[1])
    else:
        assert code in ("booked", "next")


def test_every_code_has_a_sentence():
    assert {str(code) for code in SENTENCES} >= RIGHTS
    assert all(sentences for sentences in SENTENCES.values())
    assert mig.PROFILES
