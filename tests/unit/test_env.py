"""Settings are read strictly: a typo stops the start."""

from datetime import timedelta

import pytest

from portal.kernel.env import (
    BadSetting,
    env_bool,
    env_duration,
    env_host_name,
    env_int,
    env_networks,
    env_secret,
    env_str,
    env_url,
    refuse_unknown,
)


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


@pytest.mark.parametrize("value", ["0s", "3651d", "999999999d"])
def test_a_duration_of_nothing_or_of_ages_is_refused_with_the_bounds(value):
    with pytest.raises(BadSetting, match=f"BERTH_X is '{value}'; it must be from 1s to 3650d"):
        env_duration("BERTH_X", timedelta(0), environ={"BERTH_X": value})
    assert env_duration("BERTH_X", timedelta(0), environ={"BERTH_X": "3650d"}) == timedelta(days=3650)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("berth.example", "lacks http or https"),
        ("ftp://berth.example", "lacks http or https"),
        ("http://", "a host"),
        ("http://:8000", "a host"),
        ("http://berth.example:99999", "host or port cannot be read"),
        ("http://berth.example:eighty", "host or port cannot be read"),
        ("http://berth.example:0", "port is none"),
        ("http://[::1:8000", "host or port cannot be read"),
        ("http://berth .example", "white space"),
        ("http://berth.example/portal", "more than a host and a port"),
        ("http://me@berth.example", "more than a host and a port"),
    ],
)
def test_an_address_that_no_browser_could_use_is_refused(value, why):
    with pytest.raises(BadSetting, match=f"BERTH_U is .*{why}.*; it must look like http://host.example"):
        env_url("BERTH_U", "http://localhost", environ={"BERTH_U": value})


@pytest.mark.parametrize("value", ["https://berth.example", "http://localhost:8000", "http://[::1]:8000"])
def test_an_address_loses_only_the_slash_at_its_end(value):
    assert env_url("BERTH_U", "http://x", environ={"BERTH_U": f"{value}/"}) == value


@pytest.mark.parametrize(
    "value", ["http://x.example", "x.example:8001", "10.0.0.1", "a..b", "-a.example", "a b", "*.x"]
)
def test_a_domain_is_a_host_name_and_nothing_else(value):
    with pytest.raises(BadSetting, match="it must be a host name"):
        env_host_name("BERTH_D", "localhost", environ={"BERTH_D": value})
    assert env_host_name("BERTH_D", "localhost", environ={"BERTH_D": "Work.Example.org"}) == "work.example.org"


def networks(value):
    return env_networks("BERTH_OPEN_NETWORKS", environ={"BERTH_OPEN_NETWORKS": value})


def test_networks_are_listed_with_commas_and_none_is_fine():
    assert networks("10.1.2.0/24, 10.9.0.7/32") == ("10.1.2.0/24", "10.9.0.7/32")
    assert networks("") == ()


@pytest.mark.parametrize("value", ["10.1.2.3/24", "mirror.example.org", "10.1.2.0/33", "fd00::/8"])
def test_what_is_no_network_is_refused_and_named(value):
    with pytest.raises(BadSetting, match=f"BERTH_OPEN_NETWORKS has '{value}', which is no network"):
        networks(value)


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


def test_a_secret_file_that_is_missing_a_folder_or_no_text_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file, why in (("missing", "cannot be read"), ("", "cannot be read"), ("binary", "not a text in UTF-8")):
        with pytest.raises(BadSetting, match=f"BERTH_S_FILE points to '.*{why}"):
            env_secret("BERTH_S", environ={"BERTH_S_FILE": str(tmp_path / file)})


def test_an_unknown_name_stops_the_start_and_the_nearest_known_one_is_offered():
    env_int("BERTH_PORT", 8000, low=1, high=65535, environ={})
    with pytest.raises(BadSetting, match=r"BERTH_PROT is not a setting of Berth; did you mean BERTH_PORT\?"):
        refuse_unknown(environ={"BERTH_PROT": "1"})
