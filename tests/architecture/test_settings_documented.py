"""Every setting that the product reads is described, and nothing is described that it does not read."""

import re
from dataclasses import fields
from pathlib import Path

from scheduling.core.policy import Policy

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "settings.md"


def read_by_the_product() -> set[str]:
    text = (ROOT / "portal" / "settings.py").read_text()
    return set(
        re.findall(r'env_(?:str|int|bool|duration|path|secret|urls?|networks|host_name)\(\s*"(BERTH_[A-Z_]+)"', text)
    )


def described() -> set[str]:
    """The first cell of each row of the tables."""
    return set(re.findall(r"^\| `(BERTH_[A-Z_]+)`", DOCUMENT.read_text(), re.MULTILINE))


def test_every_setting_is_described() -> None:
    assert read_by_the_product() - described() == set()


def test_nothing_is_described_that_is_not_read() -> None:
    assert described() - read_by_the_product() == set()


def test_the_readme_mentions_only_settings_that_exist() -> None:
    mentioned = set(re.findall(r"BERTH_[A-Z_]+", (ROOT / "README.md").read_text()))
    assert mentioned - read_by_the_product() == set()


def test_every_knob_of_the_policy_is_described() -> None:
    named = set(re.findall(r"`([a-z_]+)`", DOCUMENT.read_text()))
    assert {knob.name for knob in fields(Policy)} - named == set()
