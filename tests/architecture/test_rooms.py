"""The tree is the one that BLUEPRINT and ARCHITECTURE.md describe, and nobody imports past a door."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
ROOMS = {"portal", "tenants", "scheduling", "workspaces"}
FOLDERS = ROOMS | {"deploy", "docs", "static", "templates", "tests", ".ci"}
NOT_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager", "managers"}


def tracked() -> list[Path]:
    """The files of the repository; in an unpacked archive, which has none, those that lie there."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.parts[0] in ROOMS]


def test_import_contracts_hold() -> None:
    done = subprocess.run([BIN / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_folders_are_the_rooms_of_the_blueprint() -> None:
    assert {path.parts[0] for path in tracked() if len(path.parts) > 1} <= FOLDERS


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in sources() if {path.stem, *path.parent.parts} & NOT_NAMES] == []


def test_the_kernel_has_its_five_files_and_no_sixth() -> None:
    kernel = {path.name for path in sources() if path.parts[:2] == ("portal", "kernel")}
    assert kernel == {"__init__.py", "clock.py", "errors.py", "env.py", "locks.py", "publish.py"}


@pytest.mark.parametrize("package", ["portal", "scheduling"])
def test_importing_a_package_starts_nothing(package: str) -> None:
    assert (ROOT / package / "__init__.py").read_text().strip() == ""


def test_a_long_file_says_why_it_is_long() -> None:
    """Over 300 lines wants a reason: a line in the module's docstring that begins with "Long because"."""
    long = [
        f"{path} ({count} lines)"
        for path in sources()
        if "migrations" not in path.parts
        and (count := (ROOT / path).read_text().count("\n")) > 300
        and "Long because" not in (ROOT / path).read_text()[:3000]
    ]
    assert long == []


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        # nodes runs on GPU machines, where there is no Django, no SECRET_KEY and no core
        ("scheduling.nodes", {"scheduling", "scheduling.nodes", "portal", "portal.kernel"}),
        ("scheduling.core", {"scheduling", "scheduling.core"}),
    ],
)
def test_a_package_imports_with_django_uninstalled(package: str, allowed: set[str]) -> None:
    folder = package.replace(".", "/")
    modules = [str(path.with_suffix("")).replace("/", ".") for path in sources() if str(path).startswith(folder + "/")]
    modules = [name.removesuffix(".__init__") for name in modules]
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"django", "rest_framework", "channels", "celery", "tenants", "workspaces"}}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Refuse())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
print(*sorted(n for n in sys.modules if n.split(".")[0] in {ROOMS!r}))
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    strangers = [
        name for name in done.stdout.split() if not any(name == a or name.startswith(f"{package}.") for a in allowed)
    ]
    assert {name for name in strangers if not name.startswith("portal.kernel.")} == set()


def test_the_agent_runs_with_django_uninstalled_and_without_a_secret(tmp_path: Path) -> None:
    from tests.agent_process import AgentProcess

    agent = AgentProcess(state=tmp_path / "state", log=tmp_path / "log")
    code, said = agent.run("preflight", "--driver", "process", "--lab-python", sys.executable)
    assert (code, "The agent can run here." in said) == (0, True), said
    code, said = agent.run()
    assert (code, "belongs to no portal yet" in said, "Traceback" in said) == (1, True, False), said


def test_migrations_are_complete() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=ROOT, env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_lock_files_name_no_host_and_hash_everything() -> None:
    for lock in (ROOT / "deploy").glob("*.lock"):
        text = lock.read_text()
        assert not re.search(r"\w+://|--(index-url|extra-index-url|find-links|trusted-host)", text), lock
        pins = re.findall(r"^[A-Za-z0-9][\w.\[\],-]*==\S+ \\$", text, re.MULTILINE)
        assert pins, lock
        assert len(pins) == len(re.findall(r"\\\n    --hash=sha256:[0-9a-f]{64}(?: \\\n    --hash=\S+)*", text)), lock


def test_development_and_product_are_locked_to_the_same_versions() -> None:
    product, development = (
        dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / "deploy" / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert {name: (version, development.get(name)) for name, version in product.items()} == {
        name: (version, version) for name, version in product.items()
    }


def test_project_metadata_lists_what_requirements_in_lists() -> None:
    import tomllib

    wanted = [
        line.strip()
        for line in (ROOT / "deploy" / "requirements.in").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    assert sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]) == sorted(wanted)
