"""Four families of errors. The family decides the HTTP status; a subclass is a fact, its docstring the sentence shown.

An error is defined beside the function that raises it:

    class TooManyGpus(Rejected):
        "No node has {asked} GPUs; the largest has {largest}. Ask for {largest} or fewer."

    raise TooManyGpus(asked=9, largest=2)
"""

import inspect
import re
from typing import ClassVar


class BerthError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    #: stable, machine readable: the class name in kebab case
    code: ClassVar[str] = "berth-error"
    #: the form field the sentence belongs to, where there is one
    field: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """The one sentence a person reads: the docstring with the facts filled in."""
        text = inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0].replace("\n", " ")
        return text.format(**self.facts)


class Rejected(BerthError):
    """The request cannot be granted as it is."""

    status = 422


class Missing(BerthError):
    """There is nothing here, or nothing that you may see."""

    status = 404


class Conflict(BerthError):
    """Somebody changed this in the meantime."""

    status = 409


class Unavailable(BerthError):
    """A part that is needed does not answer now; try again in a moment."""

    status = 503
