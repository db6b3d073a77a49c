from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import compose  # needs the models of all apps, which are loaded by now

        compose.wire()
