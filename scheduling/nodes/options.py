"""What `berth-agent` is told: flags, and BERTH_AGENT_* variables for those that a unit file sets."""

import argparse
import difflib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLES = {
    "BERTH_AGENT_STATE": "state",
    "BERTH_AGENT_CA": "ca",
    "BERTH_AGENT_DRIVER": "driver",
    "BERTH_AGENT_DOCKER_HOST": "docker_host",
    "BERTH_AGENT_LAB_PYTHON": "lab_python",
    "BERTH_AGENT_LABELS": "labels",
    "BERTH_AGENT_SIMULATED_GPUS": "simulated_gpus",
    "BERTH_AGENT_OPEN_NETWORKS": "open_networks",
}
DEFAULT_STATE = Path("/var/lib/berth-agent")
DRIVERS = ("docker", "process")
_MOST_SIMULATED = 2000


class BadOption(Exception):
    """The agent cannot be started as it was told to; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """command: "run" or "preflight". join: (address, token). simulated: how many simulated nodes instead of this
    machine, each with `simulated_gpus` GPUs; on a real machine that many stand in where no real GPU
    answers. open_networks: private networks that containers may reach, in CIDR notation."""

    command: str
    state: Path
    join: tuple[str, str] | None
    ca: Path | None
    driver: str
    docker_host: str | None
    lab_python: Path
    labels: Path | None
    simulated: int
    simulated_gpus: int
    open_networks: tuple[str, ...] = ()


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Flags go before variables. Raises BadOption; --help and bad flags end the process as argparse does."""
    told = _parser().parse_args(arguments)
    for name in sorted(environ):
        if name.startswith("BERTH_AGENT_") and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            raise BadOption(f"{name} is not a setting of the agent" + (f"; did you mean {near[0]}?" if near else "."))
    for name, field in VARIABLES.items():
        if getattr(told, field) is None and (value := environ.get(name, "").strip()):
            setattr(told, field, value)
    driver = told.driver or "docker"
    if driver not in DRIVERS:
        raise BadOption(f"The driver is '{driver}'; it may be one of: {', '.join(DRIVERS)}.")
    return Options(
        command=told.command,
        state=Path(told.state or DEFAULT_STATE).expanduser().absolute(),
        join=tuple(told.join) if told.join else None,
        ca=_path(told.ca),
        driver=driver,
        docker_host=told.docker_host or environ.get("DOCKER_HOST") or None,
        lab_python=_path(told.lab_python) or Path(".venv-lab/bin/python").absolute(),
        labels=_path(told.labels),
        simulated=_number(told.simulated, "--simulated", most=_MOST_SIMULATED),
        simulated_gpus=_number(told.simulated_gpus, "--simulated-gpus", most=16),
        open_networks=_networks(told.open_networks),
    )


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser().absolute() if value else None


def _number(value: str | None, name: str, *, most: int) -> int:
    if value is None:
        return 0
    if not re.fullmatch(r"\d{1,9}", value) or int(value) > most:
        raise BadOption(f"{name} is '{value}'; it must be a whole number from 0 to {most}.")
    return int(value)


def _networks(value: str | None) -> tuple[str, ...]:
    listed = [one.strip() for one in (value or "").split(",") if one.strip()]
    for one in listed:
        try:
            ipaddress.IPv4Network(one)
        except ValueError as error:
            raise BadOption(
                f"--open-networks has '{one}', which is no network such as 10.1.2.0/24 ({error})."
            ) from error
    return tuple(listed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="berth-agent", description="Runs what a Berth portal places on this machine. See docs/nodes.md."
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="run",
        choices=["run", "preflight"],
        help="run the agent (default), or say what this machine lacks",
    )
    parser.add_argument(
        "--join",
        nargs=2,
        metavar=("URL", "TOKEN"),
        help="enrol first, with a token of `manage.py node_token`; - reads it from standard input",
    )
    parser.add_argument("--state", metavar="FOLDER", help=f"where the agent keeps its key (default: {DEFAULT_STATE})")
    parser.add_argument("--ca", metavar="FILE", help="certificates that sign the portal's, instead of the system's")
    parser.add_argument("--driver", metavar="NAME", help="docker (default), or process for one trusted person")
    parser.add_argument("--docker-host", metavar="ADDRESS", help="the engine to use, e.g. unix:///run/docker.sock")
    parser.add_argument("--lab-python", metavar="FILE", help="the Python whose JupyterLab the process driver starts")
    parser.add_argument("--labels", metavar="FILE", help="labels in the format of Node Feature Discovery")
    parser.add_argument("--simulated", metavar="N", help="host N simulated nodes instead of this machine")
    parser.add_argument("--simulated-gpus", metavar="N", help="GPUs of each simulated node, or where no card answers")
    parser.add_argument(
        "--open-networks",
        metavar="LIST",
        help="private networks that containers may reach, e.g. 10.1.2.0/24,10.9.0.7/32",
    )
    return parser
