"""May this team and this person hold so much more here? Limits hold at every level of the tree."""

from scheduling.core.cluster import Ask
from scheduling.core.decisions import HoldCode
from scheduling.core.quota import Tree


def missing_right(tree: Tree, ask: Ask, units: int) -> HoldCode | None:
    """The right that is missing, or None. POOL_FULL is not a limit: everything that may be handed around is in use."""
    account = tree.account(ask.team)
    if not ask.preemptible and not tree.open and account.firm + units > account.guaranteed:
        return HoldCode.GUARANTEE_USED
    limit = account.quota.user_limit
    if limit is not None and account.users.get(ask.user, 0) + units > limit:
        return HoldCode.USER_LIMIT
    if units > account.room():
        return HoldCode.TEAM_LIMIT if units <= tree.root.room() else HoldCode.POOL_FULL
    return None
