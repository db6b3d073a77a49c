"""The portal as an ASGI application: pages and API by Django, live news by Channels."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.asgi import get_asgi_application

django_app = get_asgi_application()  # sets Django up: everything below needs that

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import SessionMiddlewareStack
from django.urls import path, re_path

from workspaces.consumers import LiveConsumer, OriginCheck, no_such_socket

sockets = URLRouter(
    [
        path("ws/live", LiveConsumer.as_asgi()),
        re_path("", no_such_socket),  # type: ignore[arg-type]  # Channels routes to ASGI applications
    ]
)
application = ProtocolTypeRouter({"http": django_app, "websocket": OriginCheck(SessionMiddlewareStack(sockets))})
