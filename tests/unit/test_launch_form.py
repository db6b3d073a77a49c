"""What is typed into the launch form is kept as typed, and odd numbers become a sentence beside their field."""

from types import SimpleNamespace

import pytest

from workspaces.choices import GpuOption, ImageChoice, LastChoice, LaunchChoices
from workspaces.web.launch_form import NO_NUMBER, Ask, launch_form

CHOICES = LaunchChoices(
    teams=("red",),
    images=(
        ImageChoice("lab", "Lab", "JupyterLab", True, "", True),
        ImageChoice("old", "Old", "", False, "Gone.", False),
    ),
    gpu_options=(
        GpuOption(0, "No GPU", 1, True, ""),
        GpuOption(1, "1 GPU", 0, True, ""),
        GpuOption(2, "2 GPUs", 0, False, "No."),
    ),
    max_cpu_millis=4000,
    max_memory_mib=16 * 1024 - 1,
    last=LastChoice("red", "lab", 1, 1500, 2048),
    driver="docker",
    isolated=True,
    simulated=True,
    notice="",
    notes=(),
)


def test_untouched_it_asks_for_the_last_choice():
    assert launch_form({}, CHOICES).ask == Ask("red", "lab", 1, 1500, 2048, "")


def test_numbers_may_have_a_comma_and_white_space():
    ask = launch_form({"cpus": " 0,5 ", "memory_gib": "1.5", "gpus": " 2 "}, CHOICES).ask
    assert ask is not None
    assert (ask.cpu_millis, ask.memory_mib, ask.gpus) == (500, 1536, 2)


@pytest.mark.parametrize("field", ["gpus", "cpus", "memory_gib"])
@pytest.mark.parametrize("typed", ["", "abc", "-1", "1e999", "nan", "inf", "9" * 5000, "٣", "1.2.3", "0x10", "1\x00"])
def test_what_is_no_number_gets_a_sentence_and_stays_as_typed(field, typed):
    form = launch_form({field: typed}, CHOICES)
    assert form.ask is None
    assert form.errors == {field: NO_NUMBER[field]}
    assert getattr(form, field) == typed[:300]


def test_a_refusal_that_names_no_field_stands_above_the_form():
    form = launch_form({}, CHOICES)
    form.refuse(field="", sentence="Everything is full.")
    assert form.errors == {"general": "Everything is full."}


def test_options_say_what_they_are_and_why_not():
    form = launch_form({"gpus": "1"}, CHOICES)
    assert [(o.label, o.hint, o.enabled, o.chosen) for o in form.gpu_options] == [
        ("No GPU", "", True, False),
        ("1 GPU", "none free now: it would wait", True, True),
        ("2 GPUs", "No.", False, False),
    ]


def test_the_largest_size_shown_is_one_that_can_be_had():
    assert launch_form({}, CHOICES).memory_gib_hint == "0.5 to 15.99"


def test_without_a_team_or_an_image_it_says_why_nothing_can_be_launched():
    nothing = {
        name: getattr(CHOICES, name) for name in ("images", "gpu_options", "last", "max_cpu_millis", "max_memory_mib")
    }
    teamless = launch_form({}, SimpleNamespace(teams=(), **nothing))
    assert not teamless.possible
    assert "no team" in teamless.why_not
    imageless = launch_form({}, SimpleNamespace(teams=("red",), **{**nothing, "images": CHOICES.images[1:]}))
    assert imageless.why_not == "Gone."


def test_the_whole_form_is_a_url():
    assert launch_form({"name": "größe"}, CHOICES).query == (
        "team=red&image=lab&gpus=1&cpus=1.5&memory_gib=2&name=gr%C3%B6%C3%9Fe"
    )
