"""Every page a person meets, and what it says when something is wrong. No input gives a 500."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from scheduling.nodes.driver import Phase
from tests.hand_node import MACHINE, HandNode, node
from tests.people import PASSWORD
from workspaces.images import ship_catalogue
from workspaces.models import Workspace

__all__ = ["node"]

FORM = {"team": "red", "image": "berth-lab", "gpus": "1", "cpus": "1", "memory_gib": "1", "launch_key": "k1"}


@pytest.fixture
def world(people, node):
    ship_catalogue()
    cache.clear()
    return people


def browser(user=None):
    client = Client(headers={"host": "localhost:8000"}, raise_request_exception=False)
    if user:
        client.force_login(user)
    return client


@pytest.fixture
def alice(world):
    return browser(world.alice)


def launched(client, **changes):
    answer = client.post("/launch", {**FORM, **changes})
    assert answer.status_code == 302, errors(answer)
    return Workspace.objects.get(pk=urlsplit(answer["Location"]).path.removeprefix("/w/"))


def words(answer):
    """What a person reads."""
    text = re.sub(r"<(script|style|svg).*?</\1>", "", answer.content.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", text)))


def errors(answer):
    text = re.findall(r'<p class="error" id="error-(\w+)".*?<span>(.*?)</span>', answer.content.decode(), re.DOTALL)
    return {field: unescape(sentence) for field, sentence in text}


# -- logging in -------------------------------------------------------------------------------------------------------
def test_a_log_in_leads_back_to_where_one_was_going(world):
    client = browser()
    assert client.get("/w/abc")["Location"] == "/login?next=%2Fw%2Fabc"
    answer = client.post("/login", {"username": "alice", "password": PASSWORD, "next": "/w/abc"})
    assert (answer.status_code, answer["Location"]) == (302, "/w/abc")


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/login"]
)
def test_a_log_in_never_leads_elsewhere(world, target):
    answer = browser().post("/login", {"username": "alice", "password": PASSWORD, "next": target})
    assert answer["Location"] == "/"


@pytest.mark.parametrize("typed", [{}, {"username": "alice", "password": "wrong"}, {"username": "al\x00ice", "password": "x"},
                                   {"username": "nobody", "password": PASSWORD}])  # fmt: skip
def test_a_wrong_log_in_says_one_sentence_and_not_which_half_was_wrong(world, typed):
    answer = browser().post("/login", typed)
    assert answer.status_code == 422
    assert "do not belong together" in words(answer)


def test_guessing_is_slowed_down_and_even_the_right_password_waits(world, manual_clock):
    client = browser()
    for _ in range(8):
        assert client.post("/login", {"username": "alice", "password": "wrong"}).status_code == 422
    answer = client.post("/login", {"username": "alice", "password": PASSWORD})
    assert answer.status_code == 429
    assert "Too many failed attempts. Wait" in words(answer)
    assert client.post("/login", {"username": "bob", "password": PASSWORD}).status_code == 302
    manual_clock.advance(timedelta(minutes=5))
    assert client.post("/login", {"username": "alice", "password": PASSWORD}).status_code == 302


def test_log_out_ends_the_session(alice):
    assert alice.get("/logout").status_code == 405
    alice.post("/logout")
    assert not Session.objects.exists()
    assert alice.get("/")["Location"].startswith("/login")


# -- home and launch --------------------------------------------------------------------------------------------------
def test_an_empty_home_is_one_sentence_and_launch(alice):
    answer = alice.get("/")
    assert answer.status_code == 200
    assert "You have no workspaces yet" in words(answer)
    assert "Launch" in words(answer)


def test_from_home_one_post_launches_and_home_remembers_the_choice(alice):
    workspace = launched(alice, gpus="2", cpus="1.5", memory_gib="3", name="実験 <b>1</b>")
    assert (workspace.gpus, workspace.cpu_millis, workspace.memory_mib) == (2, 1500, 3072)
    home = alice.get("/").content.decode()
    assert "実験 &lt;b&gt;1&lt;/b&gt;" in home
    assert 'name="cpus" inputmode="decimal" autocomplete="off" value="1.5"' in home
    assert 'value="2" data-label="2 GPUs" checked' in home


def test_a_double_click_launches_one_workspace(alice):
    first, second = (alice.post("/launch", FORM)["Location"] for _ in range(2))
    assert first == second
    assert Workspace.objects.count() == 1


@pytest.mark.parametrize("key", ["", "\x00", "x" * 5000, "ключ"])
def test_a_launch_key_that_no_form_sends_guards_nothing_and_breaks_nothing(alice, key):
    launched(alice, launch_key=key)
    launched(alice, launch_key=key)
    assert Workspace.objects.count() == 2


def test_every_rendering_of_the_form_has_a_key_of_its_own(alice):
    keys = {
        re.search(r'name="launch_key" value="(.+?)"', alice.get(page).content.decode())[1]
        for page in ("/", "/", "/launch")
    }
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"gpus": "9"}, "gpus"), ({"gpus": "-1"}, "gpus"), ({"gpus": "x"}, "gpus"), ({"cpus": "0"}, "cpus"),
        ({"cpus": "99999"}, "cpus"), ({"cpus": ""}, "cpus"), ({"memory_gib": "999999"}, "memory_gib"),
        ({"memory_gib": "0.001"}, "memory_gib"), ({"image": "nope"}, "image"), ({"image": "\x00"}, "image"), ({"image": "a" * 5000}, "image"),
        ({"team": "blue"}, "team"), ({"team": "\x00"}, "team"), ({"name": "a\nb"}, "name"), ({"name": "\x00"}, "name"), ({"name": "x" * 61}, "name"),
        ({"name": "a\u202eb"}, "name"),
    ],
)  # fmt: skip
def test_bad_input_says_one_sentence_beside_its_field_and_launches_nothing(alice, typed, field):
    answer = alice.post("/launch", {**FORM, **typed})
    assert answer.status_code == 422
    assert list(errors(answer)) == [field]
    assert not Workspace.objects.exists()


def test_what_was_typed_is_still_there_after_an_error(alice):
    page = alice.post("/launch", {**FORM, "cpus": "two <&>", "name": "größe"}).content.decode()
    assert 'value="two &lt;&amp;&gt;"' in page
    assert 'value="größe"' in page


def test_the_whole_form_is_a_url(alice):
    page = alice.get("/launch?gpus=2&cpus=3&memory_gib=5&name=n%C3%A4me&image=berth-lab&team=red").content.decode()
    assert 'value="näme"' in page
    assert 'value="3"' in page
    assert 'value="2" data-label="2 GPUs" checked' in page


def test_a_log_in_that_expired_in_the_middle_of_a_launch_loses_nothing_typed(world):
    client = browser()
    answer = client.post("/launch", {**FORM, "name": "größe & co"})
    target = parse_qs(urlsplit(answer["Location"]).query)["next"][0]
    assert "launch_key" not in target
    assert "nothing you chose is lost" in words(client.get(answer["Location"]))
    answer = client.post("/login", {"username": "alice", "password": PASSWORD, "next": target})
    assert answer["Location"] == target
    assert 'value="größe &amp; co"' in client.get(target).content.decode()
    assert not Workspace.objects.exists()


def test_a_form_from_before_another_log_in_is_explained_and_keeps_what_was_typed(world):
    client = Client(headers={"host": "localhost:8000"}, enforce_csrf_checks=True)
    client.force_login(world.alice)
    answer = client.post("/launch", {**FORM, "name": "typed"})
    assert answer.status_code == 302
    page = client.get(answer["Location"])
    assert "older than your last log-in" in words(page)
    assert 'value="typed"' in page.content.decode()
    answer = client.post("/w/abc/stop")
    assert answer.status_code == 403
    assert "opened before your last log-in" in words(answer)


def test_where_workspaces_are_not_isolated_home_says_so(world, node):
    node.report(inventory=replace(MACHINE, driver="process", notes=("They are not isolated from this machine.",)))
    page = browser(world.alice).get("/")
    assert "They are not isolated from this machine." in words(page)


def test_simulated_gpus_are_called_simulated_wherever_they_are_named(alice, node):
    workspace = launched(alice)
    node.start_everything()
    for path in ("/", f"/w/{workspace.pk}"):
        page = alice.get(path).content.decode()
        assert page.count("Simulated GPU") == len(re.findall(r'Simulated GPU\s*<span class="tag">simulated', page))


def test_a_launch_without_a_gpu_calls_nothing_simulated(alice, node):
    launched(alice, gpus="0")
    strip = alice.get("/").content.decode().partition("data-readout")[2].partition("</dl>")[0]
    assert "No GPU" in strip
    assert re.search(r'<span class="tag"[^>]* hidden>simulated', strip)


# -- one workspace ----------------------------------------------------------------------------------------------------
def test_its_page_walks_through_the_steps_of_a_start(alice, node):
    path = f"/w/{launched(alice).pk}"
    assert "Waiting in the queue" in words(alice.get(path))
    node.tick()
    assert "Placed on local" in words(alice.get(path))
    node.say(Phase.PULLING, progress=(500_000_000, 2_000_000_000))
    assert "25 % · 500 of 2,000 MB" in words(alice.get(path))
    node.say(Phase.PULLING, progress=(500_000_000, 0))
    assert "%" not in words(alice.get(path))
    node.say(Phase.STARTING, address=("127.0.0.1", 1))
    assert "JupyterLab is starting on local" in words(alice.get(path))
    node.say(Phase.READY, address=("127.0.0.1", 1))
    page = words(alice.get(path))
    assert "JupyterLab is ready" in page
    assert "Open JupyterLab" in page


def test_who_waits_sees_his_place_the_reason_and_from_when_a_place_is_kept(alice, node):
    launched(alice, gpus="2")
    node.start_everything()
    waits = launched(alice, gpus="1", launch_key="k2")
    node.tick()
    shown = words(alice.get(f"/w/{waits.pk}"))
    assert "It needs 1 GPU on one node; the most that is free for it on one is 0." in shown
    assert "A place is kept for it from 23 Nov 21:00 UTC at the latest." in shown


def test_a_failure_names_step_reason_fix_and_log_and_offers_a_retry(alice, node):
    path = f"/w/{launched(alice).pk}"
    node.tick()
    node.say(Phase.STARTING, address=("127.0.0.1", 1))
    node.say(
        Phase.EXITED, exit_code=137, code="oom-killed", message="It ran out of memory.", log_tail="<b>MemoryError</b>"
    )
    node.say(Phase.GONE)
    page = alice.get(path)
    assert "JupyterLab did not start It ran out of memory. What to do: Start it with more memory." in words(page)
    assert "&lt;b&gt;MemoryError" in page.content.decode()
    answer = alice.post(f"{path}/start")
    assert answer["Location"] == f"{path}?open=1"
    assert "Waiting in the queue" in words(alice.get(path))


def test_cancel_stop_start_again_delete(alice, node):
    workspace = launched(alice)
    path = f"/w/{workspace.pk}"
    assert alice.post(f"{path}/stop", {"back": "home"})["Location"] == "/"
    assert "Stopped" in words(alice.get(path))
    alice.post(f"{path}/start")
    node.start_everything()
    assert "running kernels and terminals" in words(alice.get(f"{path}/stop"))
    answer = alice.post(f"{path}/delete")
    assert answer.status_code == 409
    assert "stop it before you delete it" in words(answer)
    assert alice.post(f"{path}/stop")["Location"] == path
    node.say(Phase.GONE)
    assert f"your home folder {workspace.volume.name} with every file" in words(alice.get(f"{path}/delete"))
    answer = alice.post(f"{path}/delete", follow=True)
    assert "is deleted. Your home folder" in words(answer)
    assert alice.get(path).status_code == 404


def test_open_leads_to_the_workspaces_own_origin_by_a_ticket(alice, node):
    path = f"/w/{launched(alice).pk}"
    answer = alice.post(f"{path}/open")
    assert answer.status_code == 409
    assert "not ready to be opened" in words(answer)
    node.start_everything()
    answer = alice.post(f"{path}/open")
    assert answer.status_code == 303
    assert answer["Location"].startswith(f"http://w-{path[3:]}.localhost:8001/")
    assert answer["Referrer-Policy"] == "no-referrer"
    assert alice.get(f"{path}/open").status_code == 405


def test_somebody_elses_workspace_and_none_at_all_are_the_same_404(world, alice, node):
    path = f"/w/{launched(alice).pk}"
    for client in (browser(world.bob), browser(world.charlie), browser(world.dana)):
        for verb, tail in (("get", ""), ("get", "/_status"), ("get", "/stop"), ("get", "/delete"), ("post", "/start"),
                           ("post", "/stop"), ("post", "/delete"), ("post", "/open")):  # fmt: skip
            theirs, nothing = getattr(client, verb)(path + tail), getattr(client, verb)("/w/nothing" + tail)
            assert theirs.status_code == nothing.status_code == 404
            assert words(theirs) == words(nothing)
    assert Workspace.objects.get().deleted_at is None


# -- fragments --------------------------------------------------------------------------------------------------------
def test_a_fragment_answers_304_until_something_changes(alice, node):
    path = f"/w/{launched(alice).pk}"
    for fragment in (f"{path}/_status", "/_workspaces"):
        etag = alice.get(fragment)["ETag"]
        assert alice.get(fragment, headers={"If-None-Match": etag}).status_code == 304
        assert f"data-edition={etag}" in alice.get(fragment).content.decode()
    etag = alice.get(f"{path}/_status")["ETag"]
    node.tick()
    assert alice.get(f"{path}/_status", headers={"If-None-Match": etag}).status_code == 200


def test_a_fragment_after_the_session_ended_leads_the_page_to_the_log_in(world):
    answer = browser().get("/_workspaces", headers={"HX-Request": "true", "HX-Current-URL": "http://localhost:8000/"})
    assert (answer.status_code, answer["HX-Redirect"]) == (204, "/login?next=%2F")


def test_home_and_its_fragment_need_a_fixed_number_of_queries(alice, django_assert_max_num_queries):
    launched(alice, launch_key="a", name="a")
    with django_assert_max_num_queries(30) as few:
        alice.get("/")
    for n in range(5):
        launched(alice, launch_key=f"b{n}", name=f"b{n}")
    with django_assert_max_num_queries(30) as many:
        alice.get("/")
    assert len(few) == len(many)


# -- what every answer carries ----------------------------------------------------------------------------------------
def test_pages_carry_a_strict_policy_and_hold_nothing_inline(alice, node):
    path = f"/w/{launched(alice).pk}"
    node.start_everything()
    for page in ("/", "/login", "/launch", path, f"{path}/stop", "/nothing-here"):
        answer = alice.get(page)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'; connect-src 'self' ws://localhost:8000;" in policy
        assert "form-action 'self' http://*.localhost:8001;" in policy
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert (answer["X-Content-Type-Options"], answer["Cross-Origin-Opener-Policy"]) == ("nosniff", "same-origin")
        html = answer.content.decode()
        assert not re.search(
            r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:|https?://(?!localhost)", html
        )


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "nonsense"])
def test_unsafe_requests_that_another_site_started_are_refused(alice, site):
    answer = alice.post("/launch", FORM, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert "started by another site" in words(answer)
    assert not Workspace.objects.exists()
    assert alice.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_healthz_answers_without_a_log_in(world):
    assert browser().get("/healthz").status_code == 200


def test_an_address_that_is_not_there_says_so(alice):
    answer = alice.get("/nothing-here")
    assert answer.status_code == 404
    assert "nothing at this address" in words(answer)


def test_a_bug_gives_a_page_with_an_id_that_finds_the_log_line(alice, monkeypatch, caplog):
    monkeypatch.setattr("workspaces.selectors.workspaces_of", lambda *a, **k: 1 / 0)
    answer = alice.get("/")
    assert answer.status_code == 500
    error_id = re.search(r"Error id ([0-9a-f]{8})", words(answer))[1]
    assert error_id in caplog.text


def test_a_machine_without_gpus_offers_none(people, node):
    ship_catalogue()
    HandNode(replace(MACHINE, gpus=()))
    page = browser(people.alice).get("/").content.decode()
    assert 'data-label="No GPU" checked' in page
    assert "1 GPU" not in page


def test_what_runs_is_not_asked_whether_to_delete_it(alice):
    page = alice.get(f"/w/{launched(alice).pk}/delete")
    assert page.status_code == 409
    assert "stop it before you delete it" in words(page)
