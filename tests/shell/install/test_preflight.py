"""All problems are reported at once, with fixes, before anything is changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shell.install.fakehost import BOOTSTRAP, Host

RECORDED = Path(__file__).parents[1] / "recorded"
UFW = """Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
{rules}22/tcp (v6)                ALLOW       Anywhere (v6)
"""


def preflight(host: Host) -> subprocess.CompletedProcess[str]:
    host.write_settings()
    return host.bash(BOOTSTRAP / "steps/10-preflight.sh", env={"BETA9_ENV_FILE": str(host.env_file)})


def stub(host: Host, name: str, body: str) -> None:
    (host.bin / name).unlink(missing_ok=True)
    (host.bin / name).write_text(f"#!/bin/bash\n{body}\n")
    (host.bin / name).chmod(0o755)


@pytest.mark.parametrize("release", ["debian-12", "ubuntu-22.04", "ubuntu-24.04"])
def test_a_suitable_machine(host: Host, release: str) -> None:
    (host.root / "etc/os-release").write_text((RECORDED / f"os-release-{release}").read_text())
    before = host.files()
    done = preflight(host)
    assert done.returncode == 0, done.stderr
    assert set(host.files()) - set(before) <= {"etc/beta9-worker/worker.env"}


def test_all_problems_are_reported_at_once(host: Host) -> None:
    (host.root / "etc/os-release").write_text('ID=fedora\nVERSION_ID="41"\n')
    (host.root / "run/systemd/system").rmdir()
    stub(host, "uname", "echo aarch64")
    stub(
        host,
        "ss",
        """[[ $* != *':6443'* ]] || echo 'LISTEN 0 5 *:6443 *:* users:(("kubelite",pid=9,fd=3))'""",
    )
    host.settings |= {
        "BETA9_POOL_NAME": "",
        "BETA9_ON_FAILURE": "reboot",
        "BETA9_MIN_FREE_MIB": "9999999",
        "BETA9_K3S_ALLOW_FROM": "10.0.0.0/8,everybody",
        "BETA9_FILES_DIR": "/nowhere",
    }
    done = preflight(host)
    assert done.returncode == 1
    console = host.console_text()
    for problem in (
        "unsupported system fedora 41",
        "unsupported architecture aarch64",
        "systemd is not running",
        "BETA9_POOL_NAME is not set",
        "BETA9_ON_FAILURE must be keep or poweroff",
        "9999999 MiB are required (BETA9_MIN_FREE_MIB)",
        "'everybody' is not an address",
        "BETA9_FILES_DIR is /nowhere",
        "port 6443, which k3s needs, is used by kubelite",
    ):
        assert problem in console
    assert "10.0.0.0/8" not in console


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("", 1),
        ("Anywhere                   ALLOW       10.42.0.0/16\n", 1),
        (
            "Anywhere                   ALLOW       10.42.0.0/16\n"
            "Anywhere                   ALLOW       10.43.0.0/16\n",
            0,
        ),
    ],
)
def test_an_active_ufw_must_let_pods_through(host: Host, rules: str, code: int) -> None:
    stub(host, "ufw", f"cat <<'EOT'\n{UFW.format(rules=rules)}EOT")
    done = preflight(host)
    assert done.returncode == code, done.stderr
    assert ("ufw allow from 10.43.0.0/16" in host.console_text()) is (code == 1)


def test_ports_of_the_running_k3s_and_agent_are_accepted(host: Host) -> None:
    stub(host, "ss", """echo 'LISTEN 0 5 *:6443 *:* users:(("k3s-server",pid=9,fd=3))'""")
    (host.state / "systemctl").mkdir()
    (host.state / "systemctl/beta9-worker.active").touch()
    assert preflight(host).returncode == 0


def secrets(host: Host, body: str) -> subprocess.CompletedProcess[str]:
    """Run the step that waits for secrets, and meanwhile the shell script `body`."""
    host.write_settings()
    with subprocess.Popen(["bash", "-c", body], env=host.environment()) as sender:
        done = host.bash(BOOTSTRAP / "steps/70-secrets.sh", env={"BETA9_ENV_FILE": str(host.env_file)})
        sender.wait(60)
    return done


def test_the_step_waits_for_secrets_and_the_console_says_how_to_send_them(host: Host) -> None:
    host.settings |= {"BETA9_TOKEN": "", "BETA9_SSH_HOST": "gateway", "BETA9_SECRETS_TIMEOUT": "120"}
    deliver = """
    secrets=$BETA9_ROOT/etc/beta9-worker/secrets; mkdir -p "$secrets"
    until grep -q push-secrets "$BETA9_CONSOLE" 2>/dev/null; do sleep 0.1; done
    echo token >"$secrets/token"; sleep 0.3; echo key >"$secrets/ssh_key"
    """
    done = secrets(host, deliver)
    assert done.returncode == 0, done.stderr
    assert "/etc/beta9-worker/secrets/token /etc/beta9-worker/secrets/ssh_key" in host.console_text()
    assert "the secrets have arrived" in host.console_text()


def test_the_wait_for_secrets_ends(host: Host) -> None:
    host.settings |= {"BETA9_TOKEN": "", "BETA9_SECRETS_TIMEOUT": "1"}
    done = secrets(host, ":")
    assert done.returncode == 1
    assert "these secrets were not delivered in time: /etc/beta9-worker/secrets/token" in done.stderr


@pytest.mark.parametrize("value", ["a-token", "ssm:///beta9/token"])
def test_a_value_or_a_reference_needs_no_waiting(host: Host, value: str) -> None:
    host.settings |= {"BETA9_TOKEN": value}
    assert secrets(host, ":").returncode == 10
