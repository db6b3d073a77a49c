"""The servers that a control plane stands on, as in production: TLS everywhere, a password for each, and one proxy."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.certificates import Certificate
from tests.cluster.network import CannotRun
from tests.cluster.parts import Part
from tests.services import free_port, unprivileged, wait_for


@dataclass
class Postgres:
    """`url`: as the control plane reaches it over TLS; `socket_url`: for whoever is on this machine and may look."""

    part: Part
    url: str
    socket_url: str
    port: int


def postgres(folder: Path, *, address: str, network: str, tls: Certificate) -> Postgres:
    """Started, with an empty database `berth`. It lets in whoever comes from `network` with the password, as a careless
    administrator might: what keeps containers out is the nodes' business."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        raise CannotRun("PostgreSQL is not installed; run tests/prepare.py as root.")
    folder.mkdir()
    account = unprivileged("postgres") or ""
    password, port, data = secrets.token_hex(16), free_port(address), folder / "data"
    own = pwd.getpwnam(account)
    secret = folder / "password"
    secret.write_text(password)
    for path, source in ((folder / "key.pem", tls.key), (folder / "cert.pem", tls.certificate)):
        shutil.copy(source, path)
        path.chmod(0o600)
    for path in (folder, *folder.iterdir()):
        os.chown(path, own.pw_uid, own.pw_gid)
    made = subprocess.run(
        [
            *(programs[-1] / "initdb", "-D", data, "-U", "berth", "-E", "UTF8", "--locale=C.UTF-8", "-N"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"),
        ],
        cwd=folder, user=account, group=own.pw_gid, extra_groups=[], capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        raise CannotRun(f"initdb failed: {made.stderr.strip()}")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"hostssl all all {network} scram-sha-256\n")
    options = [
        *(f"listen_addresses={address}", f"port={port}", f"unix_socket_directories={folder}", "ssl=on"),
        *(f"ssl_cert_file={folder}/cert.pem", f"ssl_key_file={folder}/key.pem"),
        *("fsync=off", "max_connections=200", "timezone=UTC", "shared_buffers=64MB"),
    ]
    words = [word for option in options for word in ("-c", option)]
    part = Part("postgres", [programs[-1] / "postgres", "-D", data, *words], log=folder / "log", account=account)
    part.start()
    socket_url = f"postgresql://berth@/berth?host={folder}&port={port}"
    wait_for(
        lambda: part.alive() and _accepts(socket_url.replace("/berth?", "/postgres?")), seconds=60, what="PostgreSQL"
    )
    with psycopg.connect(socket_url.replace("/berth?", "/postgres?"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE berth")
    url = f"postgresql://berth:{password}@{address}:{port}/berth?sslmode=verify-full&sslrootcert={tls.certificate}"
    return Postgres(part, url, socket_url, port)


def _accepts(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class Redis:
    """`url`: the portal's own account. `node_url`: where agents reach it, without account."""

    part: Part
    url: str
    node_url: str
    port: int

    def wait(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            wait_for(lambda: self.part.alive() and _pings(client), seconds=30, what="Redis")


def redis_server(folder: Path, *, address: str, tls: Certificate) -> Redis:
    """Started. TLS alone, and nobody gets in without an account."""
    program = shutil.which("redis-server")
    if program is None:
        raise CannotRun("Redis is not installed; run tests/prepare.py as root.")
    folder.mkdir()
    password, port = secrets.token_hex(16), free_port(address)
    settings = [
        *("port 0", f"tls-port {port}", f"bind {address}", f"dir {folder}", 'save ""', "appendonly no"),
        *(f"tls-cert-file {tls.certificate}", f"tls-key-file {tls.key}", f"tls-ca-cert-file {tls.certificate}"),
        *("tls-auth-clients no", f"requirepass {password}"),
    ]
    file = folder / "redis.conf"
    file.touch(mode=0o600)
    file.write_text("\n".join(settings) + "\n")
    part = Part("redis", [program, file], log=folder / "log")
    trust = f"ssl_cert_reqs=required&ssl_ca_certs={tls.certificate}"
    url = f"rediss://:{password}@{address}:{port}/0?{trust}"
    server = Redis(part, url, f"rediss://{address}:{port}/0", port)
    part.start()
    server.wait()
    return server


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


#: Host as the browser wrote it, the client's address, and every upgrade: WebSockets and the agents' lines
_PROXY = """
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_of;
        proxy_connect_timeout 2s;
        proxy_read_timeout 1h;
        proxy_buffering off;
        proxy_request_buffering off;
"""


def proxy(
    folder: Path, *, tls: Certificate, doors: Mapping[tuple[str, ...], Sequence[int]], detours: Mapping[str, int]
) -> Part:
    """Started: nginx, which ends TLS. doors: (address:port, …) that it listens on -> ports of the processes behind.
    detours: path -> the port that has it instead."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise CannotRun("nginx is not installed; run tests/prepare.py as root.")
    folder.mkdir()
    upstreams, servers = [], []
    around = " ".join(
        f"location = {path} {{ {_PROXY} proxy_pass http://127.0.0.1:{port}; }}" for path, port in detours.items()
    )
    for number, (addresses, ports) in enumerate(doors.items()):
        # None is set aside for having failed: it may be back, and the other one gone, within the same second.
        behind = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        upstreams.append(f"    upstream u{number} {{ {behind} }}")
        listen = " ".join(f"listen {address} ssl;" for address in addresses)
        servers.append(f"    server {{ {listen} {around} location / {{ {_PROXY} proxy_pass http://u{number}; }} }}")
    places = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log warn; user root;\n"
        "events { worker_connections 4096; }\nhttp {\n"
        "    access_log off; client_max_body_size 0; server_tokens off;\n"
        "    map $http_upgrade $connection_of { default upgrade; '' ''; }\n"
        f"    ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key}; ssl_protocols TLSv1.2 TLSv1.3;\n"
        + places
        + "\n".join([*upstreams, *servers, "}", ""])
    )
    part = Part("proxy", [program, "-c", file, "-p", folder, "-e", folder / "log"], log=folder / "log")
    part.start()
    first = next(iter(doors))[0]
    host, _, port = first.rpartition(":")
    wait_for(lambda: part.alive() and _listens(host, int(port)), seconds=20, what="nginx")
    return part


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


STOP_POSTGRES = signal.SIGINT  # "fast": ends sessions instead of waiting for them
