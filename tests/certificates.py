"""A certificate for this machine's own names, signed by itself."""

import ipaddress
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path


def make_certificate(folder: Path, *names: str) -> Certificate:
    """For `names`, localhost and 127.0.0.1 unless given; also the CA file by which it is trusted."""
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    wanted = ",".join(f"{_kind(name)}:{name}" for name in names or ("localhost", "127.0.0.1"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", made.key, "-out", made.certificate, "-days", "2", "-subj", "/CN=berth-test"),
            *("-addext", f"subjectAltName={wanted}"),
        ],
        check=True,
        capture_output=True,
    )
    return made


def _kind(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"
