"""What an agent tells of its cards' health: strangers after a while, nothing gone before its cards are clean."""

import os
import re
from pathlib import Path

import pytest

from scheduling.nodes.engine.names import ALLOCATION
from scheduling.nodes.engine.owners import in_containers, owner_by_cgroup
from scheduling.nodes.health import BASELINE_MIB, Health, Process, Reading, Severity, finding_of_xid, findings_of
from scheduling.nodes.health_watch import PATIENCE_S, HealthWatch
from scheduling.nodes.xids import XIDS

OURS, THEIRS = Process(10, 500, "train", "7"), Process(11, 500, "python3", "")
UNKNOWN = Process(12, 500)


def told(watch, reading, at, holders=()):
    (health,) = watch.judge((reading,), {"GPU-1": frozenset(holders)}, at=at)
    return health


def test_a_process_of_whoever_holds_the_card_is_no_stranger():
    watch = HealthWatch()
    for at in (0, 60):
        assert told(watch, Reading("GPU-1", processes=(OURS,)), at, {"7"}) == Health("GPU-1")


def test_a_stranger_is_told_after_a_while_and_until_it_has_gone():
    watch = HealthWatch()
    dirty = Reading("GPU-1", processes=(OURS, THEIRS))
    assert told(watch, dirty, 0, {"7"}).strangers == ()
    assert told(watch, dirty, PATIENCE_S, {"7"}).strangers == (THEIRS,)
    assert told(watch, Reading("GPU-1"), PATIENCE_S + 1, {"7"}).strangers == ()
    assert told(watch, dirty, PATIENCE_S + 2, {"7"}).strangers == ()


def test_where_the_machines_processes_are_out_of_sight_nobody_beside_our_work_is_called_a_stranger():
    watch = HealthWatch()
    for at in (0, 60):
        assert told(watch, Reading("GPU-1", processes=(UNKNOWN,)), at, {"7"}).strangers == ()


def test_on_a_free_card_every_process_is_a_stranger():
    watch = HealthWatch()
    for at in (0, PATIENCE_S):
        health = told(watch, Reading("GPU-1", processes=(UNKNOWN,)), at)
    assert health.strangers == (UNKNOWN,)


def test_memory_counts_as_left_behind_only_above_the_baseline_on_a_free_card_without_processes():
    watch = HealthWatch()
    for at in (0, 60):
        assert told(watch, Reading("GPU-1", memory_used_mib=BASELINE_MIB), at).leaked_mib == 0
        assert told(watch, Reading("GPU-1", memory_used_mib=9000), at, {"7"}).leaked_mib == 0
    for at in (100, 100 + PATIENCE_S):
        health = told(watch, Reading("GPU-1", memory_used_mib=9000), at)
    assert health.leaked_mib == 9000


def test_what_had_a_card_is_not_gone_while_that_is_dirty_and_nobody_knows_yet():
    watch = HealthWatch()
    dirty = Reading("GPU-1", processes=(THEIRS,))
    told(watch, dirty, 0)
    assert watch.unclean(["GPU-1"])
    assert not watch.unclean(["GPU-2"])
    told(watch, dirty, PATIENCE_S)
    assert not watch.unclean(["GPU-1"])  # told: the portal knows, and hands it to nobody


def test_a_card_that_stops_answering_is_missed():
    watch = HealthWatch()
    watch.know(["GPU-1", "GPU-2"])
    assert [h.answers for h in watch.judge((Reading("GPU-2"),), {}, at=0)] == [False, True]


def test_a_driver_that_is_started_again_is_no_news_and_one_that_stays_away_is():
    watch = HealthWatch()
    watch.know(["GPU-1"])
    assert watch.judge(None, {}, at=0) == ()
    assert watch.unclean(["GPU-1"])
    assert not watch.unclean([])
    assert watch.judge(None, {}, at=PATIENCE_S) == (Health("GPU-1", seen=False),)
    assert not watch.unclean(["GPU-1"])
    assert watch.judge((Reading("GPU-1"),), {}, at=PATIENCE_S + 1) == (Health("GPU-1"),)


@pytest.mark.parametrize("number", [*XIDS, 12345])
def test_every_error_has_a_sentence_with_a_remedy_and_only_a_programs_own_passes_by_itself(number):
    finding = finding_of_xid(number)
    assert f"Xid {number}, " in finding.sentence
    assert finding.lasting == (finding.severity is not Severity.NOTE)


def test_the_documentation_lists_every_error_beside_what_becomes_of_the_work_there():
    text = (Path(__file__).parents[2] / "docs" / "nodes.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|") and "Xid" in line]
    told = {int(number): row[2] for row in rows for number in re.findall(r"\b\d+\b", row[1])}
    assert told.keys() == XIDS.keys()
    for number, kept in told.items():
        assert ("is stopped" in kept) == (finding_of_xid(number).severity is Severity.SICK), number


def test_a_card_that_says_nothing_about_itself_has_nothing_wrong():
    assert list(findings_of(Health("GPU-1"))) == []


CONTAINER = "ab12" * 16


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        (f"0::/system.slice/docker-{CONTAINER}.scope", "7"),
        (f"0::/docker/{CONTAINER}", "7"),
        (f"0::/docker/{'f' * 64}", ""),
        ("0::/user.slice/user-1000.slice/session-2.scope", ""),
    ],
)
def test_a_process_belongs_to_the_container_of_its_control_group(tmp_path, line, owner):
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cgroup").write_text(line + "\n")
    assert owner_by_cgroup(42, {CONTAINER: "7"}, proc=tmp_path) == owner
    assert owner_by_cgroup(43, {CONTAINER: "7"}, proc=tmp_path) is None


def test_the_engine_is_asked_only_where_there_is_a_process():
    def ask():
        raise AssertionError("nobody had to ask")

    assert in_containers(None, ask) is None
    assert in_containers((Reading("GPU-1"),), ask) == (Reading("GPU-1"),)
    (reading,) = in_containers(
        (Reading("GPU-1", processes=(Process(os.getpid()), Process(2**30))),),
        lambda: [{"Id": CONTAINER, "Labels": {ALLOCATION: "7"}}],
    )
    assert [process.allocation for process in reading.processes] == ["", None]
