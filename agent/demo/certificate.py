"""Self-signed certificates for demo servers on loopback, created at start and discarded afterwards."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

from agent.errors import SettingsError


def make_certificate(directory: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a certificate and its key into `directory` as PEM files and return their paths.

    Uses the `openssl` command: the standard library cannot create certificates, and the demo must not need packages
    that the agent does not need. Raises: SettingsError if the command is missing or fails.
    """
    command = shutil.which("openssl")
    if command is None:
        raise SettingsError("the openssl command is not installed; install the package openssl")
    certificate, key = directory / "tls.crt", directory / "tls.key"
    subject = ("-subj", "/CN=beta9-worker-demo", "-addext", f"subjectAltName=IP:{address},DNS:localhost")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    done = subprocess.run(
        [command, "req", "-x509", *new_key, *subject, "-keyout", str(key), "-out", str(certificate)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise SettingsError(f"openssl could not create a certificate: {done.stderr.strip()[-300:]}")
    return certificate, key


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server-side TLS context for PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def throwaway_context(address: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """Return a TLS context with a new certificate, and that certificate as PEM text."""
    with tempfile.TemporaryDirectory(prefix="beta9-demo-tls-") as directory:
        certificate, key = make_certificate(Path(directory), address)
        return server_context(certificate, key), certificate.read_text(encoding="ascii")
