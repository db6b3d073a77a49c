"""Which reader a trace file needs: by what the caller says, or by its name and first line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scheduling.simulator.traces import berth, openb, philly, slurm, swf
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems
from scheduling.simulator.traces.rows import text_lines


class Format(StrEnum):
    BERTH = "berth"
    SLURM = "slurm"
    SWF = "swf"
    PHILLY = "philly"
    OPENB = "openb"


#: what each format calls the things of a job where it does not use Berth's own names
CALLED: Mapping[Format, Mapping[str, str]] = {
    Format.SLURM: slurm.CALLED,
    Format.SWF: swf.CALLED,
    Format.PHILLY: philly.CALLED,
    Format.OPENB: openb.CALLED,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read. `node_gpus`: GPUs of a node, by which Philly and SWF jobs are split into replicas. `order` and
    `seed`: an openb arrival order and its column."""

    format: Format | None = None
    node_gpus: int = 8
    swf_gpus: bool = False
    order: Path | None = None
    seed: str = ""


def read_trace(path: Path, reading: Reading, problems: Problems) -> Iterator[TraceJob]:
    """The jobs of a trace, in the order of the file. Errors: BadTrace, at the first bad line or never."""
    match reading.format or guess(path):
        case Format.BERTH:
            return berth.read(path, problems)
        case Format.SLURM:
            return slurm.read(path, problems)
        case Format.SWF:
            return swf.read(path, problems, processors_are_gpus=reading.swf_gpus, node_gpus=reading.node_gpus)
        case Format.PHILLY:
            return philly.read(path, problems, node_gpus=reading.node_gpus)
        case Format.OPENB if reading.order is not None:
            return openb.read_in_order(path, reading.order, reading.seed, problems)
        case Format.OPENB:
            return openb.read(path, problems)


def guess(path: Path) -> Format:
    """By name for SWF, by the columns of the header for the others."""
    if path.name.removesuffix(".gz").endswith(".swf"):
        return Format.SWF
    _, header = next(text_lines(path), (0, ""))
    if not header.strip():
        raise BadTrace(str(path), 1, "", "the file is empty, or its first line is")
    columns = {name.strip() for name in header.replace("|", ",").split(",")}
    if {"JobID", "Submit"} & columns:
        return Format.SLURM
    if {"vc", "gpu_num"} & columns:
        return Format.PHILLY
    if {"gpu_milli", "num_gpu"} & columns:
        return Format.OPENB
    if {"submit_s", "duration_s"} & columns:
        return Format.BERTH
    if header.startswith(";") or len(header.split()) == len(swf.FIELDS):
        return Format.SWF
    if "JobID" in header.split():
        raise BadTrace(str(path), 1, "", "this looks like sacct's table for people; let it print --parsable2")
    known = ", ".join(Format)
    raise BadTrace(str(path), 1, "", f"the columns are those of no known format ({known}); say which with --format")
