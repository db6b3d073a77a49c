"""Settings are read strictly: a typo stops the start."""

from datetime import timedelta

import pytest

from portal.kernel.env import BadSetting, env_bool, env_duration, env_int, env_secret, env_str, refuse_unknown


def test_a_number_outside_its_range_is_refused_with_the_range():
    with pytest.raises(BadSetting, match="BERTH_PORT is '99999'; it must be a whole number from 1 to 65535"):
        env_int("BERTH_PORT", 8000, low=1, high=65535, environ={"BERTH_PORT": "99999"})


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_value_means_the_default(value):
    assert env_int("BERTH_PORT", 8000, low=1, high=65535, environ={"BERTH_PORT": value}) == 8000


def test_durations_have_units():
    assert env_duration("BERTH_X", timedelta(0), environ={"BERTH_X": "12h"}) == timedelta(hours=12)
    with pytest.raises(BadSetting, match="unit"):
        env_duration("BERTH_X", timedelta(0), environ={"BERTH_X": "12"})


@pytest.mark.parametrize(("value", "read"), [("yes", True), ("0", False), ("On", True)])
def test_yes_and_no_have_several_spellings(value, read):
    assert env_bool("BERTH_X", not read, environ={"BERTH_X": value}) is read


def test_a_choice_outside_the_list_is_refused_with_the_list():
    with pytest.raises(BadSetting, match="auto, docker"):
        env_str("BERTH_DRIVER", "auto", choices=("auto", "docker"), environ={"BERTH_DRIVER": "dokcer"})


def test_a_secret_may_come_from_a_file_but_not_from_both(tmp_path):
    (tmp_path / "s").write_text("swordfish\n")
    environ = {"BERTH_S_FILE": str(tmp_path / "s")}
    assert env_secret("BERTH_S", environ=environ) == "swordfish"
    with pytest.raises(BadSetting, match="Both"):
        env_secret("BERTH_S", environ={**environ, "BERTH_S": "x"})


def test_an_unknown_name_stops_the_start_and_the_nearest_known_one_is_offered():
    env_int("BERTH_PORT", 8000, low=1, high=65535, environ={})
    with pytest.raises(BadSetting, match=r"BERTH_PROT is not a setting of Berth; did you mean BERTH_PORT\?"):
        refuse_unknown(environ={"BERTH_PROT": "1"})
