#!/usr/bin/env python3
"""Berth's administrative commands: `python manage.py help`."""

import os
import signal
import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def main() -> None:
    if sys.argv[1:2] == ["up"]:
        # Until `up` listens itself there is nothing to put away, and a KeyboardInterrupt would end in some import.
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    from django.core.management import execute_from_command_line

    from portal.kernel.env import BadSetting

    try:
        execute_from_command_line(sys.argv)
    except BadSetting as error:
        sys.exit(f"berth: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
