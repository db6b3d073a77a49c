"""Cluster and policy files: what they say, and that each mistake is refused with the path of its key."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from scheduling.core.cluster import Booking, Window
from scheduling.core.machines import Instance, Node, Pool
from scheduling.core.policy import Policy, SizeRule
from scheduling.core.units import GPU_UNITS
from scheduling.simulator.files.cluster_file import read_cluster
from scheduling.simulator.files.policy_file import read_policy
from scheduling.simulator.files.reading import BadFile

NODES = "nodes: [{name: a, count: 2, pool: h100, gpus: 8, model: H100, gpu_memory_gib: 80, cpus: 96, memory_gib: 1024}]"


def teams(*drawn: str) -> list[str]:
    """`red: 5 GPUs, parent: lab` as lines of a cluster file."""
    lines = ["teams:"]
    for drawing in drawn:
        name, _, rest = drawing.partition(": ")
        amount, unit, *parent = rest.replace(", parent:", "").split()
        key = "guaranteed_gpus" if unit.startswith("GPU") else "guaranteed_percent"
        under = f"parent: {parent[0]}, " if parent else ""
        lines.append(f"  {name}: {{{under}quota: {{h100: {{{key}: {amount}}}}}}}")
    return lines


@pytest.fixture
def cluster(tmp_path):
    def build(*lines):
        path = tmp_path / "c.yaml"
        path.write_text("\n".join(lines))
        return read_cluster(path)

    return build


@pytest.fixture
def policy(tmp_path):
    def build(*lines):
        path = tmp_path / "p.yaml"
        path.write_text("\n".join(lines))
        return read_policy(path)

    return build


def test_machines_have_names_cards_and_room(cluster):
    site = cluster(NODES)
    assert [node.name for node in site.nodes] == ["a-1", "a-2"]
    assert [gpu.id for node in site.nodes for gpu in node.gpus] == list(range(1, 17))
    assert (site.nodes[0].cpu_millis, site.nodes[0].gpus[0].memory_mib) == (96_000, 80 * 1024)
    assert site.open_to_all


def test_teams_have_parents_and_quotas(cluster):
    site = cluster(
        NODES,
        "teams:",
        "  lab: {quota: {h100: {guaranteed_percent: 50}}}",
        "  red: {parent: lab, weight: 3, pools: [h100],",
        "        quota: {h100: {guaranteed_gpus: 4, borrow_gpus: 2, lend_gpus: 0}}}",
    )
    lab, red = site.teams
    assert (red.parent, site.pools_of) == (lab.id, {red.id: ("h100",)})
    assert lab.quotas[0].percent_milli == 50_000
    quota = red.quotas[0]
    assert (quota.guaranteed, quota.borrow_limit, quota.lend_limit, quota.weight) == (
        4 * GPU_UNITS,
        2 * GPU_UNITS,
        0,
        3,
    )


def test_a_parent_that_states_nothing_has_what_its_children_have_together(cluster):
    site = cluster(NODES, "teams:", "  lab: {}", "  red: {parent: lab, quota: {h100: {guaranteed_gpus: 4}}}")
    assert [team.quotas[0].guaranteed for team in site.teams] == [0, 4 * GPU_UNITS]


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (("nodes: []",), "nodes"),
        (("nodes: [{count: 1}]",), "nodes[0].name"),
        (("nodes: [{name: a, gpus: -1}]",), "nodes[0].gpus"),
        (("nodes: [{name: a, gpus: two}]",), "nodes[0].gpus"),
        (("nodes: [{name: a, colour: red}]",), "nodes[0].colour"),
        (("nodes: [{name: a}, {name: a}]",), "nodes"),
        (("nodes: 5",), "nodes"),
        ((NODES, "tems: {}"), "tems"),
        ((NODES, "teams: [red]"), "teams"),
        ((NODES, "teams: {red: {parent: blue}}"), "teams.red.parent"),
        ((NODES, "teams: {red: {parent: blue}, blue: {parent: red}}"), "teams.red.parent"),
        ((NODES, "teams: {red: {parent: red}}"), "teams.red.parent"),
        ((NODES, "teams: {red: {quota: {a100: {}}}}"), "teams.red.quota.a100"),
        ((NODES, "teams: {red: {pools: [a100]}}"), "teams.red.pools"),
        ((NODES, "teams: {red: {quota: {h100: {guaranteed_gpus: .nan}}}}"), "teams.red.quota.h100.guaranteed_gpus"),
        (("nodes: [{name: a, gpus: 8, mig: true, model: unheard of}]",), "nodes[0].model"),
        ((NODES, "teams: {red: {quota: {h100: {guarantee: 5}}}}"), "teams.red.quota.h100.guarantee"),
        ((NODES, "teams: {red: {quota: {h100: {guaranteed_gpus: 17}}}}"), "teams.red.quota.h100"),
        ((NODES, *teams("red: 9 GPUs", "blue: 50 percent")), "teams.red.quota.h100"),
        ((NODES, *teams("lab: 4 GPUs", "red: 5 GPUs, parent: lab")), "teams.red.quota.h100"),
        (
            (NODES, "teams: {red: {quota: {h100: {guaranteed_gpus: 1, guaranteed_percent: 5}}}}"),
            "teams.red.quota.h100.guaranteed_percent",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_the_path_of_its_key(cluster, lines, path):
    with pytest.raises(BadFile) as caught:
        cluster(*lines)
    assert caught.value.path == path
    assert "c.yaml" in str(caught.value)


H100 = "NVIDIA H100 80GB HBM3"
EVERYTHING = f"""
nodes:
  - {{name: a, count: 2, pool: gpu, cpus: 8.5, memory_gib: 64, reserved_cpus: 0.5, reserved_memory_gib: 4, path: [b1, r1],
     labels: {{zone: a, 010: x}}, cards: [{{count: 2, model: {H100}, memory_gib: 80, nvlink_island: 1, mig: true,
     layout: [3g.40gb@4, 4g.40gb@0]}}, {{model: T4}}]}}
  - {{name: idle, pool: gpu, gpus: 1, accepts: false, out_of_order: 1}}
  - {{name: leaving, pool: gpu, gpus: 1, draining: true}}
  - {{name: c, pool: cpu, cpus: 32}}
pools:
  gpu: {{reference_gpus: 8, reference_cpus: 96, reference_memory_gib: 1024}}
  cpu: {{reference_cpus: 64, reference_memory_gib: 256}}
teams:
  lab: {{windows: ["mon-fri 20:00-06:00", 12:00-13:30], min_runtime_s: 600, quota: {{cpu: {{guaranteed_cores: 1.5}}}}}}
bookings:
  - {{team: lab, nodes: [a-1, c], from: 0, to: 3600}}
  - {{team: lab, nodes: [a-1], from: 2026-12-04T08:00, to: 2026-12-04 18:00}}
"""


def test_a_cluster_file_says_all_that_the_core_can(cluster):
    """Every field of Node, Gpu, Pool, Team and Booking has a key here; a new one needs one too, and fails below."""
    site = cluster(EVERYTHING)
    a, _, idle, leaving, _ = site.nodes
    cut = (Instance("4g.40gb", 0), Instance("3g.40gb", 4))
    assert [(gpu.model, gpu.memory_mib, gpu.island, gpu.mig, gpu.layout) for gpu in a.gpus] == [
        (H100, 81_920, 1, True, cut), (H100, 81_920, 1, True, cut), ("T4", 0, 0, False, ())]  # fmt: skip
    assert (a.cpu_millis, a.reserved_cpu_millis, a.reserved_memory_mib) == (8500, 500, 4096)
    assert (a.path, a.labels, a.accepts) == (("b1", "r1"), (("010", "x"), ("zone", "a")), True)
    assert (a.out_of_order, idle.out_of_order) == (0, 1)
    assert [(node.accepts, node.draining) for node in (idle, leaving)] == [(False, False), (False, True)]
    assert site.pools == (Pool("gpu", 8, 96_000, 1 << 20), Pool("cpu", 0, 64_000, 256 * 1024))
    (lab,) = site.teams
    assert lab.windows == (Window((0, 1, 2, 3, 4), 72_000, 21_600), Window(tuple(range(7)), 43_200, 48_600))
    assert (lab.min_runtime_s, lab.quotas[0].guaranteed) == (600, 1500)
    friday = 1_796_371_200  # 2026-12-04 08:00 UTC
    assert site.bookings == (Booking(1, 1, (1, 5), 0, 3600), Booking(2, 1, (1,), friday, friday + 36_000))
    assert {field.name for field in fields(Node)} == {
        "id", "name", "pool", "cpu_millis", "memory_mib", "gpus", "accepts", "labels", "path", "reserved_cpu_millis",
        "reserved_memory_mib", "draining", "out_of_order"}  # fmt: skip


def test_the_cluster_file_of_the_documentation_is_one(cluster):
    text = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text().split("```yaml\n")[1].split("```")[0]
    site = cluster(text)
    assert [team.name for team in site.teams] == ["lab", "vision", "walled", "night"]
    assert len(site.bookings) == 2


def test_a_policy_file_says_all_that_the_core_can(policy):
    """Each knob but the tiers can be given as its default is written."""
    for knob in fields(Policy):
        if knob.name != "tiers" and knob.default is not MISSING:
            value = knob.default
            written = str(list(value)) if isinstance(value, tuple) else str(value).lower()
            assert policy(f"{knob.name}: {written}") == Policy(), knob.name


@pytest.mark.parametrize(
    ("find", "put", "path"),
    [
        ("path: [b1, r1]", "path: [b1, r1, x]", "nodes[0].path"),
        ("reserved_cpus: 0.5", "reserved_cpus: 9", "nodes[0].reserved_cpus"),
        ("reserved_memory_gib: 4", "reserved_memory_gib: 65", "nodes[0].reserved_memory_gib"),
        ("4g.40gb@0", "4g.40gb@4", "nodes[0].cards[0].layout[1]"),
        ("4g.40gb@0", "4g.40gb", "nodes[0].cards[0].layout[1]"),
        ("{model: T4}", "{model: T4, layout: [1g.10gb@0]}", "nodes[0].cards[1].layout[0]"),
        ("{model: T4}", "{model: T4, colour: red}", "nodes[0].cards[1].colour"),
        ("zone: a", f"zone: {'a' * 300}", "nodes[0].labels.zone"),
        ("cards: [", "gpus: 4, cards: [", "nodes[0].gpus"),
        ("accepts: false", "accepts: perhaps", "nodes[1].accepts"),
        ("gpus: 1, draining", "gpus: 1000, draining", "nodes[2].gpus"),
        ("cpu: {reference_cpus: 64, ", "tpu: {reference_cpus: 64, ", "pools.tpu"),
        ("cpu: {reference_cpus: 64, ", "cpu: {reference_gpus: 1, ", "pools.cpu.reference_gpus"),
        ("cpu: {reference_cpus: 64, ", "cpu: {", "pools.cpu.reference_cpus"),
        ("gpu: {reference_gpus: 8, ", "gpu: {", "pools.gpu.reference_gpus"),
        ("gpu: {reference_gpus: 8, ", "gpu: {reference_nodes: 8, ", "pools.gpu.reference_nodes"),
        ("12:00-13:30", "12:00-25:30", "teams.lab.windows[1]"),
        ("12:00-13:30", "lunch", "teams.lab.windows[1]"),
        ("guaranteed_cores: 1.5", "guaranteed_gpus: 1.5", "teams.lab.quota.cpu.guaranteed_gpus"),
        ("guaranteed_cores: 1.5", "guaranteed_cores: 33", "teams.lab.quota.cpu"),
        ("min_runtime_s: 600", "min_runtime: 600", "teams.lab.min_runtime"),
        ("{team: lab, nodes: [a-1, c]", "{team: blue, nodes: [a-1, c]", "bookings[0].team"),
        ("nodes: [a-1, c]", "nodes: [a]", "bookings[0].nodes"),
        ("nodes: [a-1, c]", "nodes: []", "bookings[0].nodes"),
        ("from: 0, to: 3600", "from: 3600, to: 3600", "bookings[0].to"),
        ("from: 0, to: 3600", "from: soon, to: 3600", "bookings[0].from"),
        ("from: 0, to: 3600", "from: 0, to: 3600, who: me", "bookings[0].who"),
        ("from: 0, to: 3600", "from: 2026-12-04T09:00, to: 2026-12-04T10:00", "bookings[1].nodes"),
    ],
)  # fmt: skip
def test_a_mistake_in_any_of_it_is_refused_with_the_path_of_its_key(tmp_path, find, put, path):
    assert EVERYTHING.count(find) == 1
    file = tmp_path / "c.yaml"
    file.write_text(EVERYTHING.replace(find, put))
    with pytest.raises(BadFile) as caught:
        read_cluster(file, levels=("block", "rack"))
    assert caught.value.path == path, caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodes: " + "[" * 1100, "nested too deeply"),
        ("nodes: [{name: a\0}]", "not allowed"),
        ("nodes: [{name: a}]\nteams: {no: {}}", "'no' cannot be a key; write it in quotation marks"),
        ("nodes: [{name: a, count: 1000000000}]", "more than 100,000"),
        ("nodes: [{name: a, gpus: " + "9" * 5000 + "}]", "nodes.0..gpus"),
        ('nodes: [{name: "a\\x1b[31m"}]', "control character"),
        ("#" * 16_000_001, "larger than"),
        ("nodes: [{name: a, gpus: !!int red}]", "not what its tag says"),
        ("nodes: [{name: a, mig: !!bool red}]", "not what its tag says"),
        ("nodes: [{name: a, pool: !!timestamp red}]", "not what its tag says"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(cluster, text, words):
    with pytest.raises(BadFile, match=words) as caught:
        cluster(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_cycle_is_told_by_names(cluster):
    with pytest.raises(BadFile, match="red under blue under red"):
        cluster(NODES, "teams: {red: {parent: blue}, blue: {parent: red}}")


def test_hours_that_never_meet_those_of_a_team_above_are_refused(cluster):
    with pytest.raises(BadFile, match=r"teams\.red\.windows: .*never meet those of the teams above"):
        cluster(NODES, "teams: {lab: {windows: [mon]}, dept: {parent: lab}, red: {parent: dept, windows: [tue, wed]}}")
    assert cluster(NODES, "teams: {lab: {windows: [mon]}, red: {parent: lab, windows: ['mon 8:00-9:00', tue]}}").teams


def test_a_policy_file_sets_the_knobs_by_name(policy):
    read = policy(
        "grace_s: 5", "reclaim: false", "levels: [rack]", "tiers: [{name: batch, rotate: true, size_rule: attained}]"
    )
    assert (read.grace_s, read.reclaim, read.levels) == (5, False, ("rack",))
    assert (read.tiers[0].rotate, read.tiers[0].size_rule) == (True, SizeRule.ATTAINED)
    assert policy("").tiers[0].name == "production"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("graze_s: 5", "graze_s"),
        ("grace_s: soon", "grace_s"),
        ("grace_s: -1", "grace_s"),
        ("reclaim: 1", "reclaim"),
        ("tiers: []", "tiers"),
        ("tiers: [{name: a, speed: 1}]", "tiers[0].speed"),
        ("tiers: [{name: a}, {name: a}]", "tiers[1].name"),
        ("tiers: [{name: a, size_rule: biggest}]", "tiers[0].size_rule"),
        ("levels: rack", "levels"),
        ("levels: [rack, rack]", "levels"),
        ("levels: [rack, node]", "levels"),
        ("cpu_kept_percent: 101", "cpu_kept_percent"),
        ("suspend_mib_per_s: 0", "suspend_mib_per_s"),
        ("attained_base: 0", "attained_base"),
        ("- a list", ""),
        ("grace_s: 1\ngrace_s: 2", ""),
        ("{", ""),
        ("!!python/object/apply:os.getcwd []", ""),
    ],
)
def test_a_policy_with_a_mistake_is_refused(policy, text, path):
    with pytest.raises(BadFile) as caught:
        policy(text)
    assert caught.value.path == path
