from tenants.models.people import Member, Role, Team, User
from tenants.models.quotas import Quota, TeamWindow
from tenants.models.tokens import ApiToken

__all__ = ["ApiToken", "Member", "Quota", "Role", "Team", "TeamWindow", "User"]
