"""Which Docker Engine `make image` talks to, found out by naming ones that are not there."""

from pathlib import Path

import pytest

from deploy.image.build import CannotBuild, build


def test_the_image_goes_to_the_engine_that_the_portal_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = {name: f"unix://{tmp_path}/{name}.sock" for name in ("given", "ours", "docker")}
    monkeypatch.setenv("DOCKER_HOST", names["docker"])
    assert asked() == names["docker"]
    monkeypatch.setenv("BERTH_DOCKER_HOST", names["ours"])
    assert asked() == names["ours"]
    assert asked(base_url=names["given"]) == names["given"]


def asked(*, base_url: str | None = None) -> str:
    """The address in the one sentence that is said where no engine answers."""
    with pytest.raises(CannotBuild, match=r"^No Docker Engine answers at \S+; start it, or .*\.$") as problem:
        build(base_url=base_url)
    return str(problem.value).split(";")[0].rpartition(" ")[2]
