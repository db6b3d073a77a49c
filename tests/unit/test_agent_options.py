"""What the agent is told, and what it finds out about its machine."""

from pathlib import Path

import pytest

from scheduling.nodes.driver import GpuInfo, InfinibandPort, Inventory
from scheduling.nodes.machine import BadLabels, Machine, disk_mib, infiniband_ports, read_labels
from scheduling.nodes.options import BadOption, read_options

NFD = "feature.node.kubernetes.io/"


def test_flags_go_before_variables():
    environ = {"BERTH_AGENT_STATE": "/var/a", "BERTH_AGENT_DRIVER": "process", "BERTH_AGENT_CA": "/ca.pem"}
    options = read_options(["--state", "/srv/b", "--simulated", "3"], environ)
    assert (options.state, options.driver, options.ca) == (Path("/srv/b"), "process", Path("/ca.pem"))
    assert (options.command, options.simulated, options.join) == ("run", 3, None)


def test_a_misspelt_variable_stops_the_start():
    with pytest.raises(BadOption, match="did you mean BERTH_AGENT_STATE"):
        read_options([], {"BERTH_AGENT_STAT": "x"})


@pytest.mark.parametrize(
    "arguments", [["--driver", "podman"], ["--simulated", "-1"], ["--simulated", "3000"], ["--simulated-gpus", "x"]]
)
def test_a_value_that_cannot_be_is_refused(arguments: list[str]):
    with pytest.raises(BadOption):
        read_options([f"{arguments[0]}={arguments[1]}"], {})


def test_networks_that_containers_may_reach_come_from_flag_or_variable_and_are_checked():
    assert read_options([], {}).open_networks == ()
    environ = {"BERTH_AGENT_OPEN_NETWORKS": "10.1.2.0/24,10.9.0.7/32"}
    assert read_options([], environ).open_networks == ("10.1.2.0/24", "10.9.0.7/32")
    with pytest.raises(BadOption, match="no network such as"):
        read_options(["--open-networks", "10.1.2.3/24"], {})


# -- labels -----------------------------------------------------------------------------------------------------------
def labels(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "labels"
    path.write_text(text)
    return dict(read_labels(path))


def test_labels_are_read_from_lines_as_node_feature_discovery_has_them(tmp_path: Path):
    text = "# a comment\nrack=r7\n\nvendor.io/fast\nnet-roce=\n"
    assert labels(tmp_path, text) == {f"{NFD}rack": "r7", "vendor.io/fast": "true", f"{NFD}net-roce": ""}


def test_labels_are_read_from_its_objects(tmp_path: Path):
    feature = "apiVersion: nfd.k8s-sigs.io/v1alpha1\nkind: NodeFeature\nspec:\n  labels:\n    vendor.io/rack: r7\n"
    assert labels(tmp_path, feature) == {"vendor.io/rack": "r7"}
    node = '{"kind": "Node", "metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}'
    assert labels(tmp_path, node) == {"topology.kubernetes.io/zone": "a"}


@pytest.mark.parametrize(
    "text", ["=x", "na me=x", "name=two words", "kind: Pod\n", "kind: Node\n", "{kind: [", "a=" + "x" * 64]
)
def test_what_cannot_be_a_label_is_named(tmp_path: Path, text: str):
    with pytest.raises(BadLabels, match="labels"):
        labels(tmp_path, text)


# -- the machine ------------------------------------------------------------------------------------------------------
def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_infiniband_ports_are_read_as_the_kernel_lists_them(tmp_path: Path):
    device = "sys/class/infiniband/mlx5_0"
    lay(
        tmp_path,
        {
            f"{device}/ports/1/state": "4: ACTIVE",
            f"{device}/ports/1/rate": "400 Gb/sec (4X NDR)",
            f"{device}/ports/1/link_layer": "InfiniBand",
            f"{device}/device/numa_node": "1",
            "sys/class/infiniband/mlx5_1/ports/1/state": "1: DOWN",
            "sys/class/infiniband/mlx5_1/device/numa_node": "-1",
        },
    )
    assert infiniband_ports(tmp_path) == (
        InfinibandPort("mlx5_0", 1, "ACTIVE", "InfiniBand", "400 Gb/sec (4X NDR)", 1),
        InfinibandPort("mlx5_1", 1, "DOWN", "unknown", "", None),
    )
    assert infiniband_ports(tmp_path / "nothing") == ()


def test_a_card_gets_the_numa_node_of_its_place_on_the_bus(tmp_path: Path):
    lay(tmp_path, {"sys/bus/pci/devices/0000:3b:00.0/numa_node": "1"})
    cards = tuple(
        GpuInfo(f"GPU-{i}", i, "H100", None, pci_bus_id=place)
        for i, place in enumerate(["00000000:3B:00.0", "00000000:5E:00.0", None])
    )
    machine = Machine(volumes=tmp_path, root=tmp_path)
    described = machine.describe(Inventory(cpu_millis=1, memory_mib=1, gpus=cards))
    assert [gpu.numa_node for gpu in described.gpus] == [1, None, None]
    assert described.disk_mib is not None
    assert described.infiniband == ()


def test_labels_that_cannot_be_read_become_a_note(tmp_path: Path):
    machine = Machine(volumes=tmp_path, labels=tmp_path / "absent", root=tmp_path)
    assert "absent" in machine.describe(Inventory(cpu_millis=1, memory_mib=1)).notes[0]


def test_the_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(tmp_path: Path):
    size, free = disk_mib(tmp_path / "a" / "b")
    assert size is not None
    assert free is not None
    assert 0 <= free <= size
