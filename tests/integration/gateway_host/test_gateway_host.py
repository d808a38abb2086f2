"""bootstrap/gateway on a real host: setup.sh makes it right, and check.py names what is wrong."""

from __future__ import annotations

import ast
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.config import SERVER, TUNNEL, Option, merged, rendered
from agent.demo.sshd.program import find_sshd, free_port
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests.integration.ssh_client import DEADLINE_S, Ssh, dialled, listener, recorded, refusal, wait_until

GATEWAY = Path(__file__).parents[3] / "bootstrap" / "gateway"
DROP_IN = GATEWAY / "50-beta9-tunnel.conf"
AUTHORIZE = GATEWAY.parents[1] / "agent" / "commands" / "authorize.py"
MACHINE_ID = "1165a9b6"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes and removes an account")

Findings = dict[str, dict[str, str]]


def check(
    *arguments: str | Path, prefix: tuple[str, ...] = (), python: tuple[str, ...] = ()
) -> tuple[int, Findings]:
    """Run check.py as on a bare host: no packages (-S), no environment (-E). Returns exit code and findings."""
    command = [*prefix, sys.executable, *(python or ("-S", "-E", "-B")), str(GATEWAY / "check.py"), "--json"]
    result = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False
    )
    assert result.returncode in {0, 1}, result.stderr
    report = json.loads(result.stdout)
    assert report["ok"] == (result.returncode == 0)
    return result.returncode, {finding["name"]: finding for finding in report["findings"]}


def verdict(findings: Findings, name: str) -> str:
    return findings[name]["verdict"]


# --- The drop-in -------------------------------------------------------------------------------------------


def test_the_demo_server_is_restricted_as_the_drop_in_says() -> None:
    said = dict(
        line.strip().split(" ", 1)
        for line in DROP_IN.read_text().splitlines()
        if line.strip() and not line.strip().startswith(("#", "Match"))
    )
    places = {"AuthorizedKeysFile", "ChrootDirectory"}
    assert {name: value for name, value in said.items() if name not in places} == {
        **TUNNEL,
        "PubkeyAuthentication": SERVER["PubkeyAuthentication"],
        "MaxStartups": SERVER["MaxStartups"],
    }


# --- check.py: sshd ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """A gateway's host as far as sshd goes: a configuration and a key file, for the user who runs the tests."""

    directory: Path
    public_key: str
    user: str

    def configure(self, options: Mapping[str, Option], *lines: str) -> tuple[str | Path, ...]:
        """Write both; return the arguments for check.py."""
        keys = self.directory / "keys"
        keys.write_text(
            "".join(f"{line}\n" for line in lines or [key_line(self.public_key, Grant((MACHINE_ID,)))])
        )
        right: dict[str, Option] = {
            "HostKey": str(self.directory / "host_key"),
            "AuthorizedKeysFile": str(keys),
            "Subsystem": SERVER["Subsystem"],
            "MaxStartups": SERVER["MaxStartups"],
            "UsePAM": "no",
        }
        config = self.directory / "sshd_config"
        config.write_text(rendered(merged({**right, **TUNNEL}, options)))
        return "--sshd-config", config, "--user", self.user


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ThrowAwaySshd(tmp_path) as server:  # makes the keys, and what sshd needs to run at all
        server.stop()
        # `daemon` is on every Linux, is not root, and is not locked.
        yield Host(tmp_path, server.public_key(), "daemon")


def test_a_host_that_is_right_passes(host: Host) -> None:
    code, findings = check(*host.configure({}))
    failed = {name: finding for name, finding in findings.items() if finding["verdict"] == "failed"}
    assert (code, failed) == (0, {})
    assert {verdict(findings, name) for name in ("gateway-ports", "dead-peer", "session", "key-1")} == {"ok"}


@pytest.mark.parametrize(
    ("options", "name", "seen"),
    [
        ({"GatewayPorts": "no"}, "gateway-ports", "GatewayPorts no"),
        ({"GatewayPorts": "yes"}, "gateway-ports", "GatewayPorts yes"),
        ({"GatewayPorts": None}, "gateway-ports", "GatewayPorts no"),
        ({"AllowTcpForwarding": "no"}, "tcp-forwarding", "AllowTcpForwarding no"),
        ({"AllowTcpForwarding": "local"}, "tcp-forwarding", "AllowTcpForwarding local"),
        ({"AllowTcpForwarding": "remote"}, "tcp-forwarding", "AllowTcpForwarding remote"),
        ({"DisableForwarding": "yes"}, "disable-forwarding", "DisableForwarding yes"),
        ({"PermitListen": "127.0.0.1:6443"}, "permit-listen", "PermitListen 127.0.0.1:6443"),
        ({"PermitListen": "none"}, "permit-listen", "PermitListen none"),
        ({"ClientAliveInterval": None}, "dead-peer", "never ended"),
        ({"ClientAliveCountMax": "0"}, "dead-peer", "never ended"),
        ({"ClientAliveInterval": "30"}, "dead-peer", "after 90 s"),
        ({"PubkeyAuthentication": "no", "AuthenticationMethods": None}, "pubkey", "PubkeyAuthentication no"),
        ({"AuthenticationMethods": "publickey,password"}, "methods", "publickey,password"),
        ({"AllowUsers": "somebody else"}, "admitted", "AllowUsers somebody else"),
        ({"DenyUsers": "daem*"}, "admitted", "DenyUsers daem*"),
        ({"AllowGroups": "wheel"}, "admitted", "AllowGroups wheel"),
        ({"ChrootDirectory": "/nonexistent"}, "chroot", "/nonexistent: No such file"),
        ({"ChrootDirectory": "/tmp"}, "chroot", "/tmp is writable by others"),
        ({"AuthorizedKeysFile": "/nonexistent"}, "keys", "no key in /nonexistent"),
    ],
)
def test_a_setting_in_the_way_is_named_with_its_value_and_its_fix(
    host: Host, options: dict[str, Option], name: str, seen: str
) -> None:
    code, findings = check(*host.configure(options))
    assert code == 1
    assert verdict(findings, name) == "failed"
    assert seen in findings[name]["seen"]
    assert findings[name]["fix"]
    failed = {each for each in findings if verdict(findings, each) == "failed"}
    assert failed - {name} <= ({"target-names"} if name == "chroot" else set()), "and nothing else"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"MaxSessions": "0"}, "session"),
        ({"Subsystem": None}, "session"),
        ({"ForceCommand": "/bin/true"}, "session"),
        ({"MaxStartups": None}, "max-startups"),
        ({"PermitListen": None}, "permit-listen"),
        ({"PermitTTY": "yes"}, "restrictions"),
        ({"AllowStreamLocalForwarding": "yes"}, "restrictions"),
    ],
)
def test_what_works_but_could_be_better_is_a_warning(
    host: Host, options: dict[str, Option], name: str
) -> None:
    code, findings = check(*host.configure(options))
    assert (code, verdict(findings, name)) == (0, "warning")
    assert findings[name]["fix"]


def test_a_configuration_that_sshd_refuses_is_shown_in_its_own_words(host: Host) -> None:
    code, findings = check(*host.configure({"NoSuchOption": "1"}))
    assert code == 1
    assert "NoSuchOption" in findings["sshd-config"]["seen"]
    assert verdict(findings, "port-6443") in {"ok", "failed"}, "the other checks still run"


@pytest.mark.parametrize("slow", [True, False])
def test_versions_that_probe_dead_clients_slowly_are_named(host: Host, tmp_path: Path, slow: bool) -> None:
    """Stands for other OpenSSH versions: a program that says which it is, and is the real sshd in all else."""
    fake = tmp_path / "bin" / "sshd"
    fake.parent.mkdir()
    version = "9.4p1" if slow else "9.6p1"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" != -V ] || {{ echo "OpenSSH_{version}, x" >&2; exit; }}\nexec {find_sshd()} "$@"\n'
    )
    fake.chmod(0o755)
    _, findings = check(*host.configure({}), prefix=("env", f"PATH={fake.parent}:{os.environ['PATH']}"))
    assert verdict(findings, "openssh-version") == ("warning" if slow else "ok")
    assert version in findings["openssh-version"]["seen"]


def test_a_user_who_is_not_there_is_named(host: Host) -> None:
    arguments = host.configure({})
    code, findings = check(*arguments[:2], "--user", "nobody-there")
    assert code == 1
    assert verdict(findings, "account") == "failed"


# --- check.py: keys ----------------------------------------------------------------------------------------


def test_each_key_line_is_judged(host: Host) -> None:
    key = host.public_key
    lines = (
        key,
        f"restrict {key}",
        f"restrict,port-forwarding {key}",
        f'restrict,port-forwarding,permitopen="localhost:1",permitlisten="127.64.0.1:6443" {key}',
        f'restrict,port-forwarding,permitopen="localhost:31994",permitlisten="0.0.0.0:6443" {key}',
        key_line(key, Grant()),
        "hello",
    )
    code, findings = check(*host.configure({}, *lines))
    verdicts = [verdict(findings, f"key-{number}") for number in range(1, 8)]
    assert code == 1
    assert verdicts == ["warning", "failed", "warning", "failed", "failed", "ok", "failed"]
    assert "localhost:31994" in findings["key-4"]["fix"]


def test_a_key_file_that_others_may_write_is_named(host: Host) -> None:
    arguments = host.configure({})
    (host.directory / "keys").chmod(0o666)
    _, findings = check(*arguments)
    assert verdict(findings, "key-file") == "failed"


# --- check.py: port 6443 -----------------------------------------------------------------------------------

_TAKE_PORT = """
import socket, subprocess, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], 6443), family=family, dualstack_ipv6=family == socket.AF_INET6):
    raise SystemExit(subprocess.run(sys.argv[2:]).returncode)
"""


@as_root
@pytest.mark.parametrize(
    ("address", "expected"), [("0.0.0.0", "failed"), ("::", "failed"), ("127.0.0.1", "ok")]
)
def test_a_wildcard_listener_on_6443_is_named_with_its_process(
    host: Host, address: str, expected: str
) -> None:
    """In a network namespace of its own, so that nobody else's listeners are disturbed."""
    namespace = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    take_port = (sys.executable, "-c", _TAKE_PORT, address)
    _, findings = check(*host.configure({}), prefix=(*namespace, *take_port))
    assert verdict(findings, "port-6443") == expected
    if expected == "failed":
        assert "python" in findings["port-6443"]["seen"]
        assert "pid" in findings["port-6443"]["seen"]


_POOL_KEY = """
import socket, sys
from pathlib import Path
from agent.core.tunnel.addresses import candidates
from agent.core.provisioning.authorized_keys import Grant
from agent.demo.sshd.throwaway import ThrowAwaySshd
from tests.integration.ssh_client import Ssh, dialled, listener, wait_until
address, user = candidates("1165a9b6")[0], sys.argv[1]
forwards = [part for port, host in (("18801", "127.0.0.1"), ("18802", address), ("18803", "[::1]"))
            for part in ("-L", f"127.0.0.1:{port}:{host}:6443")]
with (listener(b"k3s") as k3s, ThrowAwaySshd(user=user, grant=Grant()) as server,
      socket.create_server(("127.0.0.1", 6443)),
      Ssh(server, "-R", f"{address}:6443:127.0.0.1:{k3s}", *forwards) as client):
    wait_until(lambda: dialled("127.0.0.1", 18802) == b"k3s", "the machine's k3s")
    assert dialled("127.0.0.1", 18801) == b"", "refused, though somebody listens"
    assert client.stderr().count("connect failed: Connection refused") == 1
    assert dialled("127.0.0.1", 18803) == b""
"""


@as_root
def test_the_firewall_file_holds_a_pools_key_to_the_workers_addresses(site: Site) -> None:
    """In a network namespace of its own: a k3s of the host's on 127.0.0.1:6443, and rules like the shipped ones."""
    assert site.setup().returncode == 0
    rules = site.directory / "pool-key.nft"
    rules.write_text((GATEWAY / "pool-key.nft").read_text().replace('"beta9-tunnel"', f'"{site.user}"'))
    script = f'ip link set lo up && nft -f {rules} && nft -f {rules} && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", _POOL_KEY, site.user]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False)
    assert result.returncode == 0, result.stderr


# --- check.py: the gateway's own configuration ---------------------------------------------------------------


def gateway_config() -> dict[str, object]:
    sizing = {"defaultWorkerGpuType": "A10G", "minFreeCpu": 0, "minFreeMemory": "0Gi", "minFreeGPU": "0"}
    gpu = {"mode": "external", "provider": "generic", "gpuType": "A10G", "poolSizing": sizing}
    return {
        "tailscale": {"directRedisHost": "redis.example.com", "authKey": "very-secret", "enabled": False},
        "worker": {"pools": {"default": {"mode": "local"}, "gpu": gpu}},
    }


def changed(path: str, value: object) -> dict[str, object]:
    config = gateway_config()
    *parents, last = path.split(".")
    place: dict[str, object] = config
    for name in parents:
        place = place[name]  # type: ignore[assignment]
    place[last] = value
    return config


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_gateway_that_is_right_passes_in_either_format(host: Host, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config.{suffix}"
    path.write_text(yaml.safe_dump(gateway_config()) if suffix == "yaml" else json.dumps(gateway_config()))
    code, findings = check(*host.configure({}), "--config", path, python=("-B",))
    assert code == 0
    assert verdict(findings, "pool gpu: minFree") == "ok"
    assert "very-secret" not in json.dumps(findings)
    assert not any("default" in name for name in findings), "a local pool is not the workers' business"


@pytest.mark.parametrize(
    ("path", "value", "name", "expected"),
    [
        ("tailscale.directRedisHost", "", "directRedisHost", "failed"),
        ("tailscale.directRedisHost", None, "directRedisHost", "failed"),
        ("tailscale", None, "directRedisHost", "failed"),
        ("tailscale.authKey", "", "tailnet-login", "warning"),
        ("worker.pools.gpu.mode", "local", "pools", "failed"),
        ("worker.pools", None, "pools", "failed"),
        ("worker.pools.gpu.provider", "ec2", "pool gpu: provider", "failed"),
        ("worker.pools.gpu.provider", None, "pool gpu: provider", "failed"),
        ("worker.pools.gpu.poolSizing.defaultWorkerGpuType", "", "pool gpu: gpuType", "failed"),
        ("worker.pools.gpu.gpuType", "H100", "pool gpu: gpuType", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeCpu", "1000m", "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeMemory", "1Gi", "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing.minFreeGPU", 1, "pool gpu: minFree", "failed"),
        ("worker.pools.gpu.poolSizing", None, "pool gpu: gpuType", "failed"),
    ],
)
def test_a_setting_without_which_no_worker_is_placed_is_named(  # noqa: PLR0917 - a table's columns
    host: Host, tmp_path: Path, path: str, value: object, name: str, expected: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(changed(path, value)))
    code, findings = check(*host.configure({}), "--config", config)
    assert (code, verdict(findings, name)) == (1 if expected == "failed" else 0, expected)
    assert findings[name]["fix"]


def test_a_pool_asked_for_by_name_must_be_there(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(gateway_config()))
    _, findings = check(*host.configure({}), "--config", config, "--pool", "GPU")
    assert verdict(findings, "pool GPU") == "failed"
    _, findings = check(*host.configure({}), "--config", config, "--pool", "default")
    assert verdict(findings, "pool default: mode") == "failed"


@pytest.mark.parametrize(
    ("name", "text", "expected", "said"),
    [
        ("config.yaml", "a: 1", "skipped", "install python3-yaml"),
        ("config.json", '{"secret": ', "failed", "is not JSON"),
        ("config.json", "[1]", "failed", "holds no settings"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_explained(  # noqa: PLR0917 - a table's columns
    host: Host, tmp_path: Path, name: str, text: str, expected: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    _, findings = check(*host.configure({}), "--config", tmp_path / name)
    finding = findings["gateway-config"]
    assert finding["verdict"] == expected
    assert said in finding["seen"] + finding["fix"]


def test_broken_yaml_is_named_by_line_and_not_quoted(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("password: hunter2\n  broken: [\n")
    _, findings = check(*host.configure({}), "--config", config, python=("-B",))
    assert "line 2" in findings["gateway-config"]["seen"]
    assert "hunter2" not in json.dumps(findings)


def test_the_check_is_text_for_people_and_runs_on_older_pythons(host: Host) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-S",
            "-E",
            "-B",
            str(GATEWAY / "check.py"),
            *map(str, host.configure({"GatewayPorts": "no"})),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 1
    assert "failed   gateway-ports" in result.stdout
    assert "-> install 50-beta9-tunnel.conf" in result.stdout
    for path in GATEWAY.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_guide_names_every_finding_and_no_option_that_is_not_there(host: Host, tmp_path: Path) -> None:
    guide = (GATEWAY.parents[1] / "docs" / "gateway-setup.md").read_text(encoding="utf-8")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(gateway_config()))
    _, findings = check(*host.configure({}), "--config", config)
    names = {"pool …" if name.startswith("pool ") else name for name in findings}
    assert [name for name in names if f"`{name}`" not in guide] == []
    programs = " ".join(
        path.read_text(encoding="utf-8") for path in [*GATEWAY.iterdir(), AUTHORIZE] if path.is_file()
    )
    assert [option for option in re.findall(r"--[a-z][a-z-]+", guide) if option not in programs] == []


# --- setup.sh ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A place like /etc/ssh (root's alone, so that StrictModes can stay on), and a user name nobody has."""

    directory: Path
    user: str
    port: int

    @property
    def config(self) -> Path:
        return self.directory / "sshd_config"

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(GATEWAY / "setup.sh"), "--sshd-config", str(self.config), "--user", self.user]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def made(self) -> dict[str, str]:
        """Everything that setup.sh makes, and how it looks now."""
        files = [*self.directory.rglob("*"), *Path(f"/var/lib/{self.user}").rglob("*")]
        found = {
            str(path): path.read_text() for path in files if path.is_file() and "host_key" not in path.name
        }
        accounts = [repr(entry) for entry in pwd.getpwall() if entry.pw_name == self.user]
        return {**found, **dict(zip(["account"], accounts, strict=False))}


@pytest.fixture
def site() -> Iterator[Site]:
    name = f"b9t-{secrets.token_hex(3)}"
    directory = Path("/run") / name
    directory.mkdir(mode=0o755)
    made = Site(directory, name, free_port("127.0.0.1"))
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key")], check=True
    )
    made.config.write_text(
        f"Include {directory}/sshd_config.d/*.conf\nPort {made.port}\nListenAddress 127.0.0.1\n"
        f"HostKey {directory}/host_key\nPidFile {directory}/pid\nUsePAM no\nLogLevel VERBOSE\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    try:
        yield made
    finally:
        made.setup("--remove")
        shutil.rmtree(directory)
        assert name not in {entry.pw_name for entry in pwd.getpwall()}
        assert not Path(f"/var/lib/{name}").exists()


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    key = tmp_path / "worker"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "worker", "-f", str(key)], check=True
    )
    return key


class Running:
    """A real sshd on a site's configuration, looking to `Ssh` like the throw-away one."""

    host = "127.0.0.1"

    def __init__(self, site: Site, key: Path) -> None:
        self.port, self.user, self.key_path = site.port, site.user, key
        self.known_hosts_path = site.directory / "known_hosts"
        public = (site.directory / "host_key.pub").read_text()
        self.known_hosts_path.write_text(f"[127.0.0.1]:{site.port} {public}")
        self._log = site.directory / "log"
        self.process = subprocess.Popen([find_sshd(), "-D", "-f", str(site.config), "-E", str(self._log)])
        wait_until(lambda: "Server listening" in self.log(), "sshd")

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def __enter__(self) -> ThrowAwaySshd:
        return self  # type: ignore[return-value]

    def __exit__(self, *_: object) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        self.process.kill()
        self.process.wait()


@as_root
def test_after_setup_a_worker_gets_in_and_can_do_what_it_must_and_no_more(site: Site, worker: Path) -> None:
    with listener(b"gateway") as gateway, listener(b"k3s") as k3s:
        target = f"localhost:{gateway}"
        result = site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub", "--target", target)
        assert result.returncode == 0, result.stderr
        machine_id, address, forward = MACHINE_ID, candidates(MACHINE_ID)[0], free_port("127.0.0.1")
        with Running(site, worker) as server:
            code, findings = check("--sshd-config", site.config, "--user", site.user, "--target", target)
            assert (code, verdict(findings, "target-names")) == (0, "ok"), findings
            with Ssh(server, "-L", f"{forward}:{target}", "-R", f"{address}:6443:127.0.0.1:{k3s}") as client:
                wait_until(lambda: dialled(address, 6443) == b"k3s", f"the k3s of {machine_id}")
                assert dialled("127.0.0.1", forward) == b"gateway", "localhost is known inside the chroot"
                assert client.running()
            assert refusal(server, "-R", "127.0.0.1:6443:127.0.0.1:9") == recorded(
                "remote bind not in permitlisten"
            )
            with Ssh(server, command=["id"]) as client:
                wait_until(lambda: "forced-command (config)" in server.log(), "the forced command")
                assert client.running(), "sftp waits for requests; nothing else was started"


@as_root
def test_setup_twice_changes_nothing_and_a_second_key_is_added(
    site: Site, worker: Path, tmp_path: Path
) -> None:
    arguments = ("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub")
    assert site.setup(*arguments).returncode == 0
    made = site.made()
    assert len(made) == 5, "the account, two configurations, the keys, etc/hosts"
    again = site.setup(*arguments)
    assert again.returncode == 0
    assert again.stdout.splitlines()[:-1] == []
    assert site.made() == made
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    line = key_line(Path(f"{other}.pub").read_text(), Grant())
    assert site.setup("--key-line", line).returncode == 0
    keys = (site.directory / f"{site.user}.keys").read_text().splitlines()
    assert [key.split()[-3:-1] for key in keys] == [
        Path(f"{path}.pub").read_text().split()[:2] for path in (worker, other)
    ]


@as_root
def test_the_line_of_a_key_that_is_there_is_replaced(site: Site, worker: Path) -> None:
    for machine_id in ("00000000", MACHINE_ID):
        assert site.setup("--machine-id", machine_id, "--public-key", f"{worker}.pub").returncode == 0
    text = (site.directory / f"{site.user}.keys").read_text()
    assert text == key_line(Path(f"{worker}.pub").read_text(), Grant((MACHINE_ID,))) + "\n"


@as_root
def test_a_dry_run_says_everything_and_changes_nothing(site: Site, worker: Path) -> None:
    before = site.made()
    result = site.setup("--dry-run", "--pool-key", "--public-key", f"{worker}.pub")
    assert result.returncode == 0
    assert site.made() == before
    for change in (f"would add the user {site.user}", "would set an impossible", "would write", "50-"):
        assert change in result.stdout


@as_root
def test_remove_takes_everything_back_and_ends_sessions(site: Site, worker: Path) -> None:
    before = site.made()
    assert site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub").returncode == 0
    with Running(site, worker) as server, Ssh(server) as client:
        wait_until(lambda: "forced-command (config)" in server.log(), "the session")
        result = site.setup("--remove")
        assert result.returncode == 0, result.stderr
        client.failed()
        wait_until(lambda: server.log().count("Server listening") == 2, "the reload")
        assert "Permission denied" in refusal(server)
    after = {
        path: text
        for path, text in site.made().items()
        if Path(path).name not in {"log", "pid", "known_hosts"}
    }
    assert after == before
    again = site.setup("--remove")
    assert (again.returncode, again.stdout) == (0, "")


@as_root
def test_a_running_sshd_is_reloaded(site: Site, worker: Path) -> None:
    with Running(site, worker) as server:
        assert "Permission denied" in refusal(server)
        assert site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub").returncode == 0
        wait_until(lambda: server.log().count("Server listening") == 2, "the reload")
        with Ssh(server):
            wait_until(lambda: "forced-command (config)" in server.log(), "the session")


@as_root
@pytest.mark.parametrize("line", ["ssh-ed25519 AAAA x", 'command="sh" ssh-ed25519 AAAA x', "restrict,pty x"])
def test_a_key_line_that_gives_more_than_forwards_is_refused(site: Site, line: str) -> None:
    before = site.made()
    result = site.setup("--key-line", line)
    assert result.returncode == 1
    assert "beta9-worker authorize" in result.stderr
    assert site.made() == before


@as_root
def test_a_key_that_cannot_be_used_changes_nothing(site: Site, worker: Path) -> None:
    before = site.made()
    result = site.setup("--machine-id", MACHINE_ID, "--public-key", str(worker))
    assert result.returncode == 1
    assert "private key" in result.stderr
    assert site.made() == before


@as_root
def test_a_configuration_that_reads_no_drop_ins_is_said(site: Site, worker: Path) -> None:
    _, _, rest = site.config.read_text().partition("\n")
    site.config.write_text(rest)
    result = site.setup("--pool-key", "--public-key", f"{worker}.pub")
    assert result.returncode == 1
    assert f"Include {site.directory}/sshd_config.d/*.conf" in result.stderr


@as_root
def test_a_configuration_that_is_broken_already_keeps_its_drop_in(site: Site, worker: Path) -> None:
    with site.config.open("a") as file:
        file.write("NoSuchOption yes\n")
    result = site.setup("--pool-key", "--public-key", f"{worker}.pub")
    assert result.returncode == 1
    assert "NoSuchOption" in result.stderr
    assert not (site.directory / "sshd_config.d" / f"50-{site.user}.conf").exists()


@as_root
def test_a_persons_account_is_neither_changed_nor_removed(site: Site) -> None:
    for arguments in ((), ("--remove",)):
        result = site.setup("--user", "daemon", *arguments)
        assert result.returncode == 1
        assert "was not made by this script" in result.stderr


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--key-line",), ("positional",)])
def test_called_wrongly_it_shows_its_use(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [str(GATEWAY / "setup.sh"), *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "--dry-run" in result.stderr
