"""A registry that serves one image over HTTP on loopback, as slowly and as wrongly as a test wants."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CHUNK = 64 * 1024


class Registry:
    """`name` is what to pull. `hold` is cleared to make downloads stand still after their first chunk."""

    def __init__(self, layers: list[bytes]) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.waiting = threading.Event()
        self.missing: set[str] = set()  # digests that are answered with 404
        packed = [gzip.compress(layer, compresslevel=0, mtime=0) for layer in layers]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            "history": [{"created_by": "a test"} for _ in layers],
        }
        raw = json.dumps(config).encode()
        self.layers = packed
        self.blobs = {digest(blob): blob for blob in [raw, *packed]}
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(raw),
                    "digest": digest(raw),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": digest(layer),
                    }
                    for layer in packed
                ],
            }
        ).encode()
        self.port = 0

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}/team/image:v1"


@contextmanager
def serving(layers: list[bytes]) -> Iterator[Registry]:
    registry = Registry(layers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            last = self.path.rpartition("/")[2]
            if self.path == "/v2/":
                self._send(200, b"{}", "application/json", with_body=with_body)
            elif "/manifests/" in self.path and last in ("v1", digest(registry.manifest)):
                self._send(200, registry.manifest, _MANIFEST, with_body=with_body)
            elif "/blobs/" in self.path and last in registry.blobs and last not in registry.missing:
                self._send(200, registry.blobs[last], "application/octet-stream", with_body=with_body)
            else:
                error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                self._send(404, json.dumps(error).encode(), "application/json", with_body=with_body)

        def _send(self, status: int, body: bytes, kind: str, *, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", digest(body))
            self.end_headers()
            if not with_body:
                return
            try:
                for start in range(0, len(body), _CHUNK):
                    if start and not registry.hold.is_set():
                        registry.waiting.set()
                        registry.hold.wait(60)
                    self.wfile.write(body[start : start + _CHUNK])
            except OSError:
                self.close_connection = True  # the engine has hung up

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield registry
    finally:
        registry.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
