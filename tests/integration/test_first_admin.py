"""The first account comes whole or not at all."""

import pytest

from portal.kernel import clock
from tenants import services
from tenants.models import Team, User


class Killed(BaseException):
    """As a kill -9, nothing catches it."""


@pytest.mark.django_db(transaction=True)
def test_an_end_between_account_and_membership_leaves_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(**_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(services.Member.objects, "create", killed)
        with pytest.raises(Killed):
            services.first_admin("", now=clock.now())
    assert not User.objects.exists()
    assert not Team.objects.filter(slug=services.DEFAULT_TEAM).exists()
    assert services.first_admin("", now=clock.now())
    assert User.objects.get().username == services.ADMIN
