"""The cast of every story: alice owns team red, bob is a member, charlie (team blue) is an outsider, dana an admin."""

from dataclasses import dataclass

from tenants.models import Member, Role, Team, User

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class People:
    alice: User
    bob: User
    charlie: User
    dana: User
    red: Team
    blue: Team


def make_people() -> People:
    """Needs the database."""
    red, blue = Team.objects.create(slug="red", name="Red"), Team.objects.create(slug="blue", name="Blue")
    alice, bob, charlie = (
        User.objects.create_user(username=name, password=PASSWORD) for name in ("alice", "bob", "charlie")
    )
    dana = User.objects.create_superuser(username="dana", password=PASSWORD)
    for team, user, role in (
        (red, alice, Role.OWNER),
        (red, bob, Role.MEMBER),
        (blue, charlie, Role.OWNER),
    ):
        Member.objects.create(team=team, user=user, role=role)
    return People(alice=alice, bob=bob, charlie=charlie, dana=dana, red=red, blue=blue)
