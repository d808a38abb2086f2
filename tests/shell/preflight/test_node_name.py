"""The name of k3s's node: the host's, or what Kubernetes takes of it."""

from __future__ import annotations

import pytest

from tests.shell.install.fakehost import BOOTSTRAP, Host
from tests.shell.preflight.machine_network import preflight


def called(name: str) -> list[str]:
    """Return the command that runs another one on a machine of that name."""
    return [
        "unshare",
        "--uts",
        "sh",
        "-c",
        f"printf %s '{name}' >/proc/sys/kernel/hostname; exec \"$@\"",
        "sh",
    ]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("gpu_box_1", "gpu-box-1"),
        ("GPU-Box", "gpu-box"),
        ("box-", "box"),
        ("-box", "box"),
        ("box.", "box"),
        ("a..b", "a.b"),
        ("a.-b-.c", "a.b.c"),
        ("worker.example.com", "worker.example.com"),
        ("8gpus", "8gpus"),
        ("10.0.0.7", "10.0.0.7"),
        ("(none)", "none"),
        ("___", "worker"),
        ("rack 7/gpu 1", "rack-7-gpu-1"),
        ("n" * 63, "n" * 63),
        ("n" * 64, "n" * 63),
        ("a" * 31 + "." + "b" * 30 + "." + "c", "a" * 31 + "." + "b" * 30),
    ],
)
def test_a_host_name_becomes_a_name_that_kubernetes_takes(host: Host, name: str, node: str) -> None:
    """Field case 6.1: a node of such a name is never created; k3s waits for it, and names no reason."""
    done = host.step('. "$BETA9_BOOTSTRAP/lib/k3s.sh"; node_name; is_node_name "$(node_name)"', called(name))
    assert done.returncode == 0, done.stderr
    assert done.stdout == node


def test_the_node_of_an_unsuitable_host_name_gets_a_clean_one_and_keeps_it(host: Host) -> None:
    """Field case 6.1."""
    config = host.root / "etc/rancher/k3s/config.yaml"
    code, said = preflight(host, *called("gpu_box_1"))
    assert code == 0, said
    assert "k3s's node is called gpu-box-1" in said
    for name in ("gpu_box_1", "gpu_box_1", "gpu-box-two"):
        done = host.bash(BOOTSTRAP / "install.sh", "--env-file", str(host.env_file), within=called(name))
        assert done.returncode == 0, done.stderr
        assert 'node-name: "gpu-box-1"\n' in config.read_text()
    assert "done, 0 changes" in host.console_text().splitlines()[-1]


def test_a_name_in_somebody_s_own_configuration_of_k3s_is_used_or_refused(host: Host) -> None:
    """Field case 6.1: config.yaml.d overrides what the bootstrap writes."""
    own = host.root / "etc/rancher/k3s/config.yaml.d/name.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("node-name: 'mine'  # ours\n")
    assert preflight(host, *called("gpu_box_1"))[0] == 0
    own.write_text("node-name: not_mine\n")
    code, said = preflight(host, *called("fine"))
    assert code == 1
    assert "node-name 'not_mine' is not a name that Kubernetes accepts" in said
