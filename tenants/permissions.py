"""One question per function, asked by web, API, gateway and sockets alike. Deny by default."""

from tenants.models import Member, Role, Team, User

#: roles that may run work in the team's name
WORKERS = (Role.MEMBER, Role.ADMIN, Role.OWNER)


def teams_to_work_in(user: User) -> list[Team]:
    """The teams in whose name `user` may run work, by name."""
    if not user.is_active:
        return []
    memberships = Member.objects.filter(user=user, role__in=WORKERS).select_related("team")
    return sorted((m.team for m in memberships), key=lambda team: team.slug)


def may_submit(user: User, team: Team) -> bool:
    return user.is_active and Member.objects.filter(user=user, team=team, role__in=WORKERS).exists()


def may_submit_critical(user: User, team: Team) -> bool:
    """Work that may take what others are guaranteed. Until policies can grant it to others: who runs the team."""
    member = Member.objects.filter(user=user, team=team, role__in=(Role.ADMIN, Role.OWNER))
    return user.is_active and (user.is_superuser or member.exists())


def may_use_workspace(user: User, *, owner_id: int) -> bool:
    """See, stop or delete it. A workspace runs as its owner and holds his files, so nobody else's word counts."""
    return user.is_active and user.pk == owner_id


def may_open_workspace(user: User, *, owner_id: int, team_id: int) -> bool:
    """Go in. Its slot is the team's, so who has left the team may still stop what he started, but not work in it."""
    member = Member.objects.filter(user=user, team_id=team_id, role__in=WORKERS)
    return may_use_workspace(user, owner_id=owner_id) and member.exists()


def may_run_nodes(user: User) -> bool:
    """See how each machine and card is, take machines out of use and back, and let new ones join."""
    return user.is_active and user.is_staff


def teams_to_read(user: User) -> list[int] | None:
    """Ids of the teams whose work `user` may see; None: all teams'. Viewers see what their team does."""
    if not user.is_active:
        return []
    if user.is_superuser:
        return None
    return sorted(Member.objects.filter(user=user).values_list("team_id", flat=True))


def may_see_job(user: User, *, owner_id: int, team_id: int) -> bool:
    """Who has left the team still sees what he submitted himself."""
    teams = teams_to_read(user)
    return user.is_active and (teams is None or user.pk == owner_id or team_id in teams)


def may_cancel_job(user: User, *, owner_id: int, team_id: int) -> bool:
    """Its owner, who runs the team, and admins of the portal."""
    if not user.is_active:
        return False
    leads = Member.objects.filter(user=user, team_id=team_id, role__in=(Role.ADMIN, Role.OWNER))
    return user.is_superuser or user.pk == owner_id or leads.exists()
