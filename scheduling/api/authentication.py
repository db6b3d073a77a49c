"""`Authorization: Bearer <key>` with a node's own key. Tokens of people do not count here, nor node keys elsewhere."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scheduling.enrolment import enrolment_of
from scheduling.models import Enrolment


class NodeKeyAuthentication(BaseAuthentication):
    """`request.auth` is the Enrolment; there is no user."""

    def authenticate(self, request: Request) -> tuple[None, Enrolment]:
        words = get_authorization_header(request).decode("latin-1").split()
        enrolment = enrolment_of(words[1]) if len(words) == 2 and words[0].lower() == "bearer" else None
        if enrolment is None:
            raise AuthenticationFailed(
                "This is not the key of an enrolled node; make a token with `manage.py node_token NAME` and join again."
            )
        return None, enrolment

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="berth-nodes"'
