"""A story: machines, teams, jobs and what must come of them. Told once, replayed wherever `plan` decides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from scheduling.core.policy import Policy
from scheduling.simulator.files.cluster_file import read_cluster
from scheduling.simulator.files.policy_file import read_policy
from scheduling.simulator.options import Options
from scheduling.simulator.site import Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.world import World

HERE = Path(__file__).parent

#: job -> (first start, end, evictions); seconds from the beginning of the story, None: it has not come to that
Fates = dict[str, tuple[int | None, int | None, int]]
#: (team, person, pool) -> decayed mean
Past = dict[tuple[str, str, str], int]


@dataclass(frozen=True)
class Story:
    site: Site
    policy: Policy
    jobs: tuple[TraceJob, ...]
    expected: Mapping[str, tuple[int | None, int | None, int]]
    step_s: int


def read_story(name: str, folder: Path) -> Story:
    """`folder`: where the parts that are files of their own elsewhere may be written."""
    told = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    files = {}
    for part in ("cluster", "policy"):
        files[part] = folder / f"{part}.yaml"
        files[part].write_text(yaml.safe_dump(told[part], sort_keys=False))
    jobs = [
        TraceJob(
            id=f"{job['name']}-{number}", submit_s=job["at"], duration_s=job["lasts"], limit_s=job["limit"],
            gpus=job["gpus"], team=job["team"], user=job["team"], replicas=job.get("replicas", 1),
            tier=job.get("tier", ""), priority=job.get("priority", 0), preemptible=job.get("preemptible", True),
            deadline_s=job.get("deadline"), not_before_s=job.get("not_before"),
        )
        for job in told["jobs"] for number in range(job.get("count", 1))
    ]  # fmt: skip
    return Story(
        site=read_cluster(files["cluster"]),
        policy=replace(read_policy(files["policy"]), suspend=False, recut=False),
        jobs=tuple(sorted(jobs, key=lambda job: job.submit_s)),
        step_s=told["step"],
        expected={f"{name}-{i}": tuple(fate) for name, fates in told["expect"].items() for i, fate in enumerate(fates)},
    )


def simulated(story: Story) -> tuple[Fates, Past]:
    """What the simulator makes of it."""
    world = World(story.site, story.policy, story.jobs, Options(look_s=story.step_s))
    history = world.run()
    teams = {team.id: team.name for team in story.site.teams}
    fates = {record.job.id: (record.first_start, record.end, record.requeues) for record in history.records}
    past = {
        (teams[row.team], teams[row.team] if row.user else "", row.pool): row.mean
        for row in world.planner.snapshot().past
    }
    return fates, past
