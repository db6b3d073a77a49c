"""Every knob of a decision, with its unit and default, in one frozen place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    #: a placed job whose node shows no progress (no byte of the image, no container) for so long is stopped
    place_timeout_s: int = 600
    #: a started container whose server does not answer for so long is stopped
    start_timeout_s: int = 120
