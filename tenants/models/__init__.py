from tenants.models.people import Member, Role, Team, User
from tenants.models.tokens import ApiToken

__all__ = ["ApiToken", "Member", "Role", "Team", "User"]
