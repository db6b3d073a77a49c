"""May this team and this person hold so much more here? Limits hold at every level of the tree."""

from scheduling.core.cluster import Ask
from scheduling.core.decisions import HoldCode
from scheduling.core.quota import Account, Tree


def missing_right(tree: Tree, ask: Ask, units: int) -> HoldCode | None:
    """The right that is missing, or None. POOL_FULL is not a limit: everything that may be handed around is in use."""
    account = tree.account(ask.team)
    if not ask.preemptible and not tree.open and beyond_guarantee(account, units) is not None:
        return HoldCode.GUARANTEE_USED
    if beyond_cap(account, ask.user, units) is not None:
        return HoldCode.USER_LIMIT
    if units > account.room():
        return HoldCode.TEAM_LIMIT if units <= tree.root.room() else HoldCode.POOL_FULL
    return None


def beyond_guarantee(account: Account, units: int) -> Account | None:
    """The team, this one or one above it, whose guarantee does not hold so much more that may not be evicted."""
    node = account
    while node.parent is not None:
        if node.firm + units > node.guaranteed:
            return node
        node = node.parent
    return None


def beyond_cap(account: Account, user: int, units: int) -> Account | None:
    """The team, this one or one above it, that does not let one member hold so much more in it and below."""
    node = account
    while node.parent is not None:
        limit = node.quota.user_limit
        if limit is not None and node.capped.get(user, 0) + units > limit:
            return node
        node = node.parent
    return None
