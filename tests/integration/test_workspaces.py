"""What a person can do with workspaces, and what he is told when he cannot."""

import threading
from datetime import timedelta

import pytest
from django.db import connections

from portal.kernel import clock
from portal.kernel.errors import BerthError, Missing
from scheduling import wiring
from scheduling.models import Job
from scheduling.nodes.driver import Phase
from tenants.models import Member
from tests.hand_node import HandNode, node
from tests.people import make_people
from workspaces import choices, selectors, services
from workspaces.images import ship_catalogue
from workspaces.models import Volume, Workspace

__all__ = ["node"]


@pytest.fixture
def world(people, node):
    ship_catalogue()
    return people


def launch(by, **changes):
    form = {"team": "red", "image": "berth-lab", "gpus": 1, "cpu_millis": 1000, "memory_mib": 1024}
    return services.launch_workspace(by=by, now=clock.now(), **{**form, **changes})


def view(by, workspace):
    return selectors.workspace_view(by, workspace.pk, now=clock.now())


def refusal(by, **changes):
    with pytest.raises(BerthError) as caught:
        launch(by, **changes)
    assert not Workspace.objects.exists()
    assert not Job.objects.exists()
    return caught.value


def test_a_launch_walks_through_its_steps(world, node, manual_clock):
    workspace = launch(world.alice)
    assert view(world.alice, workspace).status == "queued"
    manual_clock.advance(timedelta(seconds=2))
    node.tick()
    assert view(world.alice, workspace).status == "placed"
    node.say(Phase.PULLING, progress=(5, 20))
    seen = view(world.alice, workspace)
    assert (seen.status, seen.progress, seen.node) == ("pulling", (5, 20), "local")
    manual_clock.advance(timedelta(seconds=3))
    node.say(Phase.STARTING, address=("10.0.0.2", 8888))
    assert view(world.alice, workspace).status == "starting"
    node.say(Phase.READY, address=("10.0.0.2", 8888))
    seen = view(world.alice, workspace)
    assert seen.status == "ready"
    assert seen.gpu_models == (("Simulated GPU", True, "SIM-0"),)
    assert [(s.name, s.state, s.seconds) for s in seen.steps] == [
        ("queued", "done", 2.0),
        ("placed", "done", None),
        ("pulling", "done", 3.0),
        ("starting", "done", 0.0),
        ("ready", "done", None),
    ]


def test_a_failure_names_the_step_the_reason_and_the_remedy(world, node):
    workspace = launch(world.alice)
    node.tick()
    node.say(Phase.STARTING, address=("10.0.0.2", 8888))
    node.say(Phase.EXITED, exit_code=137, code="oom-killed", message="It ran out of memory.", log_tail="MemoryError")
    node.say(Phase.GONE)
    seen = view(world.alice, workspace)
    assert (seen.status, seen.reason, seen.log_tail) == ("failed", "It ran out of memory.", "MemoryError")
    assert seen.remedy == "Start it with more memory."
    assert [s.name for s in seen.steps if s.state == "failed"] == ["starting"]


def test_the_home_volume_survives_stop_start_and_delete(world, node):
    workspace = launch(world.alice)
    node.start_everything()
    home = node.desired()[0].spec.mounts
    services.stop_workspace(by=world.alice, workspace=workspace, now=clock.now())
    node.say(Phase.GONE)
    services.start_workspace(by=world.alice, workspace=workspace, now=clock.now())
    node.start_everything()
    assert node.desired()[0].spec.mounts == home
    workspace.refresh_from_db()
    services.stop_workspace(by=world.alice, workspace=workspace, now=clock.now())
    node.say(Phase.GONE)
    services.delete_workspace(by=world.alice, workspace=workspace, now=clock.now())
    assert selectors.workspaces_of(world.alice, now=clock.now()) == []
    launch(world.alice)
    assert Volume.objects.count() == 1


def test_people_of_a_team_have_homes_and_accounts_of_their_own(world, node):
    launch(world.alice), launch(world.bob)
    node.tick()
    alice, bob = (part.spec for part in node.desired())
    assert alice.uid != bob.uid
    assert alice.gid == bob.gid
    assert alice.mounts != bob.mounts
    assert dict(alice.env)["BERTH_TOKEN"] != dict(bob.env)["BERTH_TOKEN"]


def test_the_same_click_twice_is_one_workspace(world, node):
    assert launch(world.alice, launch_key="k1").pk == launch(world.alice, launch_key="k1").pk
    assert Job.objects.count() == 1
    assert launch(world.alice, launch_key="k2").name == "lab-2"


def test_a_key_of_somebody_else_finds_nothing_of_his(world, node):
    assert launch(world.alice, launch_key="k").pk != launch(world.bob, launch_key="k").pk


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"gpus": 3}, "gpus", "You asked for 3 GPUs on one machine; the largest has 2. Ask for 2 or fewer."),
        ({"gpus": -1}, "gpus", "0 or more"),
        ({"cpu_millis": 64_000}, "cpus", "64 CPU cores; the largest machine with the GPUs you want has 4"),
        ({"memory_mib": 10**6}, "memory_gib", "the largest machine with the GPUs you want has 16 GiB"),
        ({"memory_mib": 1}, "memory_gib", "0.5 GiB or more"),
        ({"image": "no-such"}, "image", "There is no image 'no-such' in the catalogue; choose one of: berth-lab"),
        ({"image": "local-lab"}, "image", "it needs the process driver"),
        ({"team": "blue"}, "team", "There is no team 'blue' that you may run work in"),
        ({"team": "nowhere"}, "team", "There is no team 'nowhere'"),
        ({"name": "a\x00b"}, "name", "control characters"),
        ({"name": "x" * 61}, "name", "at most 60 visible characters"),
        ({"name": "abc\u202egpj.exe"}, "name", "control characters"),
    ],
)
def test_what_cannot_be_is_refused_with_one_sentence_beside_its_field(world, node, changes, field, words):
    error = refusal(world.alice, **changes)
    assert error.field == field
    assert words in error.sentence


@pytest.mark.parametrize("name", ["日本語の実験", "Größe & <b>", "نموذج", "🚀 run", "O'Neil; DROP TABLE"])
def test_names_in_any_script_are_kept_as_they_are(world, node, name):
    assert launch(world.alice, name=name).name == name


def test_a_name_is_used_once_at_a_time(world, node):
    launch(world.alice, name="exp")
    with pytest.raises(services.NameTaken, match="You already have a workspace called 'exp'"):
        launch(world.alice, name="exp")
    assert launch(world.bob, name="exp").name == "exp"


def test_nothing_is_launched_before_a_machine_has_reported(people):
    ship_catalogue()
    assert "No machine has reported" in refusal(people.alice).sentence


def test_others_neither_see_nor_touch_a_workspace(world, node):
    workspace = launch(world.alice)
    for other in (world.bob, world.charlie, world.dana):
        with pytest.raises(Missing):
            view(other, workspace)
        for act in (services.start_workspace, services.stop_workspace, services.delete_workspace):
            with pytest.raises(Missing):
                act(by=other, workspace=workspace, now=clock.now())


def test_where_nothing_isolates_only_the_first_person_may_launch(world, node):
    from dataclasses import replace

    from workspaces import wiring as workspaces_wiring

    before = workspaces_wiring.wired()
    workspaces_wiring.use(replace(before, only_person=lambda: "alice"))
    try:
        assert refusal(world.bob).sentence.startswith("Only 'alice' may launch workspaces here: they run as plain")
        launch(world.alice)
    finally:
        workspaces_wiring.use(before)


def test_a_running_workspace_cannot_be_deleted(world, node):
    workspace = launch(world.alice)
    with pytest.raises(services.StillRunning):
        services.delete_workspace(by=world.alice, workspace=workspace, now=clock.now())


def test_starting_what_runs_changes_nothing_and_what_still_stops_has_to_wait(world, node):
    workspace = launch(world.alice)
    node.start_everything()
    assert services.start_workspace(by=world.alice, workspace=workspace, now=clock.now()).job == workspace.job
    services.stop_workspace(by=world.alice, workspace=workspace, now=clock.now())
    with pytest.raises(services.StillStopping):
        services.start_workspace(by=world.alice, workspace=workspace, now=clock.now())


def test_only_a_running_workspace_has_a_ticket(world, node):
    workspace = launch(world.alice)
    with pytest.raises(services.NotReady):
        services.ticket_url(by=world.alice, workspace=workspace, session_key="s", now=clock.now())
    node.start_everything()
    workspace.refresh_from_db()
    url = services.ticket_url(by=world.alice, workspace=workspace, session_key="s", now=clock.now())
    assert url.startswith(f"http://w-{workspace.pk}.localhost:")


def test_who_leaves_the_team_can_stop_his_workspace_but_not_go_in(world, node):
    workspace = launch(world.alice)
    node.start_everything()
    workspace.refresh_from_db()
    assert [route.workspace_id for route in selectors.open_routes()] == [workspace.pk]
    Member.objects.filter(user=world.alice).delete()
    assert selectors.open_routes() == []
    with pytest.raises(services.NotInTeam, match="not a member of the team 'red' any more"):
        services.ticket_url(by=world.alice, workspace=workspace, session_key="s", now=clock.now())
    services.stop_workspace(by=world.alice, workspace=workspace, now=clock.now())
    assert view(world.alice, workspace).status == "stopping"


def test_the_form_remembers_the_last_choice_and_drops_what_is_not_on_offer(world, node):
    first = choices.launch_choices(world.alice, now=clock.now())
    assert (first.last.image, first.last.gpus, first.last.team) == ("berth-lab", 1, "red")
    launch(world.alice, gpus=2, cpu_millis=500, memory_mib=2048)
    assert choices.launch_choices(world.alice, now=clock.now()).last == choices.LastChoice(
        "red", "berth-lab", 2, 500, 2048
    )


def test_a_list_of_workspaces_takes_a_fixed_number_of_queries(world, node, django_assert_max_num_queries):
    for _ in range(8):
        launch(world.alice, gpus=0, cpu_millis=100, memory_mib=512)
    node.tick()
    with django_assert_max_num_queries(6):
        assert len(selectors.workspaces_of(world.alice, now=clock.now())) == 8


def test_a_key_is_free_again_once_its_workspace_is_deleted(world, node):
    workspace = launch(world.alice, launch_key="k")
    services.stop_workspace(by=world.alice, workspace=workspace, now=clock.now())
    services.delete_workspace(by=world.alice, workspace=workspace, now=clock.now())
    assert launch(world.alice, launch_key="k").pk != workspace.pk


def test_long_keys_that_begin_alike_are_different(world, node):
    assert launch(world.alice, launch_key="x" * 64 + "a").pk != launch(world.alice, launch_key="x" * 64 + "b").pk


def test_a_name_that_nobody_can_see_is_refused(world, node):
    assert "visible" in refusal(world.alice, name="\u200b\u200b").sentence


@pytest.mark.django_db(transaction=True)
def test_launches_at_the_same_moment_get_names_of_their_own(transactional_db):
    before = wiring.wired()
    people = make_people()
    HandNode()
    ship_catalogue()
    errors = []

    def click():
        try:
            launch(people.alice, gpus=0, cpu_millis=100, memory_mib=512)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wiring.use(before)
    assert errors == []
    names = set(Workspace.objects.values_list("name", flat=True))
    assert names == {"lab", *(f"lab-{number}" for number in range(2, 9))}


@pytest.mark.django_db(transaction=True)
def test_twenty_clicks_at_the_same_moment_are_one_workspace(transactional_db):
    before = wiring.wired()
    people = make_people()
    HandNode()
    ship_catalogue()
    made, errors = [], []

    def click():
        try:
            made.append(launch(people.alice, launch_key="same").pk)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wiring.use(before)
    assert errors == []
    assert len(set(made)) == 1
    assert Job.objects.count() == 1
