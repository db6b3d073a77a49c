"""People and work of a cluster: two teams that know nothing of each other, and jobs through the submission service."""

import json
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from tests.cluster.cluster import Cluster
from tests.docker_engine import TINY
from tests.portal_api import PortalApi
from tests.services import wait_for

PEOPLE = """
import json
from portal.kernel import clock
from tenants.models import Team, User
from tenants.services import create_person, create_team
from tenants.tokens import create_token
now, made = clock.now(), {}
for name, team in (("alice", "red"), ("charlie", "blue")):
    create_person(name=name, team=create_team(name=team), now=now)
    made[name] = create_token(user=User.objects.get(username=name), name="tests", now=now)[1]
print(json.dumps(made))
"""
SUBMIT = """
import asyncio
import json
import threading
from datetime import timedelta
from portal.kernel import clock, publish
from scheduling.services import JobSpec, submit_job
from tenants.models import Team, User
# As in a web process: one connection to Redis tells all news, not one each.
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
publish.use_loop(loop)
done = []
for ask in json.load(open({asked!r})):
    spec = JobSpec(name=ask["name"], image={image!r}, command=("sh", "-c", ask["script"]), volume=ask["volume"],
                   port=ask["port"], limit=timedelta(seconds=ask["limit_s"]), gpus=ask["gpus"],
                   replicas=ask["replicas"], cpu_millis=100, memory_mib=64)
    team, owner = Team.objects.get(slug=ask["team"]), User.objects.get(username=ask["owner"])
    done.append(submit_job(by=owner, team=team, spec=spec, now=clock.now()).pk)
print(json.dumps(done))
"""
CANCEL = """
from portal.kernel import clock
from scheduling.models import Job
from scheduling.services import cancel_job
for job in Job.objects.filter(pk__in={jobs}):
    cancel_job(job=job, now=clock.now())
"""
OWNERS = {"red": "alice", "blue": "charlie", "default": "admin"}
SERVE = "mkdir -p /tmp/www; echo reached > /tmp/www/index.html; exec httpd -f -p 8888 -h /tmp/www"


@dataclass(frozen=True)
class Ask:
    """A job on the tiny image. script: for its shell. port: where it serves, 0 for nowhere."""

    name: str
    team: str = "default"
    script: str = "exec sleep 1000"
    gpus: int = 1
    replicas: int = 1
    port: int = 0
    volume: str = ""
    limit_s: int = 3600


@dataclass(frozen=True)
class Running:
    """One container of a job as the database has it."""

    job: int
    node: str
    allocation: int


def make_people(cluster: Cluster) -> dict[str, str]:
    """alice of team red and charlie of team blue; their API tokens by name."""
    tokens: dict[str, str] = json.loads(cluster.shell(PEOPLE))
    return tokens


def api_of(cluster: Cluster, token: str, *, url: str = "") -> PortalApi:
    """Through the proxy, or at the web process that listens at `url`."""
    door = SimpleNamespace(url=url or cluster.url, gateway_url=cluster.gateway_url, environment=cluster.environment)
    return PortalApi(door, token=token, tls=cluster.trust if not url else None)


def submit(cluster: Cluster, *asks: Ask) -> list[int]:
    """The jobs' ids, in order."""
    asked = cluster.folder / "asked.json"
    asked.write_text(json.dumps([{**asdict(ask), "owner": OWNERS[ask.team]} for ask in asks]))
    ids: list[int] = json.loads(cluster.shell(SUBMIT.format(asked=str(asked), image=TINY)))
    return ids


def cancel(cluster: Cluster, *jobs: int) -> None:
    """And wait until nothing of them is left."""
    cluster.shell(CANCEL.format(jobs=list(jobs)))
    left = (
        "SELECT count(*) FROM scheduling_job WHERE id = ANY(%s) AND state NOT IN ('cancelled', 'succeeded', 'failed')"
    )
    wait_for(lambda: cluster.query(left, list(jobs)) == [(0,)], seconds=90, what="the jobs to end")


def state(cluster: Cluster, job: int) -> str:
    ((found,),) = cluster.query("SELECT state FROM scheduling_job WHERE id = %s", job)
    return str(found)


def until(cluster: Cluster, jobs: list[int], *states: str, seconds: float = 90) -> None:
    """Wait until each of them is in one of the states."""

    def there() -> bool:
        found = dict(cluster.query("SELECT id, state FROM scheduling_job WHERE id = ANY(%s)", jobs))
        return all(found[job] in states for job in jobs)

    try:
        wait_for(there, seconds=seconds, what=f"jobs {jobs} to be {' or '.join(states)}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{story(cluster, jobs)}") from None


def containers(cluster: Cluster, jobs: list[int]) -> list[Running]:
    """Where the jobs' containers are now, oldest first."""
    found = cluster.query(
        "SELECT a.job_id, n.name, a.id FROM scheduling_allocation a JOIN scheduling_node n ON n.id = a.node_id "
        "WHERE a.lead AND a.released_at IS NULL AND a.job_id = ANY(%s) ORDER BY a.id",
        jobs,
    )
    return [Running(*row) for row in found]


def story(cluster: Cluster, jobs: list[int]) -> str:
    """Every step of the jobs, for a failure's message."""
    rows: list[tuple[Any, ...]] = cluster.query(
        "SELECT job_id, at, event, to_state, reason FROM scheduling_jobtransition WHERE job_id = ANY(%s) ORDER BY id",
        jobs,
    )
    return "\n".join(f"job {job}: {at:%H:%M:%S.%f} {event} -> {to} {reason}" for job, at, event, to, reason in rows)
