"""`Authorization: Bearer <token>`, the only way into the REST API. A browser's cookie never counts there."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from portal.kernel import clock
from tenants.models import User
from tenants.tokens import user_of


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, str] | None:
        words = get_authorization_header(request).decode("latin-1").split()
        if not words or words[0].lower() != "bearer":
            return None
        if len(words) != 2:
            raise AuthenticationFailed("The Authorization header must read 'Bearer' and one token.")
        user = user_of(words[1], now=clock.now())
        if user is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked; make a new one.")
        return user, words[1]

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="berth"'
