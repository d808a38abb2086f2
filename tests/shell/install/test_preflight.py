"""What stands in the way is named before anything is changed, all of it at once, with what to do."""

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
def test_a_machine_that_will_do(host: Host, release: str) -> None:
    (host.root / "etc/os-release").write_text((RECORDED / f"os-release-{release}").read_text())
    before = host.files()
    done = preflight(host)
    assert done.returncode == 0, done.stderr
    assert set(host.files()) - set(before) <= {"etc/beta9-worker/worker.env"}


def test_everything_that_is_wrong_is_named_at_once(host: Host) -> None:
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
    said = host.said()
    for what in (
        "this is fedora 41",
        "this is aarch64",
        "systemd does not run here",
        "BETA9_POOL_NAME is not set",
        "BETA9_ON_FAILURE is neither keep nor poweroff",
        "9999999 are wanted (BETA9_MIN_FREE_MIB)",
        "'everybody' is not an address",
        "BETA9_FILES_DIR names /nowhere",
        "port 6443, which k3s needs, is held by kubelite",
    ):
        assert what in said
    assert "10.0.0.0/8" not in said


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
    assert ("ufw allow from 10.43.0.0/16" in host.said()) is (code == 1)


def test_ports_of_our_own_are_no_trouble(host: Host) -> None:
    stub(host, "ss", """echo 'LISTEN 0 5 *:6443 *:* users:(("k3s-server",pid=9,fd=3))'""")
    (host.state / "systemctl").mkdir()
    (host.state / "systemctl/beta9-worker.active").touch()
    assert preflight(host).returncode == 0


def secrets(host: Host, body: str) -> subprocess.CompletedProcess[str]:
    """The waiting step, with somebody who delivers meanwhile."""
    host.write_settings()
    with subprocess.Popen(["bash", "-c", body], env=host.environment()) as somebody:
        done = host.bash(BOOTSTRAP / "steps/70-secrets.sh", env={"BETA9_ENV_FILE": str(host.env_file)})
        somebody.wait(60)
    return done


def test_secrets_are_awaited_and_the_console_says_how_to_bring_them(host: Host) -> None:
    host.settings |= {"BETA9_TOKEN": "", "BETA9_SSH_HOST": "gateway", "BETA9_SECRETS_TIMEOUT": "120"}
    deliver = """
    place=$BETA9_ROOT/etc/beta9-worker/secrets; mkdir -p "$place"
    until grep -q push-secrets "$BETA9_CONSOLE" 2>/dev/null; do sleep 0.1; done
    echo token >"$place/token"; sleep 0.3; echo key >"$place/ssh_key"
    """
    done = secrets(host, deliver)
    assert done.returncode == 0, done.stderr
    assert "/etc/beta9-worker/secrets/token /etc/beta9-worker/secrets/ssh_key" in host.said()
    assert "the secrets are here" in host.said()


def test_the_wait_for_secrets_ends(host: Host) -> None:
    host.settings |= {"BETA9_TOKEN": "", "BETA9_SECRETS_TIMEOUT": "1"}
    done = secrets(host, ":")
    assert done.returncode == 1
    assert "nobody delivered /etc/beta9-worker/secrets/token" in done.stderr


@pytest.mark.parametrize("value", ["a-token", "ssm:///beta9/token"])
def test_a_value_or_a_reference_is_not_awaited(host: Host, value: str) -> None:
    host.settings |= {"BETA9_TOKEN": value}
    assert secrets(host, ":").returncode == 10
