"""A node elsewhere, moved by hand: its reports go through the portal's real door, with its own key."""

import json
from dataclasses import replace
from typing import Any

from django.test import Client

from portal.kernel import clock
from scheduling import enrolment
from scheduling.nodes.driver import GpuInfo, Inventory, Observation, Phase
from scheduling.nodes.exchange import Desired, Report
from scheduling.nodes.wire import decode, encode


def machine(name: str) -> Inventory:
    cards = tuple(
        GpuInfo(uuid=f"SIM-{name}-{i}", index=i, model="Simulated GPU", memory_mib=81920, simulated=True)
        for i in range(2)
    )
    return Inventory(cpu_millis=4000, memory_mib=16384, gpus=cards, boot_id="b1", driver="docker")


def post(path: str, body: Any, key: str = "") -> tuple[int, Any]:
    """(status, parsed answer)."""
    client = Client(headers={"Authorization": f"Bearer {key}"} if key else {}, raise_request_exception=False)
    answer = client.generic("POST", f"/api/v1/nodes/{path}", json.dumps(body), content_type="application/json")
    return answer.status_code, json.loads(answer.content)


class FarNode:
    """Enrolled, and has told what it is. `report` sends the next one; `tell` answers status and body as they are."""

    def __init__(self, name: str = "n1", *, pool: str = "", agent: str = "first", start: int = 1) -> None:
        token = enrolment.create_join_token(name=name, pool=pool, simulated=0, now=clock.now())
        status, answer = post("join", {"token": token})
        assert status == 200, answer
        (joined,) = answer["nodes"]
        self.name, self.key = joined["node"], joined["key"]
        self.agent, self.start, self.sequence = agent, start, 0
        self.held = Desired(version=0)
        self.report(inventory=machine(name))

    def next(self, *observations: Observation, **more: Any) -> Report:
        self.sequence += 1
        return replace(
            Report(node=self.name, boot_id="b1", observations=observations),
            held_epoch=self.held.epoch,
            held_version=self.held.version,
            agent=self.agent,
            start=self.start,
            sequence=self.sequence,
            **more,
        )

    def tell(self, report: Report) -> tuple[int, Any]:
        return post("exchange", encode(report), self.key)

    def report(self, *observations: Observation, **more: Any) -> Desired:
        status, answer = self.tell(self.next(*observations, **more))
        assert status == 200, answer
        unchanged = answer.pop("unchanged", False)
        desired = decode(Desired, answer)
        self.held = replace(desired, parts=self.held.parts) if unchanged else desired
        return self.held

    def say(self, phase: Phase, **facts: Any) -> Desired:
        """The same of every container that is desired here."""
        return self.report(*[Observation(part.spec.allocation, phase, **facts) for part in self.report().parts])
