"""Requests that offer another protocol than WebSocket are served as if they did not, as RFC 9110 (7.8) allows.

Java's HttpClient and `curl --http2` offer h2c on every plain connection, uploads included. The parser then takes all
that follows the head for that protocol: the body would be lost, and read as the next request.
"""

import sys

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class DeclinesUpgrades(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which hands such a request's head to a fresh parser once more, without the offer."""

    _fed = b""
    _again = b""

    def data_received(self, data: bytes) -> None:
        while data:  # one turn per declined offer: many may be pipelined
            self._fed, self._again = data, b""
            super().data_received(data)
            data = self._again
        self._fed = self._again = b""

    def on_headers_complete(self) -> None:
        if not self._offered():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._offered():
            super().on_message_complete()

    def _offered(self) -> bool:
        """CONNECT counts as an upgrade to the parser, but offers nothing that could be taken away."""
        return self.parser.should_upgrade() and not self._should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """Called by uvicorn while it handles HttpParserUpgrade, whose argument says where the head ended."""
        ended = sys.exc_info()[1]
        if not isinstance(ended, httptools.HttpParserUpgrade) or not self._offered():
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self._again = b"\r\n".join([*lines, b"", b""]) + self._fed[ended.args[0] :]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
