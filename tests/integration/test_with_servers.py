"""The same product on PostgreSQL and Redis: one launch from start to stop."""

from tests.portal_api import PortalApi
from tests.portal_process import running_portal


def test_a_launch_on_postgresql_and_redis(postgres_url: str, redis_url: str) -> None:
    with running_portal(BERTH_DATABASE_URL=postgres_url, BERTH_REDIS_URL=redis_url) as portal:
        assert portal.healthz() == 200
        api = PortalApi(portal)
        workspace = api.launch(image="local-lab")
        api.wait(workspace, "ready")
        api.call("POST", f"workspaces/{workspace}/stop")
        api.wait(workspace, "stopped")
        assert not (portal.data / "berth.sqlite3").exists()
