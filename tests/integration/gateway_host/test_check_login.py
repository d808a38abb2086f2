"""check.py lets sshd itself judge: it offers the keys, logs in, and asks the sshd that runs."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.sshd.config import Option
from agent.demo.sshd.program import find_sshd
from tests.integration.gateway_host.check_program import MACHINE_ID, Host, check, verdict
from tests.integration.gateway_host.other_sshds import with_penalties
from tests.integration.gateway_host.setup_site import Site
from tests.integration.ssh_client import as_root, listener

pytestmark = as_root


@pytest.mark.parametrize(
    ("spoil", "path", "seen"),
    [
        ("chmod 0666 {keys}", "keys", "bad ownership or modes for file"),
        ("chmod 0664 {keys}", "keys", "bad ownership or modes for file"),
        ("chown nobody {keys}", "keys", "bad ownership or modes for file"),
        ("chmod 0777 {above}", "", "bad ownership or modes for directory"),
        ("chmod 0775 {above}", "", "bad ownership or modes for directory"),
        ("chmod 1777 {above}", "", "bad ownership or modes for directory"),
        ("chown nobody {above}", "", "bad ownership or modes for directory"),
        ("chmod 0600 {keys}", "keys", "Permission denied"),
        ("chmod 0700 {above}", "", "Permission denied"),
    ],
)
def test_a_key_that_sshd_refuses_for_modes_is_named_with_a_fix_that_works(
    host: Host, spoil: str, path: str, seen: str
) -> None:
    """Field case A6: the modes of a directory above the key file, its owner, and what sshd cannot read as the user."""
    arguments = host.configure({})
    keys, above = host.directory / "keys", host.directory
    assert verdict(check(*arguments)[1], "key-file") == "ok"
    subprocess.run(spoil.format(keys=keys, above=above), shell=True, check=True)
    code, findings = check(*arguments)
    assert (code, verdict(findings, "key-file")) == (1, "failed")
    assert seen in findings["key-file"]["seen"]
    assert "key-1" in findings["key-file"]["seen"]
    fix = findings["key-file"]["fix"].partition(":")[0]
    if fix.startswith("ch"):  # else it is told in words
        subprocess.run(fix, shell=True, check=True)
        assert verdict(check(*arguments)[1], "key-file") == "ok", fix


def test_what_strict_modes_would_refuse_passes_without_them(host: Host) -> None:
    arguments = host.configure({"StrictModes": "no"})
    host.directory.chmod(0o777)
    assert verdict(check(*arguments)[1], "key-file") == "ok"


@pytest.mark.parametrize(
    ("options", "name", "expected", "seen"),
    [
        ({"AllowUsers": "daemon@10.0.0.0/8"}, "admitted", "skipped", "depends on where a worker comes from"),
        ({"DenyGroups": "daemon"}, "admitted", "failed", "DenyGroups daemon"),
        ({"PubkeyAcceptedAlgorithms": "rsa-sha2-512"}, "key-file", "failed", "ssh-ed25519"),
        ({"RevokedKeys": "{directory}/user_key.pub"}, "key-file", "failed", "revoked"),
        ({"LogLevel": "QUIET"}, "key-file", "ok", "accepts key-1"),
        # In a Match block, where sshd then does not even say why.
        ({"Match": "User daemon\n  LogLevel QUIET\n  AllowUsers x"}, "admitted", "failed", "AllowUsers x"),
        ({"Match": "User daemon\n  LogLevel QUIET"}, "admitted", "ok", "lets daemon"),
    ],
)
def test_what_else_keeps_a_key_out_is_seen(
    host: Host, options: dict[str, Option], name: str, expected: str, seen: str
) -> None:
    """The kind's other members: nothing of this is in the key file, or in its modes."""
    filled = {key: str(value).format(directory=host.directory) for key, value in options.items()}
    _, findings = check(*host.configure(filled))
    assert verdict(findings, name) == expected, findings
    assert seen in findings[name]["seen"]
    if expected == "failed":
        assert findings[name]["fix"]
    if name == "key-file" and expected == "failed":
        assert verdict(findings, "running") == "skipped"


@pytest.mark.parametrize(
    ("option", "expected", "seen"),
    [
        ('from="10.0.0.0/8"', "skipped", "key-1 (has from=)"),
        ("cert-authority", "skipped", "key-1 (a certificate authority)"),
        ('expiry-time="20200101"', "failed", "key options"),
    ],
)
def test_a_line_that_cannot_be_tried_on_loopback_is_not_called_ok(
    host: Host, option: str, expected: str, seen: str
) -> None:
    line = f"{option},{key_line(host.public_key, Grant((MACHINE_ID,)))}"
    _, findings = check(*host.configure({}, line))
    assert verdict(findings, "key-file") == expected
    assert seen in findings["key-file"]["seen"]


@pytest.mark.parametrize("lock", ["usermod --lock {user}", "chage --expiredate 0 {user}"])
def test_a_locked_account_is_judged_by_sshd(site: Site, worker: Path, lock: str) -> None:
    assert site.setup("--pool-key", "--public-key", f"{worker}.pub").returncode == 0
    subprocess.run(lock.format(user=site.user).split(), check=True)
    code, findings = check("--sshd-config", site.config, "--user", site.user)
    assert (code, verdict(findings, "account-open")) == (1, "failed")
    if "usermod" in lock:  # sshd itself knows of an expiry date only with PAM
        assert "account is locked" in findings["admitted"]["seen"]


def test_an_sshd_that_has_not_read_its_configuration_is_named(host: Host) -> None:
    """Field case 11.4: setup.sh said done, and the sshd that runs had not been reloaded."""
    arguments = host.configure({"AuthorizedKeysFile": "/nonexistent"})
    text = host.config.read_text()
    host.config.write_text(text.replace("/nonexistent", str(host.directory / "keys")))
    code, findings = check(*arguments)
    assert (code, verdict(findings, "key-file"), verdict(findings, "running")) == (1, "ok", "failed")
    assert "reload" in findings["running"]["fix"]
    host.start()
    assert verdict(check(*arguments)[1], "running") == "ok"
    host.stop()
    code, findings = check(*arguments)
    assert (code, verdict(findings, "running")) == (1, "failed")
    assert f"nothing listens on 127.0.0.1:{host.port}" in findings["running"]["seen"]


@contextmanager
def web_server(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_login_reaches_the_gateway_as_a_worker_does(host: Host) -> None:
    """Each target that the keys permit is dialled through a forward, in the session's own chroot and account."""
    with web_server(200) as well, web_server(500) as ill, listener(b"SSH-2.0-x\r\n") as other:
        for port, expected, seen in (
            (well, "ok", "200"),
            (ill, "warning", "500"),
            (other, "warning", "SSH-2.0-x"),
            (1, "warning", "nothing listens on localhost:1"),
        ):
            grant = Grant((MACHINE_ID,), (f"localhost:{port}",))
            code, findings = check(*host.configure({}, key_line(host.public_key, grant)))
            assert (code, verdict(findings, "login"), verdict(findings, "target")) == (0, "ok", expected)
            assert seen in findings["target"]["seen"]


@pytest.mark.parametrize("permitted", [True, False])
def test_with_a_private_key_it_logs_in_at_the_running_sshd(host: Host, worker: Path, permitted: bool) -> None:
    arguments = host.configure({})
    key = worker
    if permitted:
        key = host.directory / "user_key"
    code, findings = check(*arguments, "--identity", key)
    assert (code, verdict(findings, "identity")) == ((0, "ok") if permitted else (1, "failed"))


def test_settings_that_workers_meet_and_loopback_does_not_are_said(host: Host) -> None:
    arguments = host.configure({})
    with host.config.open("a") as file:
        file.write("Match Address !127.0.0.1,*\n  AllowTcpForwarding no\n")
    code, findings = check(*arguments)
    assert (code, verdict(findings, "tcp-forwarding"), verdict(findings, "match")) == (
        1,
        "ok",
        "warning",
    ) or (
        code,
        verdict(findings, "tcp-forwarding"),
        verdict(findings, "match"),
    ) == (1, "failed", "warning")
    assert "allowtcpforwarding" in findings["match"]["seen"]


@pytest.mark.parametrize(
    ("lines", "address", "expected"),
    [
        ("", "192.0.2.1", "warning"),
        ("PerSourcePenalties no", "192.0.2.1", "ok"),
        ("PerSourcePenalties min:60 max:90", "192.0.2.1", "ok"),
        ("PerSourcePenalties authfail:1", "192.0.2.1", "warning"),
        ("PerSourcePenaltyExemptList 203.0.113.0/24", "192.0.2.1", "warning"),
        ("PerSourcePenaltyExemptList 203.0.113.0/24,2001:db8::/32", "203.0.113.7", "ok"),
        ("PerSourcePenaltyExemptList 203.0.113.0/24,2001:db8::/32", "2001:db8::7", "ok"),
    ],
)
def test_penalties_that_shut_out_machines_behind_one_address_are_named(
    host: Host, tmp_path: Path, lines: str, address: str, expected: str
) -> None:
    """Field case 9.2."""
    path = with_penalties(tmp_path / "bin")
    arguments = host.configure({"PerSourcePenalties": None})
    with host.config.open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(f"{lines}\n{text}")
    code, findings = check(*arguments, "--from", address, prefix=("env", f"PATH={path}"))
    assert (code, verdict(findings, "penalties")) == (0, expected), findings


def test_without_root_or_ssh_nothing_is_called_ok_untried(host: Host, tmp_path: Path) -> None:
    arguments = host.configure({})
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "sshd").symlink_to(find_sshd())
    _, findings = check(*arguments, prefix=("env", f"PATH={directory}"))
    tried = ("admitted", "key-file", "running", "login", "target")
    assert {verdict(findings, name) for name in tried} == {"skipped"}
    assert "ssh is not installed" in findings["login"]["seen"]
