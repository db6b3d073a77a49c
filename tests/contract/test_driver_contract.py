"""What every driver promises (scheduling/nodes/driver.py), at the awkward moments too."""

import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from scheduling.nodes.driver import LaunchRefused, Phase
from tests.contract.kit import Kit, Program, eventually, log_of, look_at, no_progress


def test_the_inventory_says_what_the_machine_has(kit: Kit) -> None:
    inventory = kit.driver().inventory()
    assert inventory.cpu_millis >= 1000
    assert inventory.memory_mib > 256
    assert inventory.boot_id
    assert inventory.driver == kit.driver().name
    assert kit.device.uuid in [gpu.uuid for gpu in inventory.gpus]


def test_every_gpu_of_the_inventory_has_one_sample_and_idle_simulated_ones_show_zero(kit: Kit) -> None:
    driver = kit.driver()
    samples = driver.sample()
    assert [sample.gpu_uuid for sample in samples] == [gpu.uuid for gpu in driver.inventory().gpus]
    for gpu, sample in zip(driver.inventory().gpus, samples, strict=True):
        if gpu.simulated:
            assert (sample.utilization_pct, sample.memory_used_mib) == (0, 0)


def test_a_place_where_nothing_was_launched_shows_nothing(kit: Kit) -> None:
    assert list(kit.driver().observe()) == []


def test_what_was_launched_is_starting_and_never_ready(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    seen = eventually(lambda: (o := look_at(driver, "a1")) and o.address and o, what="an address")
    assert seen.phase is Phase.STARTING
    assert seen.exit_code is None


def test_its_server_answers_at_the_observed_address(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.SERVE), progress=no_progress)

    def answers() -> bool:
        seen = look_at(driver, "a1")
        assert seen
        assert seen.phase is Phase.STARTING
        assert seen.address
        try:
            with urllib.request.urlopen(f"http://{seen.address[0]}:{seen.address[1]}/", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    eventually(answers, what="an answer over HTTP")


def test_a_second_launch_of_what_runs_does_nothing(kit: Kit) -> None:
    driver = kit.driver()
    spec = kit.spec("a1", Program.SLEEP)
    driver.launch(spec, progress=no_progress)
    before = eventually(lambda: (o := look_at(driver, "a1")) and o.address and o, what="an address")
    driver.launch(spec, progress=no_progress)
    assert list(driver.observe()) == [before]


def test_two_launches_at_once_make_one(kit: Kit) -> None:
    driver = kit.driver()
    spec = kit.spec("a1", Program.CHATTY)
    launches = [threading.Thread(target=driver.launch, args=(spec,), kwargs={"progress": no_progress}) for _ in "ab"]
    for launch in launches:
        launch.start()
    for launch in launches:
        launch.join()
    lines = eventually(lambda: "line 50" in (log := log_of(driver, "a1")) and log, what="its last line")
    assert lines.count("line 50") == 1
    assert len(driver.observe()) == 1


def test_a_launch_by_a_restarted_driver_finds_what_already_runs(kit: Kit) -> None:
    spec = kit.spec("a1", Program.CHATTY)
    first = kit.driver()
    first.launch(spec, progress=no_progress)
    first.close()
    driver = kit.driver()
    driver.launch(spec, progress=no_progress)
    lines = eventually(lambda: "line 50" in (log := log_of(driver, "a1")) and log, what="its last line")
    assert lines.count("line 1") == 1


def test_what_cannot_be_started_is_refused_and_leaves_nothing(kit: Kit) -> None:
    driver = kit.driver()
    with pytest.raises(LaunchRefused) as refusal:
        driver.launch(kit.spec("a1", Program.MISSING), progress=no_progress)
    assert refusal.value.code
    assert refusal.value.message.endswith(".")
    assert look_at(driver, "a1") is None
    assert kit.leftovers("a1") == []


def test_a_refused_allocation_can_be_launched_again(kit: Kit) -> None:
    driver = kit.driver()
    with pytest.raises(LaunchRefused):
        driver.launch(kit.spec("a1", Program.MISSING), progress=no_progress)
    driver.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    assert look_at(driver, "a1")


def test_a_stop_of_what_was_never_launched_does_nothing(kit: Kit) -> None:
    kit.driver().stop("a1", grace_s=5)
    kit.driver().stop("../a1", grace_s=0)
    assert kit.leftovers("a1") == []


def test_after_a_stop_nothing_is_left(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    driver.stop("a1", grace_s=5)
    assert list(driver.observe()) == []
    assert kit.leftovers("a1") == []
    driver.stop("a1", grace_s=5)


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.STUBBORN), progress=no_progress)
    eventually(lambda: "ready" in log_of(driver, "a1"), what="its trap being set")
    driver.stop("a1", grace_s=1)
    assert list(driver.observe()) == []
    assert kit.leftovers("a1") == []


def test_a_process_that_left_its_session_and_cleared_its_environment_does_not_survive_a_stop(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.DAEMON), progress=no_progress)
    eventually(lambda: "ready" in log_of(driver, "a1"), what="its daemon being started")
    driver.stop("a1", grace_s=1)
    assert kit.leftovers("a1") == []


def test_a_stop_while_it_is_being_launched_abandons_the_launch(kit: Kit) -> None:
    driver = kit.driver()
    spec = kit.spec("a1", Program.SLEEP)
    with ThreadPoolExecutor(max_workers=1) as pool:
        launch = pool.submit(driver.launch, spec, progress=no_progress)
        driver.stop("a1", grace_s=1)
        refusal = launch.exception()
    assert refusal is None or (isinstance(refusal, LaunchRefused) and refusal.code == "abandoned")
    driver.stop("a1", grace_s=1)  # the first may have come before the launch had begun
    assert list(driver.observe()) == []
    assert kit.leftovers("a1") == []


def test_a_stop_ends_its_own_allocation_only(kit: Kit) -> None:
    driver = kit.driver()
    for allocation in ("a1", "a2"):
        driver.launch(kit.spec(allocation, Program.SLEEP), progress=no_progress)
    driver.stop("a1", grace_s=5)
    assert [seen.allocation for seen in driver.observe()] == ["a2"]


def test_an_exit_is_observed_with_its_code_its_words_and_the_end_of_its_log(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.EXIT), progress=no_progress)
    seen = eventually(lambda: (o := look_at(driver, "a1")) and o.phase is Phase.EXITED and o, what="its exit")
    assert seen.exit_code == 3
    assert seen.code
    assert seen.message.endswith(".")
    assert "goodbye" in seen.log_tail


def test_an_exit_stays_to_be_seen_until_it_is_stopped_and_survives_a_restart_of_the_driver(kit: Kit) -> None:
    kit.driver().launch(kit.spec("a1", Program.EXIT), progress=no_progress)
    driver = kit.driver()
    seen = eventually(lambda: (o := look_at(driver, "a1")) and o.phase is Phase.EXITED and o, what="its exit")
    assert look_at(kit.driver(), "a1") == seen
    driver.stop("a1", grace_s=5)
    assert look_at(driver, "a1") is None
    assert kit.leftovers("a1") == []


def test_a_restarted_driver_finds_and_stops_what_the_first_one_started(kit: Kit) -> None:
    first = kit.driver()
    first.launch(kit.spec("a1", Program.SLEEP), progress=no_progress)
    before = eventually(lambda: (o := look_at(first, "a1")) and o.address and o, what="an address")
    first.close()
    second = kit.driver()
    assert look_at(second, "a1") == before
    second.stop("a1", grace_s=5)
    assert list(second.observe()) == []
    assert kit.leftovers("a1") == []


def test_logs_are_the_last_lines_oldest_first(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.CHATTY), progress=no_progress)
    eventually(lambda: "line 50" in log_of(driver, "a1"), what="its last line")
    assert log_of(driver, "a1", tail=3) == ["line 48", "line 49", "line 50"]


def test_an_unknown_allocation_has_no_logs(kit: Kit) -> None:
    assert log_of(kit.driver(), "never") == []
    assert log_of(kit.driver(), "../never") == []


def test_its_environment_says_who_and_what_it_is(kit: Kit) -> None:
    driver = kit.driver()
    spec = kit.spec("a1", Program.SHOW_ENV, env=(("BERTH_TOKEN", "t0ken"), ("GREETING", "a = b")))
    driver.launch(spec, progress=no_progress)
    lines = eventually(lambda: "ready" in (log := log_of(driver, "a1")) and log, what="its environment")
    given = dict(line.split("=", 1) for line in lines if "=" in line)
    assert given["BERTH_ALLOCATION"] == "a1"
    assert given["BERTH_JOB"] == spec.job
    assert given["BERTH_TOKEN"] == "t0ken"
    assert given["GREETING"] == "a = b"
    assert given["HOME"]


def test_its_devices_reach_it_by_uuid(kit: Kit) -> None:
    driver = kit.driver()
    driver.launch(kit.spec("a1", Program.SHOW_ENV, devices=(kit.device,)), progress=no_progress)
    lines = eventually(lambda: "ready" in (log := log_of(driver, "a1")) and log, what="its environment")
    assert kit.device.uuid in "\n".join(lines)


def test_a_home_volume_belongs_to_its_user_and_survives_the_stop(kit: Kit) -> None:
    driver = kit.driver()
    spec = kit.spec("a1", Program.WRITE_HOME, uid=20007, gid=20003)
    driver.launch(spec, progress=no_progress)
    eventually(lambda: "ready" in log_of(driver, "a1"), what="its note being written")
    driver.stop("a1", grace_s=5)
    home = kit.home("home-a1")
    if home is None:  # a driver without files keeps none
        return
    assert (home / "note").read_text() == "kept\n"
    if not getattr(kit, "ordinary", False):  # an ordinary user cannot give folders away
        assert (home.stat().st_uid, home.stat().st_gid) == (20007, 20003)
    assert home.stat().st_mode & 0o077 == 0
    again = replace(spec, allocation="a2")
    driver.launch(again, progress=no_progress)
    assert (home / "note").exists()
