"""berth/lab, as `make image` makes it, runs the real JupyterLab as a person without any right."""

import json
import secrets
import urllib.request
from dataclasses import dataclass, replace
from typing import Any

import pytest

from deploy.image import build as building
from tests.docker_engine import DockerNode
from tests.services import wait_for
from workspaces import lab

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Lab:
    node: DockerNode
    token: str

    def ask(self, path: str, *, token: str = "") -> Any:
        """The server's JSON answer; None when it refuses or does not answer."""
        headers = {"Authorization": f"token {token or self.token}"}
        request = urllib.request.Request(f"http://{self.node.address('lab')}:8888{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def inside(self, script: str) -> tuple[int, str]:
        return self.node.inside("lab", script)


@pytest.fixture
def running(docker_node: DockerNode, lab_image: str) -> Lab:
    token = secrets.token_hex(16)
    spec = docker_node.spec("lab", image=lab_image, memory_mib=2048, env=(("BERTH_TOKEN", token),))
    spec = replace(spec, command=tuple(lab.command()), cpu_millis=2000)
    docker_node.driver.launch(spec, progress=lambda done, total: None)
    started = Lab(docker_node, token)
    wait_for(lambda: started.ask("/api/status"), seconds=60, what="JupyterLab")
    return started


def test_jupyterlab_starts_with_its_token_and_the_home_as_its_root(running: Lab):
    assert running.inside("touch $HOME/mine.txt")[0] == 0
    listing = running.ask("/api/contents")
    assert "mine.txt" in [entry["name"] for entry in listing["content"]]
    assert running.ask("/api/contents", token="wrong") is None
    assert list(running.ask("/api/kernelspecs")["kernelspecs"]) == ["python3"]


def test_its_python_is_the_one_with_jupyterlab_and_all_its_bytecode_is_there(running: Lab):
    assert running.inside("command -v python3") == (0, "/opt/lab/bin/python3\n")
    code, output = running.inside(
        "python3 -v -c 'import jupyterlab.labapp, ipykernel.kernelapp' 2>&1 | grep -c 'wrote\\|could not create'"
    )
    assert output == "0\n"
    probe = "import jupyter_server.serverapp as m, os; print(os.path.exists(m.__cached__))"
    assert running.inside(f'python3 -c "{probe}"') == (0, "True\n")


def test_what_a_person_installs_lands_on_the_home_volume(running: Lab):
    code, output = running.inside("python3 -c 'import site; print(site.ENABLE_USER_SITE, site.getusersitepackages())'")
    assert output.startswith("True /home/alice/.local/lib/python3")
    project = running.node.data / "volumes/home-alice/mine"
    project.mkdir()
    (project / "setup.py").write_text("from setuptools import setup\nsetup(name='mine', py_modules=['mine'])\n")
    (project / "mine.py").write_text("answer = 42\n")
    code, output = running.inside(
        "cp -r ~/mine /tmp; cd /tmp/mine; pip install -q --no-index --no-build-isolation . 2>&1"
    )
    assert code == 0, output
    code, output = running.inside("cd /; python3 -c 'import mine; print(mine.answer, mine.__file__)'")
    assert output.startswith("42 /home/alice/.local")


def test_a_second_build_finds_everything_there(
    lab_image: str, docker_node: DockerNode, monkeypatch: pytest.MonkeyPatch
):
    def unexpected(*argv: object, **settings: object) -> None:
        raise AssertionError(f"ran {argv}")

    monkeypatch.setattr(building, "run", unexpected)
    assert building.build(base_url=docker_node.engine.url) == lab_image
