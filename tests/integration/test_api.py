"""A program can do what a person can."""

import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portal.kernel import clock
from scheduling.nodes.driver import Phase
from tenants.models import ApiToken
from tenants.tokens import create_token
from tests.hand_node import node
from workspaces.images import ship_catalogue
from workspaces.models import Workspace

__all__ = ["node"]

FORM = {"team": "red", "image": "berth-lab", "gpus": 1, "cpus": 1, "memory_gib": 1}


@pytest.fixture
def world(people, node):
    ship_catalogue()
    return people


class Program:
    def __init__(self, user=None):
        token = create_token(user=user, name="test", now=clock.now())[1] if user else ""
        self.client = Client(
            headers={"Authorization": f"Bearer {token}"} if token else {}, raise_request_exception=False
        )

    def __call__(self, method, path, body=None, **headers):
        answer = self.client.generic(
            method,
            f"/api/v1/{path}",
            data=json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else (body or ""),
            content_type="application/json",
            headers=headers,
        )
        return answer.status_code, json.loads(answer.content) if answer.content else None


def test_launch_watch_stop_delete(world, node):
    alice = Program(world.alice)
    status, made = alice("POST", "workspaces", FORM)
    assert (status, made["state"], made["url"]) == (201, "queued", None)
    path = f"workspaces/{made['id']}"
    node.tick()
    assert alice("GET", path)[1]["node"] == "local"
    node.say(Phase.READY, address=("10.0.0.2", 8888))
    ready = alice("GET", path)[1]
    assert ready["state"] == "ready"
    assert ready["url"].endswith(f"/w/{made['id']}/")
    assert alice("DELETE", path)[0] == 409
    assert alice("POST", f"{path}/stop")[1]["state"] == "stopping"
    node.say(Phase.GONE)
    assert alice("GET", path)[1]["state"] == "stopped"
    assert alice("POST", f"{path}/start")[1]["state"] == "queued"
    assert alice("POST", f"{path}/stop")[1]["state"] == "stopped"
    assert alice("DELETE", path)[0] == 204
    assert alice("GET", path)[0] == 404
    assert alice("GET", "workspaces")[1] == {"results": []}


def test_a_waiting_workspace_tells_its_place_and_reason(world, node):
    alice = Program(world.alice)
    alice("POST", "workspaces", {**FORM, "gpus": 2})
    _, second = alice("POST", "workspaces", FORM)
    node.tick()
    seen = alice("GET", f"workspaces/{second['id']}")[1]
    assert (seen["state"], seen["queue_place"]) == ("queued", 1)
    assert seen["reason"] == "It needs 1 GPU on one node; the most that is free for it on one is 0."


def test_an_idempotency_key_answers_the_same_workspace(world, node):
    alice = Program(world.alice)
    ids = {alice("POST", "workspaces", FORM, **{"Idempotency-Key": "once"})[1]["id"] for _ in range(3)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"x"',
        b"\xff\xfe",
        {**FORM, "gpus": 99},
        {**FORM, "gpus": "many"},
        {**FORM, "gpus": 1.5},
        {**FORM, "gpus": -1},
        {**FORM, "gpus": 10**30},
        {**FORM, "gpus": None},
        {**FORM, "cpus": "NaN"},
        {**FORM, "cpus": "Infinity"},
        {**FORM, "cpus": 1e300},
        {**FORM, "memory_gib": -4},
        {**FORM, "image": "x\x00"},
        {**FORM, "team": ["red"]},
        {**FORM, "name": "\ud800"},
        {**FORM, "surprise": 1},
        {},
        "[" * 100_000,
        '{"a":' * 50_000,
    ],
)
def test_bad_input_gets_one_sentence_and_never_a_500(world, node, body):
    status, problem = Program(world.alice)("POST", "workspaces", body)
    assert status in (400, 422)
    assert problem["code"]
    assert problem["detail"]
    assert not Workspace.objects.exists()


def test_who_shows_no_good_token_gets_nothing(world, node):
    stranger = Program()
    assert stranger("GET", "workspaces")[0] == 401
    assert stranger("POST", "workspaces", FORM)[0] == 401
    for header in ("Bearer", "Bearer nonsense", "Basic YTpi", "Bearer a b"):
        assert stranger("GET", "workspaces", Authorization=header)[0] == 401


def test_a_revoked_token_and_a_closed_account_end_at_once(world, node):
    alice = Program(world.alice)
    assert alice("GET", "workspaces")[0] == 200
    ApiToken.objects.update(revoked_at=clock.now())
    assert alice("GET", "workspaces")[0] == 401
    bob = Program(world.bob)
    world.bob.is_active = False
    world.bob.save()
    assert bob("GET", "workspaces")[0] == 401


def test_a_browsers_cookie_does_not_count(world, node):
    browser = Client()
    browser.force_login(world.alice)
    assert browser.get("/api/v1/workspaces").status_code == 401


def test_others_get_404_whether_it_exists_or_not(world, node):
    _, made = Program(world.alice)("POST", "workspaces", FORM)
    charlie = Program(world.charlie)
    for path in (made["id"], "aaaaaaaaaa", "%00", "../..", "w" * 500):
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("POST", "/start")):
            assert charlie(method, f"workspaces/{path}{tail}")[0] == 404


def test_create_token_prints_a_token_that_works(world, node, capsys):
    call_command("create_token", "alice")
    token = capsys.readouterr().out.strip()
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert client.get("/api/v1/workspaces").status_code == 200
    assert token not in str(list(ApiToken.objects.values()))


def test_create_token_for_nobody_says_who_there_is(world):
    with pytest.raises(CommandError, match="There is no active account 'mallory'. Accounts: .*alice"):
        call_command("create_token", "mallory")


def test_without_an_image_the_one_that_the_form_offers_is_launched(world, node):
    form = {key: value for key, value in FORM.items() if key != "image"}
    assert Program(world.alice)("POST", "workspaces", form)[1]["image"] == "berth-lab"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_a_call_that_is_none_is_told_so_in_json(world, method):
    status, problem = Program(world.alice)(method, "workspaces/", {})
    assert (status, problem["code"]) == (404, "no-such-call")


def test_a_machine_in_trouble_is_named_to_programs(world, node):
    alice = Program(world.alice)
    _, made = alice("POST", "workspaces", FORM)
    node.tick()
    node.report(trouble="The Docker engine does not answer.")
    assert "The Docker engine does not answer." in alice("GET", f"workspaces/{made['id']}")[1]["reason"]
