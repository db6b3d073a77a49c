"""The Celery application. Tasks live in each app's tasks.py and hold one call.

A worker (`celery -A portal worker`) also has the scheduling loop, in a thread of its own; one of all workers leads.
"""

import asyncio
import os
import threading
from typing import Any

from celery import Celery, signals

from portal.kernel import publish

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("berth")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["scheduling"])


@signals.celeryd_after_setup.connect
def tell_news_aside(**_: Any) -> None:
    """A worker's news go out in a thread of their own, over one connection: a scheduling cycle tells of every job that
    it places, and must not wait each time, least of all while Redis is away."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="news", daemon=True).start()
    publish.use_loop(loop)


@signals.celeryd_after_setup.connect
def start_loop(**_: Any) -> None:
    """Before the broker answers: the loop does not need it."""
    from scheduling.loop import Loop  # Django is set up by now, and not when this file is read

    loop = Loop()
    # At the first signal, not when the tasks under way have ended: another worker can lead meanwhile.
    signals.worker_shutting_down.connect(lambda **_: loop.leave(), weak=False)
    loop.start()
