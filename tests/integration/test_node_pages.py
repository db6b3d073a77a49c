"""The pages and the API on which machines are run: what they show, who may, and that each takes a confirmation."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.test import Client

from portal.kernel import clock
from scheduling.models import Enrolment, Gpu, JoinToken, Node
from scheduling.nodes.health import Health, Xid
from scheduling.nodes.wire import encode
from tenants.tokens import create_token
from tests.far_node import FarNode, machine, post
from tests.integration.test_drains import start, state, submit
from tests.integration.test_node_life import time

__all__ = ["time"]

ACTS = ("drain", "cordon", "return", "gone", "gpus/SIM-n1-0/clear")


@pytest.fixture
def node(time, people):
    return FarNode("n1")


@pytest.fixture
def dana(people):
    return browser(people.dana)


def browser(user, **more):
    client = Client(headers={"host": "localhost:8000"}, raise_request_exception=False, **more)
    client.force_login(user)
    return client


def words(answer):
    text = re.sub(r"<(script|style|svg).*?</\1>", "", answer.content.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text))


def break_card(node, number=48):
    node.report(health=(Health("SIM-n1-0", boot_ms=9000, xids=(Xid(number, 5000),)), Health("SIM-n1-1")))


def test_the_list_shows_state_health_age_and_the_agents_version(node, dana, time):
    node.report(inventory=_inventory(agent="0.1.0"))
    break_card(node)
    time.clock.advance(timedelta(seconds=7))
    said = words(dana.get("/nodes"))
    for part in ("n1", "Ready", "1 of 2", "1 in quarantine", "7 s ago", "0.1.0"):
        assert part in said
    assert words(dana.get("/nodes/_machines")) in said


def _inventory(**changes):
    return replace(machine("n1"), **changes)


def test_a_token_is_shown_once_with_the_line_to_start_the_agent_with(node, dana):
    page = dana.post("/nodes", {"name": "gpu-07", "pool": "h100"})
    token = re.search(r"join_[\w-]+", page.content.decode())[0]
    assert f"berth-agent --join http://localhost:8000 {token}" in words(page)
    assert page.headers["Cache-Control"] == "private, no-store"
    assert post("join", {"token": token})[0] == 200
    assert Enrolment.objects.get(node_name="gpu-07").pool == "h100"
    assert post("join", {"token": token})[0] == 403


@pytest.mark.parametrize("name", ["", "Über", "x" * 60, "a b", "-a"])
def test_a_name_that_cannot_be_is_refused_beside_its_field(node, dana, name):
    page = dana.post("/nodes", {"name": name, "pool": ""})
    assert (page.status_code, JoinToken.objects.filter(used_at__isnull=True).count()) == (422, 0)
    assert 'id="error-name"' in page.content.decode()


def test_one_machine_shows_cards_work_quarantine_and_errors(node, dana, people):
    job = start(submit(people, name="train"), node)
    uuid = Gpu.objects.get(slots__allocations__job=job).uuid
    node.report(health=(Health(uuid, boot_ms=9000, xids=(Xid(94, 9000),)),))
    said = words(dana.get("/nodes/n1"))
    for part in ("train", "alice", "is in quarantine", "Xid 94", f"job {job.pk}", "It was put right", "unknown"):
        assert part in said
    assert words(dana.get("/nodes/n1/_machine")) in said


@pytest.mark.parametrize("act", ACTS)
def test_each_act_is_asked_first_and_asking_changes_nothing(node, dana, act):
    break_card(node)
    if act in ("return",):
        Node.objects.update(state="cordoned")
    before = Node.objects.get(), Gpu.objects.get(uuid="SIM-n1-0")
    page = dana.get(f"/nodes/n1/{act}")
    assert page.status_code == 200
    assert 'name="csrfmiddlewaretoken"' in page.content.decode()
    after = Node.objects.get(), Gpu.objects.get(uuid="SIM-n1-0")
    assert [vars(row) | {"_state": 0} for row in before] == [vars(row) | {"_state": 0} for row in after]


@pytest.mark.parametrize("act", ACTS)
def test_who_does_not_run_machines_finds_nothing_there(node, people, act):
    alice = browser(people.alice)
    for path in ("/nodes", "/nodes/_machines", "/nodes/n1", "/nodes/n1/_machine", f"/nodes/n1/{act}"):
        assert alice.get(path).status_code == 404
        assert alice.post(path).status_code in (404, 405)
        assert Client(headers={"host": "localhost:8000"}).get(path).headers["Location"].startswith("/login")
    assert Node.objects.get().state == "ready"
    assert b'href="/nodes"' not in alice.get("/cluster").content


@pytest.mark.parametrize("act", ACTS)
def test_a_post_without_the_pages_token_is_refused(node, people, act):
    assert browser(people.dana, enforce_csrf_checks=True).post(f"/nodes/n1/{act}").status_code == 403
    assert Node.objects.get().state == "ready"


def test_drain_shows_whom_it_hits_and_does_it_when_confirmed(node, dana, people):
    job = start(submit(people, name="train"), node)
    keeps = start(submit(people, name="notebook", preemptible=False), node)
    page = words(dana.get("/nodes/n1/drain?hours=2"))
    for part in ("train", "has to wait", "notebook", "Stays for a while", "2026-11-23 10:00 UTC", "It is empty by"):
        assert part in page
    answer = dana.post("/nodes/n1/drain", {"hours": "2"})
    assert answer.headers["Location"] == "/nodes/n1"
    assert (state(job), state(keeps), Node.objects.get().state) == ("stopping", "running", "draining")
    said = words(dana.get("/nodes/n1"))
    assert "2 jobs still hold something here. What is left at 2026-11-23 11:00 UTC is stopped." in said
    dana.post("/nodes/n1/return")
    assert Node.objects.get().state == "ready"


@pytest.mark.parametrize("hours", ["-1", "0", "soon", "721", "99999999999", "1.5", "١"])
def test_hours_that_cannot_be_are_refused_and_nothing_is_drained(node, dana, hours):
    assert dana.get("/nodes/n1/drain", {"hours": hours}).status_code == 422
    assert dana.post("/nodes/n1/drain", {"hours": hours}).status_code == 422
    assert Node.objects.get().state == "ready"


def test_that_a_machine_is_off_has_to_be_typed(node, dana, people, time):
    start(submit(people, volume="home-alice"), node)
    time.passes(35)
    assert dana.post("/nodes/n1/gone", {"typed": "n2"}).status_code == 422
    assert Node.objects.get().state == "lost"
    dana.post("/nodes/n1/gone", {"typed": "n1"})
    assert Node.objects.get().state == "fenced"


def test_a_card_that_was_put_right_comes_back_with_the_next_clean_check(node, dana):
    break_card(node)
    assert "Xid 48" in words(dana.get("/nodes/n1/gpus/SIM-n1-0/clear"))
    dana.post("/nodes/n1/gpus/SIM-n1-0/clear")
    assert "comes back with the next check" in words(dana.get("/nodes/n1"))
    break_card(node)  # the same error, told again
    assert Gpu.objects.get(uuid="SIM-n1-0").quarantined_at is None
    assert dana.post("/nodes/n1/gpus/SIM-n1-0/clear").status_code == 409
    assert dana.get("/nodes/n1/gpus/SIM-n1-0/clear").status_code == 409
    assert dana.get("/nodes/n1/gpus/nothing/clear").status_code == 404


def test_what_is_so_already_is_said_and_nothing_breaks(node, dana):
    assert dana.post("/nodes/n1/return").status_code == 409
    assert dana.get("/nodes/nobody").status_code == 404
    assert dana.post("/nodes/nobody/drain").status_code == 404


# -- by program -------------------------------------------------------------------------------------------------------
def api(user):
    token = create_token(user=user, name="t", now=clock.now())[1]
    client = Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)

    def call(method, path, body=None):
        answer = client.generic(method, f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json")
        return answer.status_code, json.loads(answer.content)

    return call


def test_a_program_sees_the_plan_drains_and_returns(node, people):
    job = start(submit(people, name="train"), node)
    dana = api(people.dana)
    status, plan = dana("GET", "nodes/n1/drain?within_s=60")
    assert (status, [move["job"]["name"] for move in plan["waits"]], plan["moves"]) == (200, ["train"], [])
    assert plan["waits"][0]["why"]
    assert Node.objects.get().state == "ready"
    status, after = dana("POST", "nodes/n1/drain", {"within_s": 3600})
    assert (status, after["state"], after["drain_by"]) == (200, "draining", "2026-11-23T10:00:00Z")
    assert state(job) == "stopping"
    assert dana("POST", "nodes/n1/return")[1]["state"] == "ready"
    assert dana("POST", "nodes/n1/return")[0] == 409
    assert dana("POST", "nodes/n1/cordon")[1]["state"] == "cordoned"
    assert dana("GET", "nodes")[1]["results"][0]["state"] == "cordoned"


def test_a_program_clears_a_card(node, people):
    break_card(node)
    dana = api(people.dana)
    status, after = dana("GET", "nodes/n1")
    assert (status, after["gpus_in_quarantine"], after["errors"][0]["xid"]) == (200, 1, 48)
    assert dana("POST", "nodes/n1/gpus/SIM-n1-0/clear")[0] == 200
    break_card(node)
    assert dana("GET", "nodes/n1")[1]["gpus_in_quarantine"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "nodes"), ("GET", "nodes/n1"), ("GET", "nodes/n1/drain"), ("POST", "nodes/n1/drain"),
     ("POST", "nodes/n1/cordon"), ("POST", "nodes/n1/return"), ("POST", "nodes/n1/gpus/SIM-n1-0/clear")],
)  # fmt: skip
def test_programs_of_others_and_keys_of_nodes_find_nothing(node, people, method, path):
    assert api(people.alice)(method, path)[0] == 404
    client = Client(headers={"Authorization": f"Bearer {node.key}"})
    assert client.generic(method, f"/api/v1/{path}").status_code == 401
    assert Node.objects.get().state == "ready"


@pytest.mark.parametrize("within", [0, -1, "soon", 10**12, [], {}])
def test_a_time_that_cannot_be_is_refused(node, people, within):
    status, problem = api(people.dana)("POST", "nodes/n1/drain", {"within_s": within})
    assert (status, problem["code"]) == (422, "invalid")


HEALTH = {"gpu_uuid": "SIM-n1-0"}


@pytest.mark.parametrize(
    "health",
    [{}, {"gpu_uuid": ""}, {**HEALTH, "leaked_mib": -1}, {**HEALTH, "ecc_uncorrected": -5},
     {**HEALTH, "xids": [{"number": 2**40, "boot_ms": 1}]}, {**HEALTH, "xids": [{"number": 1, "boot_ms": -1}]},
     {**HEALTH, "xids": [{"number": 1, "boot_ms": 2**41}]}, {**HEALTH, "boot_ms": 2**41},
     {**HEALTH, "xids": [{"number": 1, "boot_ms": 1}] * 65}, {**HEALTH, "strangers": "all"}, "sick"],
)  # fmt: skip
def test_a_report_with_health_that_cannot_be_is_refused_whole(node, health):
    body = {**encode(node.next()), "health": [health]}
    assert post("exchange", body, node.key)[0] == 422
    assert Gpu.objects.filter(quarantined_at__isnull=False).count() == 0


def test_the_longest_names_and_largest_numbers_fit_into_the_rows(node):
    stranger = {"pid": 2**63 - 1, "name": "x" * 5000, "memory_mib": 2**62}
    health = {**HEALTH, "strangers": [stranger] * 3, "leaked_mib": 2**62, "boot_ms": 2**41 - 1}
    body = {**encode(node.next()), "health": [{**health, "xids": [{"number": 2**31 - 1, "boot_ms": 0}]}]}
    assert post("exchange", body, node.key)[0] == 200
    assert Gpu.objects.get(uuid="SIM-n1-0").quarantine_reason
