"""Programs that submit, each a process with one kept connection."""

import http.client
import json
import multiprocessing
from typing import Any

JOB = {"team": "bench", "image": "x", "command": ["true"], "gpus": 1, "time_limit": "1h"}


class Client:
    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def lists(self) -> bool:
        try:
            return bool(self._call("GET", "jobs?limit=1"))
        except OSError:
            return False

    def single(self) -> None:
        self._call("POST", "jobs", JOB)

    def batch(self, count: int) -> None:
        answer = self._call("POST", "jobs:batch", [{**JOB, "args": [str(number)]} for number in range(count)])
        assert len(answer["ids"]) == count

    def array(self, tasks: int) -> None:
        self._call("POST", "jobs", {**JOB, "array": f"0-{tasks - 1}"})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        text = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api/v1/{path}", body=text, headers=self._headers)
        answer = self._connection.getresponse()
        data = json.loads(answer.read())
        assert answer.status in (200, 201), data
        return data


def clients_at_once(port: int, token: str, *, clients: int, submits: int) -> None:
    """Each of so many clients submits so many jobs, one after the other."""
    if clients == 1:
        _submit(port, token, submits)
        return
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=_submit, args=(port, token, submits)) for _ in range(clients)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def _submit(port: int, token: str, submits: int) -> None:
    client = Client(port, token)
    for _ in range(submits):
        client.single()
