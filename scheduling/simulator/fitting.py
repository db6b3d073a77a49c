"""A trace meets a cluster: teams are made known, and jobs that could never run there are refused or left out."""

from collections.abc import Iterator

from scheduling.core.places.filters import ISLAND, NODE
from scheduling.simulator.site import NoSuchTeam, Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems

NO_CUT = "no card of the cluster can be cut so, or not so many"
TOO_LARGE = "larger than the cluster, or than its team's part of it"


def fitting_jobs(
    jobs: Iterator[TraceJob], site: Site, problems: Problems, file: str, levels: tuple[str, ...] | None = None
) -> list[TraceJob]:
    """The jobs that the empty cluster could hold. One that waits for ever would look like a very long wait. `levels`:
    those of the topology that jobs may name."""
    read = list(jobs)
    site.meet({job.team for job in read})
    fit = []
    for job in read:
        try:
            if levels is not None:
                _check_levels(job, (*levels, NODE, ISLAND), file)
            if not site.could_ever_hold(job):
                raise BadTrace(
                    file,
                    job.line,
                    "gpus" if job.gpus else "cpu",
                    f"job {job.id} needs {_size(job)}: {NO_CUT if job.mig else TOO_LARGE}",
                )
        except NoSuchTeam as missing:
            problems.bad(BadTrace(file, job.line, "team", f"job {job.id}: {missing}"))
        except BadTrace as problem:
            problems.bad(problem)
        else:
            fit.append(job)
    return fit


def _check_levels(job: TraceJob, levels: tuple[str, ...], file: str) -> None:
    for column, level in (
        ("topology_required", job.topology_required),
        ("topology_preferred", job.topology_preferred),
    ):
        if level and level not in levels:
            raise BadTrace(file, job.line, column, f"the policy has no level {level!r}, only {', '.join(levels)}")


def _size(job: TraceJob) -> str:
    each = f"{job.mig or f'{job.gpus} GPUs'}, {job.cpu_millis / 1000:g} cores, {job.memory_mib / 1024:g} GiB"
    return f"{job.replicas} x ({each})" if job.replicas > 1 else each
