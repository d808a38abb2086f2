"""The whole installation on a machine that is a directory: once, twice, with changes, and undone."""

from __future__ import annotations

import base64
import json

from tests.shell.install.fakehost import Host, sha256


def installed(host: Host) -> Host:
    done = host.install()
    assert done.returncode == 0, done.stderr + host.console_text()
    return host


def test_a_bare_machine_becomes_a_worker(host: Host) -> None:
    installed(host)
    assert host.timeline["result"] == "ok"
    config = (host.root / "etc/rancher/k3s/config.yaml").read_text()
    for line in ("secrets-encryption: true", "  - traefik", "  - servicelb", "  - metrics-server"):
        assert line in config
    assert "bind-address" not in config
    assert "coredns" not in config
    assert (host.root / "etc/rancher/k3s/config.yaml").stat().st_mode & 0o777 == 0o600
    assert host.env_file.stat().st_mode & 0o777 == 0o600
    assert (host.root / "usr/local/bin/k3s").exists()
    for name in ("bash-completion/completions", "zsh/site-functions", "man/man1"):
        assert list((host.root / "usr/local/share" / name).glob("*beta9-worker*"))
    agent = (host.root / "var/lib/beta9-worker/bootstrap/agent.env").read_text()
    assert "AGENT_IMAGE=sha256:" in agent
    calls = host.calls("systemctl")
    assert "restart beta9-worker.service" in calls
    # Units change only before k3s starts: a reload can take GPUs away from running pods.
    assert max(n for n, call in enumerate(calls) if "enable" in call or "reload" in call) < calls.index(
        "restart k3s"
    )


def test_a_second_run_changes_nothing(host: Host) -> None:
    installed(host)
    before, calls = host.files(), {p: host.calls(p) for p in ("systemctl", "k3s-install", "apt-get")}
    installed(host)
    assert host.files() == before
    assert {p: host.calls(p) for p in calls} == calls
    assert "done, 0 changes" in host.console_text().splitlines()[-1]


def test_a_restart_that_was_interrupted_is_repeated_by_the_next_run(host: Host) -> None:
    installed(host)
    (host.root / "var/lib/beta9-worker/bootstrap/pending-k3s").touch()
    restarts = host.calls("systemctl").count("restart k3s")
    installed(host)
    assert host.calls("systemctl").count("restart k3s") == restarts + 1


def test_a_new_image_takes_over_from_the_running_agent(host: Host) -> None:
    installed(host)
    (host.root / "var/lib/beta9-worker/bootstrap/agent-image").write_text("sha256:older\n")
    (host.root / "var/lib/beta9-worker/bootstrap/agent.env").write_text(
        "AGENT_IMAGE=sha256:older\nAGENT_OPTIONS=\n"
    )
    installed(host)
    assert "kill --signal USR1 beta9-worker" in host.calls("docker")
    assert host.calls("systemctl")[-1] == "restart beta9-worker.service"
    assert host.calls("systemctl").count("restart k3s") == 1


def test_with_changed_settings_a_new_agent_takes_over(host: Host) -> None:
    installed(host)
    host.write_settings(BETA9_RESERVE_CPU="2000m")
    installed(host)
    assert "kill --signal USR1 beta9-worker" in host.calls("docker")


def test_no_secret_is_in_any_log_argument_or_report(host: Host) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END OPENSSH PRIVATE KEY-----"
    registry_login = base64.b64encode(b"user:registry-secret").decode()
    auth = host.root / "etc/registry.json"
    auth.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": registry_login}}}))
    host.write_settings(
        BETA9_SSH_KEY=key, BETA9_REGISTRY_AUTH_FILE="/etc/registry.json", BETA9_SSH_HOST="gateway"
    )
    done = host.install()
    assert done.returncode == 0, done.stderr + host.console_text()
    assert registry_login in (host.root / "etc/rancher/k3s/registries.yaml").read_text()
    seen = [done.stdout, done.stderr, host.console_text(), str(host.timeline)]
    seen += [p.read_text() for p in (host.root / "var/log/beta9-worker").rglob("*.log")]
    seen += ["\n".join(host.calls(p)) for p in ("systemctl", "docker", "other", "apt-get")]
    for secret in (host.settings["BETA9_TOKEN"], "c2VjcmV0LWtleQ==", registry_login, "registry-secret"):
        assert not [text for text in seen if secret in text]
    assert len(seen) > 15


def test_a_missing_docker_is_installed_and_uninstalled_with_its_dependencies(host: Host) -> None:
    (host.state / "docker-here").unlink()
    installed(host)
    assert {"docker.io", "containerd", "runc"} <= set((host.state / "installed").read_text().split())
    assert host.uninstall().returncode == 0
    assert (host.state / "installed").read_text().split() == ["base-files"]


def test_packages_that_others_depend_on_are_kept(host: Host) -> None:
    (host.state / "docker-here").unlink()
    installed(host)
    (host.state / "needed-by").write_text("Purg docker-compose [1]\n")
    done = host.uninstall()
    assert done.returncode == 0, done.stderr
    assert "kept: " in done.stderr
    assert "because docker-compose would be removed with them" in done.stderr
    assert "docker.io" in (host.state / "installed").read_text()


def test_uninstalling_leaves_no_trace_and_keeps_existing_files(host: Host) -> None:
    host.write_settings()
    host.env_file.chmod(0o600)
    (host.root / "etc/beta9-worker").chmod(0o700)
    (host.root / "etc/rancher/k3s").mkdir(parents=True)
    existing_config = host.root / "etc/rancher/k3s/config.yaml"
    existing_config.write_text("debug: true\n")
    existing_config.with_name("registries.yaml").write_text("mirrors: {}\n")
    before = host.files()
    installed(host)
    assert "debug" not in existing_config.read_text()
    foreign = host.root / "etc/beta9-worker/secrets/notes"
    foreign.write_text("mine\n")
    dry = host.uninstall("--dry-run")
    assert "would undo: file" in dry.stderr
    assert (host.root / "usr/local/bin/k3s").exists()

    done = host.uninstall()
    assert done.returncode == 0, done.stderr
    after = host.files()
    assert after.pop("etc/beta9-worker/secrets/notes")
    assert after.pop("etc/beta9-worker/secrets")
    assert after == before
    assert not list((host.state / "systemctl").iterdir())
    assert "nothing to undo" in host.uninstall().stderr


def test_a_modified_file_is_kept_and_listed(host: Host) -> None:
    installed(host)
    changed = host.root / "etc/systemd/logind.conf.d/50-beta9-worker.conf"
    changed.write_text("[Login]\nInhibitDelayMaxSec=5\n")
    done = host.uninstall()
    assert done.returncode == 0, done.stderr
    assert f"kept: {changed} was modified since" in done.stderr
    assert changed.exists()


def test_purge_removes_settings_and_trees_as_well(host: Host) -> None:
    installed(host)
    (host.root / "opt/beta9-worker/releases").mkdir(parents=True)
    assert host.uninstall("--purge").returncode == 0
    assert not (host.root / "etc/beta9-worker").exists()
    assert not (host.root / "opt/beta9-worker").exists()


def test_an_existing_k3s_is_used_and_not_changed(host: Host) -> None:
    k3s = host.root / "usr/local/bin/k3s"
    k3s.write_text("#!/bin/sh\n# somebody else's\n[ \"$2 $3\" != 'get nodes' ] || echo True\nexit 0\n")
    k3s.chmod(0o755)
    sum_ = sha256(k3s)
    installed(host)
    assert sha256(k3s) == sum_
    assert not (host.root / "etc/rancher/k3s/config.yaml").exists()
    assert host.uninstall().returncode == 0
    assert sha256(k3s) == sum_


def test_a_logind_that_does_not_restart_does_not_fail_the_boot(host: Host) -> None:
    (host.state / "systemctl").mkdir(exist_ok=True)
    (host.state / "systemctl/systemd-logind.active").touch()
    (host.state / "refused-systemd-logind").touch()
    done = host.install()
    assert done.returncode == 0, done.stderr
    assert "its new setting takes effect at the next boot" in done.stderr
    (host.state / "refused-systemd-logind").unlink()
    assert host.install().returncode == 0
    assert host.calls("systemctl").count("restart systemd-logind") == 2


def test_an_agent_that_does_not_stay_up_fails_the_boot(host: Host) -> None:
    (host.state / "agent-sick").touch()
    done = host.install()
    assert done.returncode == 1
    assert host.timeline["failed_stage"] == "agent"
    assert "the agent exited and will not be restarted" in host.console_text()
    assert "journalctl -u beta9-worker" in host.console_text()
