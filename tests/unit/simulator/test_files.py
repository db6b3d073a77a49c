"""Cluster and policy files: what they say, and that each mistake is refused with the path of its key."""

import pytest

from scheduling.core.policy import SizeRule
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


def test_a_cycle_is_told_by_names(cluster):
    with pytest.raises(BadFile, match="red under blue under red"):
        cluster(NODES, "teams: {red: {parent: blue}, blue: {parent: red}}")


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
