"""Teams and people from the command line, until the pages for them exist."""

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from tenants.models import Member, Role, Team, User
from tests.people import People


@pytest.fixture
def departments(db: None) -> Team:
    call_command("create_team", "research", title="Research & Development")
    call_command("create_team", "vision", parent="research")
    return Team.objects.get(slug="vision")


def test_teams_form_a_tree(departments: Team) -> None:
    assert departments.parent is not None
    assert (departments.parent.slug, departments.parent.name) == ("research", "Research & Development")


def test_an_account_signs_in_with_the_password_that_was_printed(departments: Team, capsys) -> None:
    call_command("create_user", "erin", team="vision")
    password = capsys.readouterr().out.split()[-1]
    user = authenticate(username="erin", password=password)
    assert user is not None
    assert not user.is_staff
    assert Member.objects.get(user=user).team == departments


def test_an_account_that_is_there_joins_one_more_team_and_keeps_its_password(people: People, departments: Team) -> None:
    before = people.alice.password
    call_command("create_user", "alice", team="vision", role="admin")
    call_command("create_user", "alice", team="vision", role="viewer")
    people.alice.refresh_from_db()
    assert people.alice.password == before
    assert Member.objects.get(user=people.alice, team=departments).role == Role.VIEWER


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["create_team", "Vision"], "small letters"),
        (["create_team", "x-"], "small letters"),
        (["create_team", "a" * 41], "1 to 40"),
        (["create_team", "vision"], "already"),
        (["create_team", "x", "--parent", "nobody"], "no team 'nobody'. Teams: blue, red, research"),
        (["create_user", "a b", "--team", "vision"], "letters, digits"),
        (["create_user", "../etc", "--team", "vision"], "letters, digits"),
        (["create_user", "ALICE", "--team", "vision"], "already"),
        (["create_user", "erin", "--team", "nobody"], "no team 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    people: People, departments: Team, command: list[str], words: str
) -> None:
    before = (User.objects.count(), Team.objects.count(), Member.objects.count())
    with pytest.raises(CommandError, match=words.replace(".", r"\.")):
        call_command(*command)
    assert (User.objects.count(), Team.objects.count(), Member.objects.count()) == before
