"""Run times for estimates come from the narrowest group of which enough is known."""

from scheduling.core.cluster import Ask, Shape
from scheduling.core.runtimes import ENOUGH, UsedOfLimit


def ask(team=1, user=1, limit_s=1000):
    return Ask(1, team, user, Shape(gpus=1), 0, limit_s)


def test_a_limit_counts_in_full_until_enough_jobs_have_ended():
    used = UsedOfLimit()
    for _ in range(ENOUGH - 1):
        used.ended(ask(), 100)
    assert used.late(ask()) == 1000
    used.ended(ask(), 100)
    assert used.late(ask()) == 100
    assert used.late(ask(limit_s=500)) == 50


def test_the_narrowest_group_counts():
    used = UsedOfLimit()
    for _ in range(ENOUGH):
        used.ended(ask(team=1, user=1), 100)
        used.ended(ask(team=1, user=2), 900)
    assert used.late(ask(team=1, user=1)) == 100
    assert used.late(ask(team=1, user=3)) == 900
    assert used.late(ask(team=7, user=9)) == 900


def test_late_is_what_nine_in_ten_do_not_exceed():
    used = UsedOfLimit()
    for tenth in range(10):
        for _ in range(2):
            used.ended(ask(), 100 if tenth < 9 else 1000)
    assert used.at(ask(), 50) == 100
    assert used.late(ask()) == 1000
