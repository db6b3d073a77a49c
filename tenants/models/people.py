"""Who there is: people, the tree of teams, and who belongs where."""

from datetime import timedelta

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F, Q

#: containers run as this plus the person's or team's own number, far above the accounts of any distribution
FIRST_UID = 20_000


class User(AbstractUser):
    """A person, or later a service account. Sign-in data only; what they may do hangs on Member."""

    @property
    def uid(self) -> int:
        """The numeric user that the person's containers run as."""
        return FIRST_UID + int(self.pk)


class Team(models.Model):
    """A node of the team tree: a department, a team or a project (a leaf)."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    #: its work is left alone for so long after each start, unless a job says more
    min_runtime = models.DurationField(default=timedelta())

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(condition=~Q(parent=F("id")), name="team_is_not_its_own_parent"),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def gid(self) -> int:
        return FIRST_UID + int(self.pk)


class Role(models.TextChoices):
    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


class Member(models.Model):
    """A person in a team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_team"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="member_role_is_known"),
        ]
