"""The command line of each OpenSSH child: every option that the design asks for, and nothing secret."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from dataclasses import replace

import pytest

from agent.core.policy import Policy
from agent.core.tunnel.host_key_pins import ShownKey
from agent.core.tunnel.model import Purpose
from agent.core.tunnel.ssh_argv import Endpoint, Forwards, Server, argv
from tests.unit.core_cases import ADDRESSES

ENDPOINT = Endpoint("gateway.example.com", 2222, "beta9-tunnel", "/run/b9/ssh_key", "/run/b9/known_hosts")
FORWARDS = Forwards(
    gateway="127.0.0.1:1994:localhost:31994",
    data=("127.0.0.1:6379:redis:6379", "127.0.0.1:1993:grpc:1993"),
    probe_sockets=tuple(f"/run/b9/probe{n}.sock" for n in range(4)),
    addresses=ADDRESSES,
)


def words(
    purpose: Purpose = Purpose.API, endpoint: Endpoint = ENDPOINT, session: bool = True
) -> tuple[str, ...]:
    address = ADDRESSES[1] if purpose is Purpose.REVERSE else None
    return argv(purpose, endpoint, FORWARDS, Policy(), address=address, session=session)


def options(line: tuple[str, ...]) -> dict[str, str]:
    pairs = [word for before, word in itertools.pairwise(line) if before == "-o"]
    return dict(pair.split("=", 1) for pair in pairs)


def forwards(line: tuple[str, ...], flag: str) -> list[str]:
    return [word for before, word in itertools.pairwise(line) if before == flag]


@pytest.mark.parametrize("purpose", Purpose)
def test_every_child_has_every_option_of_the_design(purpose: Purpose) -> None:
    line = words(purpose)
    assert line[:3] == ("ssh", "-F", "none")
    given = options(line)
    expected = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ExitOnForwardFailure": "yes",
        "ConnectTimeout": "5",
        "ServerAliveInterval": "4",
        "ServerAliveCountMax": "2",
        "TCPKeepAlive": "no",
        "ControlMaster": "no",
        "ForwardAgent": "no",
    }
    assert {name: given.get(name) for name in expected} == expected
    assert given["UserKnownHostsFile"] == '"/run/b9/known_hosts"'


def test_the_server_is_named_after_all_options_so_that_no_host_name_is_one() -> None:
    line = words(endpoint=replace(ENDPOINT, host="-oProxyCommand=evil"))
    assert line[line.index("--") + 1 :] == ("-oProxyCommand=evil", "sftp")


def test_a_session_channel_is_a_subsystem_without_shell_or_terminal() -> None:
    line = words()
    assert {"-T", "-s"} <= set(line)
    assert "-N" not in line
    assert line[-1] == "sftp"


def test_where_the_server_refuses_sessions_the_child_only_forwards() -> None:
    line = words(session=False)
    assert "-N" in line
    assert "-s" not in line
    assert line[-1] == ENDPOINT.host


def test_the_api_child_reaches_the_gateway_and_probes_every_address() -> None:
    assert forwards(words(Purpose.API), "-L") == [
        "127.0.0.1:1994:localhost:31994",
        *(f"/run/b9/probe{n}.sock:{address}:6443" for n, address in enumerate(ADDRESSES)),
    ]
    assert forwards(words(Purpose.API), "-R") == []


def test_the_reverse_child_opens_its_one_address_and_nothing_else() -> None:
    line = words(Purpose.REVERSE)
    assert forwards(line, "-R") == ["127.70.1.2:6443:127.0.0.1:6443"]
    assert forwards(line, "-L") == []


def test_the_data_child_opens_what_worker_pods_asked_for() -> None:
    assert forwards(words(Purpose.DATA), "-L") == list(FORWARDS.data)


def test_timings_never_become_zero_which_would_switch_them_off() -> None:
    policy = replace(Policy(), ssh_connect_timeout_s=0.2, ssh_alive_interval_s=0.1, ssh_alive_count=0)
    given = options(argv(Purpose.API, ENDPOINT, FORWARDS, policy))
    assert [given[name] for name in ("ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax")] == [
        "1"
    ] * 3


@pytest.mark.parametrize(
    "path", ["/run/with space/known_hosts", "/run/100%/known_hosts", "/run/%h/known_hosts"]
)
def test_ssh_itself_reads_a_strange_path_as_it_was_meant(path: str) -> None:
    line = words(endpoint=replace(ENDPOINT, known_hosts_path=path, key_path="/run/b9/key"))
    # `ssh -G` prints the options as ssh understood them; it connects to nobody.
    done = subprocess.run(["ssh", "-G", *line[1:]], capture_output=True, text=True, check=True, timeout=30)
    told = dict(each.split(" ", 1) for each in done.stdout.splitlines() if " " in each)
    # ssh shows what it will expand, so a literal per cent sign is still doubled here.
    assert told["userknownhostsfile"].strip('"').replace("%%", "%") == path


@pytest.mark.parametrize("purpose", Purpose)
def test_ssh_takes_the_whole_line(purpose: Purpose) -> None:
    done = subprocess.run(
        ["ssh", "-G", *words(purpose)[1:]], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    told = dict(each.split(" ", 1) for each in done.stdout.splitlines() if " " in each)
    assert told["hostname"] == ENDPOINT.host
    assert (told["user"], told["port"]) == (ENDPOINT.user, "2222")
    assert told["stricthostkeychecking"] == "true"


def test_a_fingerprint_takes_the_place_of_the_known_hosts_file() -> None:
    pinned = replace(ENDPOINT, known_hosts_path=None, fingerprints=("SHA256:" + "A" * 43,))
    refused = [
        ShownKey("[gateway.example.com]:2222", "ssh-ed25519", ""),
        ShownKey("another.example", "ssh-rsa", ""),
    ]
    given = options(argv(Purpose.API, pinned, FORWARDS, Policy(), refused=refused))
    assert "SHA256:" + "A" * 43 in given["KnownHostsCommand"]
    assert given["UserKnownHostsFile"] == "/dev/null"
    assert given["HostKeyAlgorithms"] == "-*-cert-v01@openssh.com,*ed25519*"
    assert "KnownHostsCommand" not in options(words())


def test_in_a_hurry_each_address_gets_only_a_moment() -> None:
    assert options(argv(Purpose.API, ENDPOINT, FORWARDS, Policy(), hurry=True))["ConnectTimeout"] == "1"


THROUGH = replace(
    ENDPOINT,
    known_hosts_path="/run/100%/known_hosts",
    jumps=(Server("outer.example", 22, "me"), Server("2001:db8::7", 2200, "you")),
)


def test_each_jump_host_has_an_ssh_of_its_own_with_the_same_options() -> None:
    line = argv(Purpose.API, THROUGH, FORWARDS, Policy(), wrapper=("setpriv", "--"))
    given = options(line)
    inner = shlex.split(given["ProxyCommand"].replace("%%", "%"))
    outer = shlex.split(options(tuple(inner))["ProxyCommand"].replace("%%", "%"))
    assert inner[-4:] == ["-W", "[gateway.example.com]:2222", "--", "2001:db8::7"]
    assert outer[-4:] == ["-W", "[2001:db8::7]:2200", "--", "outer.example"]
    for command, user, port, timeout_s in ((inner, "you", "2200", "10"), (outer, "me", "22", "5")):
        assert command[:5] == ["setpriv", "--", "ssh", "-F", "none"]
        assert command[command.index("-l") + 1] == user
        assert command[command.index("-p") + 1] == port
        own = options(tuple(command))
        assert own["ConnectTimeout"] == timeout_s
        differ = {name for name in given if own.get(name) != given[name]}
        assert differ <= {"ConnectTimeout", "LogLevel", "ProxyCommand"}
    assert given["ConnectTimeout"] == "15"


def test_ssh_itself_reads_the_way_through_jump_hosts_as_it_was_meant() -> None:
    pinned = replace(THROUGH, known_hosts_path=None, fingerprints=("SHA256:" + "A" * 43,))
    refused = [ShownKey("[2001:db8::7]:2200", "ssh-ed25519", "")]
    inner = shlex.split(
        options(argv(Purpose.API, pinned, FORWARDS, Policy(), refused=refused))["ProxyCommand"].replace(
            "%%", "%"
        )
    )
    done = subprocess.run(["ssh", "-G", *inner[1:]], capture_output=True, text=True, check=True, timeout=30)
    told = dict(each.split(" ", 1) for each in done.stdout.splitlines() if " " in each)
    assert (told["hostname"], told["port"], told["user"]) == ("2001:db8::7", "2200", "you")
    assert told["knownhostscommand"] == options(tuple(inner))["KnownHostsCommand"]
    assert "ed25519" not in told["hostkeyalgorithms"]


def test_the_key_travels_as_a_file_and_never_as_text() -> None:
    line = words()
    assert line[line.index("-i") + 1] == ENDPOINT.key_path
    assert not [word for word in line if "PRIVATE KEY" in word or "\n" in word]


def test_any_port_is_held_to_the_hairpin_and_opens_nothing_else() -> None:
    hairpin = replace(FORWARDS, hairpin="198.18.0.2")
    line = argv(Purpose.REVERSE, ENDPOINT, hairpin, Policy(), address=ADDRESSES[1], any_port=True)
    assert options(line)["PermitRemoteOpen"] == "198.18.0.2:* 198.18.0.2:*"
    assert forwards(line, "-R") == [f"{ADDRESSES[1]}:1080"]
    assert forwards(line, "-L") == []
