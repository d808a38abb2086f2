"""A kernel, a container or other programs with which k3s cannot work; limits that are raised for it."""

from __future__ import annotations

import pytest

from tests.shell.install.fakehost import Host
from tests.shell.preflight.machine_network import FINE, preflight, program


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("sys/fs/cgroup/cgroup.controllers", None, "cgroup version 1"),
        ("sys/fs/cgroup/unified/cgroup.controllers", "cpu memory", "cgroup version 1"),
        (
            "sys/fs/cgroup/cgroup.controllers",
            "cpuset cpu io pids",
            "cgroup controllers that k3s needs: memory",
        ),
        ("sys/fs/cgroup/cgroup.controllers", "", "cgroup controllers that k3s needs: cpu cpuset memory pids"),
        ("run/systemd/container", "lxc", "this is a container (lxc)"),
        ("run/systemd/container", "systemd-nspawn", "this is a container (systemd-nspawn)"),
        ("run/systemd/container", "openvz", "this is a container (openvz)"),
        ("run/systemd/container", "wsl", "this is a container (wsl)"),
    ],
)
def test_a_kernel_or_container_without_room_for_kubernetes(
    host: Host, path: str, content: str | None, said: str
) -> None:
    """Field cases 6.4 and 6.5."""
    (host.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    if content is not None:
        (host.root / path).parent.mkdir(parents=True, exist_ok=True)
        (host.root / path).write_text(f"{content}\n")
    code, text = preflight(host)
    assert code == 1
    assert said in text


@pytest.mark.parametrize(
    ("unit", "said"),
    [("kubelet", "(kubelet)"), ("k0sworker", "(k0sworker)"), ("rke2-server", "(rke2-server)")],
)
def test_another_kubernetes_that_starts_later_is_found(host: Host, unit: str, said: str) -> None:
    """Field case 6: its kubelet would take the port at the next boot."""
    (host.state / "systemctl").mkdir()
    (host.state / f"systemctl/{unit}.enabled").touch()
    code, text = preflight(host)
    assert code == 1
    assert f"another Kubernetes is installed here {said}" in text


@pytest.mark.parametrize(
    ("protocol", "port", "said"),
    [
        ("tcp", 10257, "used by kube-controller"),
        ("tcp", 6444, "used by haproxy"),
        ("udp", 8472, "used by vxland"),
    ],
)
def test_k3s_s_other_ports_must_be_free_too(host: Host, protocol: str, port: int, said: str) -> None:
    """Field case 6: k3s starts, and one of its parts does not."""
    holder = said.rsplit(maxsplit=1)[-1]
    line = f'LISTEN 0 5 *:{port} *:* users:(("{holder}",pid=9,fd=3))'
    program(host, "ss", f"[[ $* != *--{protocol}*':{port}' ]] || echo '{line}'")
    code, text = preflight(host)
    assert code == 1
    assert f"port {port}, which k3s needs, is {said}" in text


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("date", "[[ $1 != +%s ]] && echo 1970-01-01 || echo 12345", "this machine's clock says 1970-01-01"),
        ("findmnt", "echo rw,nosuid,nodev,noexec", "/var/lib is mounted noexec"),
        (
            "unshare",
            "echo 'Error: Unknown device type.' >&2; exit 2",
            "bridge, vxlan: Error: Unknown device type.",
        ),
    ],
)
def test_a_clock_a_mount_or_a_kernel_with_which_k3s_cannot_work(
    host: Host, name: str, body: str, said: str
) -> None:
    """Field case 6."""
    program(host, name, body)
    code, text = preflight(host)
    assert code == 1
    assert said in text


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_k3s_that_works_is_proof_enough(host: Host, is_ours: bool) -> None:
    """One that runs, or that somebody else installed, is not checked again."""
    (host.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    (host.state / "systemctl").mkdir()
    (host.state / "systemctl/k3s.active").touch()
    if not is_ours:
        (host.root / "usr/local/bin/k3s").write_text("somebody's\n")
    code, text = preflight(host)
    assert code == 0, text


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("k3s.enabled", FINE),
        ("k3s-agent.enabled", "this machine is an agent of another k3s cluster"),
        ("unrelated.enabled", "no k3s answers: start it, or remove the file"),
    ],
)
def test_an_existing_k3s_that_nothing_starts_is_found(host: Host, unit: str, said: str) -> None:
    """Field case 6: the step k3s would wait for it, in vain."""
    (host.root / "usr/local/bin/k3s").write_text("#!/bin/sh\nexit 1\n")
    (host.root / "usr/local/bin/k3s").chmod(0o755)
    (host.state / "systemctl").mkdir()
    (host.state / "systemctl" / unit).touch()
    code, text = preflight(host)
    assert (code == 0) is (said == FINE)
    assert said in text


@pytest.mark.parametrize(("instances", "watches"), [("128", "1048576"), ("0", "8192"), ("65536", "65536")])
def test_limits_of_inotify_are_raised_for_good_and_restored_by_uninstall(
    host: Host, instances: str, watches: str
) -> None:
    """Field case 6.8: beyond fs.inotify.max_user_instances k3s does not start, or pods fail."""
    limits = host.root / "proc/sys/fs/inotify"
    (limits / "max_user_instances").write_text(f"{instances}\n")
    (limits / "max_user_watches").write_text(f"{watches}\n")
    host.write_settings()
    host.env_file.chmod(0o600)
    (host.root / "etc/beta9-worker").chmod(0o700)
    before = host.files()
    for _ in range(2):
        assert host.install().returncode == 0
        assert int((limits / "max_user_instances").read_text()) == max(8192, int(instances))
        assert int((limits / "max_user_watches").read_text()) == max(524288, int(watches))
    assert "done, 0 changes" in host.console_text().splitlines()[-1]
    lines = (host.root / "etc/sysctl.d/90-beta9-worker.conf").read_text().splitlines()
    wanted = ["fs.inotify.max_user_instances = 8192"] if int(instances) < 8192 else []
    wanted += ["fs.inotify.max_user_watches = 524288"] if int(watches) < 524288 else []
    assert lines[1:] == wanted
    assert host.uninstall().returncode == 0
    assert host.files() == before
