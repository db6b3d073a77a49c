"""The nodes' door: who may enter, who may speak for whom, and what late, repeated and odd reports change."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portal.kernel import clock
from scheduling import enrolment, far_nodes, wiring
from scheduling.inventory import latest_samples
from scheduling.models import Allocation, Enrolment, Gpu, Job, JoinToken, Node
from scheduling.nodes.driver import Observation, Phase, Sample
from scheduling.nodes.wire import encode
from scheduling.services import JobSpec, submit_job
from scheduling.tick import tick
from tenants.tokens import create_token
from tests.far_node import FarNode, machine, post
from tests.hand_node import HandNode

READY = {"address": ("10.0.0.2", 8888)}


@pytest.fixture
def quiet(db, manual_clock):
    """No worker is asked for anything; time stands still."""
    before = wiring.wired()
    wiring.use(replace(before, hint_tick=lambda: None, wake_node=lambda name: None))
    yield manual_clock
    wiring.use(before)


def submit(people, *, gpus=1, volume=""):
    spec = JobSpec(name="j", image="i", limit=timedelta(hours=1), gpus=gpus, port=8888, volume=volume)
    return submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now())


# -- joining ----------------------------------------------------------------------------------------------------------
def test_a_token_works_once_and_only_hashes_are_stored(quiet):
    token = enrolment.create_join_token(name="n1", pool="", simulated=0, now=clock.now())
    status, answer = post("join", {"token": token})
    assert status == 200
    ((name, key),) = [(one["node"], one["key"]) for one in answer["nodes"]]
    assert name == "n1"
    assert post("join", {"token": token})[0] == 403
    stored = str(list(JoinToken.objects.values()) + list(Enrolment.objects.values()))
    assert token not in stored
    assert key not in stored


def test_a_token_expires(quiet):
    token = enrolment.create_join_token(name="n1", pool="", simulated=0, now=clock.now())
    quiet.advance(timedelta(hours=1))
    status, answer = post("join", {"token": token})
    assert (status, answer["code"]) == (403, "bad-token")


@pytest.mark.parametrize(
    "body", [{}, [], {"token": 1}, {"token": "x", "simulated": "2"}, {"token": "x", "simulated": True}]
)
def test_an_odd_join_is_one_sentence(quiet, body):
    status, answer = post("join", body)
    assert (status, answer["code"]) == (422, "bad-join")


def test_one_token_enrols_many_simulated_nodes_and_no_other_number(quiet):
    token = enrolment.create_join_token(name="sim", pool="p", simulated=3, now=clock.now())
    status, answer = post("join", {"token": token, "simulated": 2})
    assert (status, answer["code"]) == (422, "wrong-count")
    assert "--simulated 3" in answer["detail"]
    status, answer = post("join", {"token": token, "simulated": 3})
    assert [one["node"] for one in answer["nodes"]] == ["sim-1", "sim-2", "sim-3"]
    assert len({one["key"] for one in answer["nodes"]}) == 3


def test_joining_again_ends_the_old_key_and_begins_a_newer_epoch(quiet):
    first = FarNode("n1")
    second = FarNode("n1", agent="second")
    assert second.held.epoch > first.held.epoch
    status, answer = first.tell(first.next())
    assert (status, answer["code"]) == (401, "authentication_failed")


def test_the_portals_own_node_cannot_be_taken_over_by_a_token(quiet):
    HandNode(name="local")
    with pytest.raises(enrolment.NameTaken):
        enrolment.create_join_token(name="local", pool="", simulated=0, now=clock.now())


def test_the_command_prints_a_token_that_works(quiet, capsys):
    call_command("node_token", "n7", "--pool", "a100")
    status, answer = post("join", {"token": capsys.readouterr().out.strip()})
    assert (status, answer["nodes"][0]["node"]) == (200, "n7")
    assert Enrolment.objects.get().pool == "a100"
    for arguments in (["N!"], ["n", "--lifetime", "soon"], ["n", "--simulated", "-1"], ["nobody", "--revoke"]):
        with pytest.raises(CommandError):
            call_command("node_token", *arguments)


def test_a_revoked_key_is_refused_at_once(quiet):
    node = FarNode()
    call_command("node_token", "n1", "--revoke")
    assert node.tell(node.next())[0] == 401


# -- a stolen key -----------------------------------------------------------------------------------------------------
def test_a_key_speaks_for_its_own_node_only(quiet, people):
    mine, other = FarNode("n1"), FarNode("n2")
    submit(people)
    tick()
    (lead,) = Allocation.objects.all()
    victim = {"n1": mine, "n2": other}[lead.node.name]
    thief = other if victim is mine else mine

    report = victim.next(Observation(str(lead.pk), Phase.GONE))
    status, answer = post("exchange", encode(report), thief.key)
    assert (status, answer["code"]) == (403, "other-node")
    assert "parts" not in answer
    # Under its own name it may say what it likes about others' containers: nothing of it counts.
    thief.report(Observation(str(lead.pk), Phase.EXITED, exit_code=0))
    lead.refresh_from_db()
    assert (lead.phase, Job.objects.get().state) == ("", "placed")
    assert thief.report().parts == ()


def test_a_node_cannot_claim_anothers_gpus_nor_report_samples_for_them(quiet, people):
    other, thief = FarNode("n2"), FarNode("n1")
    thief.report(inventory=machine("n2"), samples=(Sample("SIM-n2-0", utilization_pct=99),))
    assert set(Gpu.objects.filter(node__name="n2").values_list("uuid", flat=True)) == {"SIM-n2-0", "SIM-n2-1"}
    assert latest_samples(["SIM-n2-0"]) == {}
    assert "n2" in Node.objects.get(name="n1").notes[0]
    other.report(samples=(Sample("SIM-n2-0", utilization_pct=7),))
    assert latest_samples(["SIM-n2-0"])["SIM-n2-0"].utilization_pct == 7


def test_keys_of_nodes_and_tokens_of_people_open_only_their_own_doors(quiet, people):
    node = FarNode()
    person = create_token(user=people.dana, name="t", now=clock.now())[1]
    assert post("exchange", encode(node.next()), person)[0] == 401
    assert post("exchange", encode(node.next()))[0] == 401
    api = Client(headers={"Authorization": f"Bearer {node.key}"})
    assert api.get("/api/v1/workspaces").status_code == 401


# -- reports ----------------------------------------------------------------------------------------------------------
def test_the_desired_state_is_sent_only_when_the_agent_holds_another(quiet, people):
    node = FarNode()
    submit(people)
    tick()
    status, answer = node.tell(node.next())
    assert len(answer["parts"]) == 1
    assert "unchanged" not in answer
    node.report()
    status, answer = node.tell(node.next())
    assert "parts" not in answer
    assert answer["unchanged"] is True


def test_an_agent_is_told_that_its_container_was_launched(quiet, people):
    """Else a container that vanishes would be started a second time."""
    node = FarNode()
    submit(people)
    tick()
    assert [part.launched for part in node.report().parts] == [False]
    node.say(Phase.STARTING, **READY)
    assert [part.launched for part in node.report().parts] == [True]


def test_a_life_over_the_wire(quiet, people):
    node = FarNode()
    job = submit(people)
    tick()
    for phase, state in ((Phase.STARTING, "starting"), (Phase.READY, "running")):
        node.say(phase, **READY)
        job.refresh_from_db()
        assert job.state == state
    node.say(Phase.EXITED, exit_code=0)
    node.say(Phase.GONE)
    job.refresh_from_db()
    assert job.state == "succeeded"
    assert node.report().parts == ()


@pytest.mark.parametrize(("port", "state"), [(0, "succeeded"), (8888, "failed")])
def test_work_without_a_server_may_be_over_before_anybody_saw_it_run(quiet, people, port, state):
    node = FarNode()
    spec = JobSpec(name="j", image="i", limit=timedelta(hours=1), gpus=1, port=port)
    job = submit_job(by=people.alice, team=people.red, spec=spec, now=clock.now())
    tick()
    node.say(Phase.EXITED, exit_code=0)
    node.say(Phase.GONE)
    job.refresh_from_db()
    assert job.state == state


def test_repeated_and_late_reports_change_nothing_and_are_answered(quiet, people):
    node = FarNode()
    submit(people)
    tick()
    (part,) = node.report().parts
    early = node.next(Observation(part.spec.allocation, Phase.STARTING, **READY))
    later = node.next(Observation(part.spec.allocation, Phase.READY, **READY))
    assert node.tell(later)[0] == 200
    version = Job.objects.get().version
    for report in (early, later, later):
        assert node.tell(report)[0] == 200
    assert Allocation.objects.get().phase == "ready"
    assert Job.objects.get().version == version


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": [{"allocation": "x' OR 1", "phase": "gone"}]}, "is no allocation"),
        ({"observations": [{"allocation": "²", "phase": "gone"}]}, "is no allocation"),
        ({"observations": [{"allocation": "1", "phase": "gone", "code": "c" * 61}]}, "code"),
        ({"observations": [{"allocation": "1", "phase": "pulling", "progress": [-1, 2]}]}, "negative"),
        ({"observations": {}}, "Report.observations must be a list."),
        ({"inventory": {"cpu_millis": -1, "memory_mib": 1}}, "cpu_millis"),
        ({"inventory": {"cpu_millis": 2**31, "memory_mib": 1}}, "cpu_millis"),
        ({"inventory": {"cpu_millis": 1, "memory_mib": 1, "gpus": [{"uuid": "", "index": 0, "model": "", "memory_mib": None}]}}, "GPU"),
        ({"sequence": 0}, "which process"),
        ({"agent": "a" * 65}, "64 characters"),
        ({"node": None}, "Report.node must be a text."),
    ],
)  # fmt: skip
def test_an_odd_report_is_one_sentence_and_changes_nothing(quiet, changes, words):
    node = FarNode()
    before = list(Node.objects.values()) + list(Enrolment.objects.values())
    status, answer = post("exchange", {**encode(node.next()), **changes}, node.key)
    assert (status, answer["code"]) == (422, "bad-report")
    assert words in answer["detail"]
    assert list(Node.objects.values()) + list(Enrolment.objects.values()) == before


def test_what_is_no_json_or_far_too_long_is_refused(quiet):
    node = FarNode()
    client = Client(headers={"Authorization": f"Bearer {node.key}"})
    path = "/api/v1/nodes/exchange"
    assert client.generic("POST", path, "{", content_type="application/json").status_code == 400
    deep = "[" * 100_000
    assert client.generic("POST", path, deep, content_type="application/json").status_code == 400
    long = client.generic("POST", path, "1" * (9 * 2**20), content_type="application/json")
    assert (long.status_code, long.json()["code"]) == (413, "too-large")


def test_a_report_may_say_more_than_this_portal_knows(quiet):
    node = FarNode()
    assert post("exchange", {**encode(node.next()), "news": {"of": ["tomorrow"]}}, node.key)[0] == 200


# -- one agent per name -----------------------------------------------------------------------------------------------
def test_a_second_agent_is_refused_until_the_first_must_have_ended_its_containers(quiet):
    node = FarNode()
    double = node.next()
    status, answer = node.tell(replace(double, agent="second"))
    assert (status, answer["code"]) == (409, "second-agent")
    assert "n1" in answer["detail"]
    node.report()
    quiet.advance(timedelta(seconds=59))
    assert node.tell(replace(double, agent="second"))[0] == 409
    quiet.advance(timedelta(seconds=1))
    assert node.tell(replace(double, agent="second"))[0] == 200


def test_a_later_start_with_the_same_files_follows_at_once_and_the_earlier_is_refused(quiet):
    node = FarNode()
    late = node.next()
    again = FarNode.__new__(FarNode)
    again.__dict__.update(node.__dict__, agent="again", start=2, sequence=0)
    again.report()
    status, answer = node.tell(late)
    assert (status, answer["code"]) == (409, "second-agent")


# -- pace -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("nodes", "seconds"), [(1, 2), (100, 2), (550, 6), (1000, 10), (3000, 10)])
def test_the_interval_grows_with_the_cluster_and_stays_within_the_lease(nodes, seconds):
    assert far_nodes.interval_for(nodes, lease_s=30) == seconds


def test_a_restored_database_is_taken_up_again_after_node_epoch(quiet, capsys):
    node = FarNode()
    before = node.held.age
    Node.objects.update(desired_version=0)
    call_command("node_epoch")
    assert node.report().age > before


def test_a_quiet_exchange_and_a_known_inventory_cost_few_queries(quiet, django_assert_max_num_queries):
    node = FarNode()
    node.report()
    with django_assert_max_num_queries(4):
        node.report()
    with django_assert_max_num_queries(11):
        node.report(inventory=machine("n1"))


def test_an_inventory_that_says_something_new_is_written(quiet):
    node = FarNode()
    told = machine("n1")
    node.report(inventory=replace(told, gpus=told.gpus[:1]))
    assert Gpu.objects.filter(node__name="n1", retired_at=None).count() == 1
    node.report(inventory=told)
    assert Gpu.objects.filter(node__name="n1", retired_at=None).count() == 2
    node.report(inventory=replace(told, labels=(("rack", "r7"),)))
    assert Node.objects.get().facts["labels"] == [["rack", "r7"]]


def test_a_card_that_was_moved_is_taken_up_once_its_old_node_reports_without_it(quiet):
    old, new = FarNode("n1"), FarNode("n2")
    moved = replace(machine("n2"), gpus=(*machine("n2").gpus, replace(machine("n1").gpus[0], index=2)))
    for _ in range(2):
        new.report(inventory=moved)
        assert Gpu.objects.get(uuid="SIM-n1-0").node.name == "n1"
    old.report(inventory=replace(machine("n1"), gpus=machine("n1").gpus[1:]))
    new.report(inventory=moved)
    assert Gpu.objects.get(uuid="SIM-n1-0").node.name == "n2"
    assert Node.objects.get(name="n2").notes == []
