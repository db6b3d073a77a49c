"""What each web process serves: the portal, with the broker that its settings name."""

from portal import asgi, compose

compose.celery_app()  # else hints would look for a broker of their own
application = asgi.application
