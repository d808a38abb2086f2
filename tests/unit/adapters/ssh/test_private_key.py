"""The private copy of the SSH key that the ssh children use."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.adapters.secrets.credentials import Credentials
from agent.core.text.redaction import Redactor
from tests.unit.settings_cases import read, ssh


def test_the_certificate_beside_an_ssh_key_is_copied_again_when_it_is_renewed(tmp_path: Path) -> None:
    settings = read(ssh(tmp_path))
    credentials = Credentials(settings, tmp_path / "state" / "run", Redactor())
    copy = Path(credentials.endpoint().key_path)
    certificate = copy.with_name(f"{copy.name}-cert.pub")
    try:
        assert not certificate.exists()
        for text in ("first", "renewed"):
            (tmp_path / "key-cert.pub").write_text(f"\ufeff{text}")
            assert Path(credentials.endpoint().key_path) == copy
            assert certificate.read_text() == f"{text}\n"
        (tmp_path / "key-cert.pub").unlink()
        credentials.endpoint()
        assert not certificate.exists()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "new")], check=True
        )
        (tmp_path / "new").replace(tmp_path / "key")
        credentials.endpoint()
        assert copy.read_text() == (tmp_path / "key").read_text()
    finally:
        credentials.close()
