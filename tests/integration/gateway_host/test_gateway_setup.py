"""bootstrap/gateway/setup.sh: what it changes on a real host, and how it takes that back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.core.tunnel.addresses import candidates
from agent.demo.sshd.program import free_port
from tests.integration.gateway_host.check_program import GATEWAY, MACHINE_ID, check, knows, verdict
from tests.integration.gateway_host.other_sshds import with_penalties, with_version
from tests.integration.gateway_host.setup_site import Site, SiteSshd
from tests.integration.ssh_client import (
    DEADLINE_S,
    Ssh,
    as_root,
    greeting_from,
    listener,
    recorded,
    refusal,
    wait_until,
)


@as_root
def test_after_setup_a_worker_gets_in_and_can_do_what_it_must_and_no_more(site: Site, worker: Path) -> None:
    with listener(b"gateway") as gateway, listener(b"k3s") as k3s:
        target = f"localhost:{gateway}"
        result = site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub", "--target", target)
        assert result.returncode == 0, result.stderr
        machine_id, address, forward = MACHINE_ID, candidates(MACHINE_ID)[0], free_port("127.0.0.1")
        with SiteSshd(site, worker) as server:
            code, findings = check("--sshd-config", site.config, "--user", site.user, "--target", target)
            assert (code, verdict(findings, "target-names")) == (0, "ok"), findings
            with Ssh(server, "-L", f"{forward}:{target}", "-R", f"{address}:6443:127.0.0.1:{k3s}") as client:
                wait_until(lambda: greeting_from(address, 6443) == b"k3s", f"the k3s of {machine_id}")
                assert greeting_from("127.0.0.1", forward) == b"gateway", (
                    "localhost is not resolved inside the chroot"
                )
                assert client.running()
            assert refusal(server, "-R", "127.0.0.1:6443:127.0.0.1:9") == recorded(
                "remote bind not in permitlisten"
            )
            with Ssh(server, command=["id"]) as client:
                wait_until(lambda: "forced-command (config)" in server.log(), "the forced command")
                assert client.running(), "sftp-server should wait for requests"


@as_root
def test_setup_twice_changes_nothing_and_a_second_key_is_added(
    site: Site, worker: Path, tmp_path: Path
) -> None:
    arguments = ("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub")
    assert site.setup(*arguments).returncode == 0
    before = site.files_and_account()
    assert len(before) == 5, "the account, two configurations, the keys, etc/hosts"
    again = site.setup(*arguments)
    assert again.returncode == 0
    assert again.stdout.splitlines()[:-1] == []
    assert site.files_and_account() == before
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    line = key_line(Path(f"{other}.pub").read_text(), Grant())
    assert site.setup("--key-line", line).returncode == 0
    keys = (site.directory / f"{site.user}.keys").read_text().splitlines()
    assert [key.split()[-3:-1] for key in keys] == [
        Path(f"{path}.pub").read_text().split()[:2] for path in (worker, other)
    ]


@as_root
@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (("--machine-id", MACHINE_ID), "localhost:31994"),
        (("--machine-id", MACHINE_ID, "--target", "TARGET", "--forward", "6379:localhost:6379"), "TARGET"),
        (("--pool-key", "--target", "TARGET"), "TARGET"),
        ((), "TARGET"),
    ],
)
def test_the_check_that_it_ends_with_is_followed_literally(
    site: Site, worker: Path, tmp_path: Path, arguments: tuple[str, ...], target: str
) -> None:
    """Field case A6: the hint left out --sshd-config and --target, and three checks failed for that alone."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    with listener(b"gateway") as gateway:
        target = target.replace("TARGET", f"localhost:{gateway}")
        given = [argument.replace("TARGET", target) for argument in arguments]
        # Another machine's key, which reaches another gateway, is there already.
        first = key_line(Path(f"{other}.pub").read_text(), Grant((), ("localhost:9", "localhost:6379")))
        assert site.setup("--key-line", first).returncode == 0
        if given:
            result = site.setup(*given, "--public-key", f"{worker}.pub")
        else:
            line = key_line(Path(f"{worker}.pub").read_text(), Grant((MACHINE_ID,), (target,)))
            result = site.setup("--key-line", line)
        assert result.returncode == 0, result.stderr
        hint = result.stdout.splitlines()[-1].partition("with: ")[2]
        for option in (f"--user {site.user}", f"--sshd-config {site.config}", f"--target {target}"):
            assert option in hint
        with SiteSshd(site, worker):
            done = subprocess.run(
                hint, shell=True, capture_output=True, text=True, timeout=DEADLINE_S, check=False
            )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


@as_root
def test_a_relative_path_means_the_same_file_everywhere(site: Site) -> None:
    command = [str(GATEWAY / "setup.sh"), "--sshd-config", "sshd_config", "--user", site.user]
    done = subprocess.run(command, cwd=site.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"AuthorizedKeysFile {site.directory}/{site.user}.keys" in site.drop_in.read_text()
    assert f"--sshd-config {site.config}" in done.stdout


@as_root
def test_the_drop_in_has_what_this_sshd_knows(site: Site, tmp_path: Path) -> None:
    """Field case 9.2: a keyword that an sshd does not know would keep it from starting."""
    for path, penalties in (("", knows("PerSourcePenalties no")), (with_penalties(tmp_path / "bin"), True)):
        assert site.setup(path=path).returncode == 0
        text = site.drop_in.read_text()
        assert ("\nPerSourcePenalties min:60 max:90\n" in text) == penalties
        assert ("\nPerSourceMaxStartups 100\n" in text) == knows("PerSourceMaxStartups 100")
        assert "\nMaxStartups 100:30:300\n" in text


@as_root
@pytest.mark.parametrize(
    ("version", "count"), [("9.1", 2), ("9.2p1", 1), ("9.4p1", 1), ("9.5p1", 2), ("10.2", 2)]
)
def test_where_sshd_probes_half_as_often_one_probe_less_is_sent(
    site: Site, tmp_path: Path, version: str, count: int
) -> None:
    assert site.setup(path=with_version(tmp_path / "bin", version)).returncode == 0
    assert f"ClientAliveInterval 3\n    ClientAliveCountMax {count}\n" in site.drop_in.read_text()


@as_root
def test_exempt_networks_are_kept_until_they_are_taken_back(site: Site, tmp_path: Path) -> None:
    """Field case 9.2: machines behind one NAT."""
    path = with_penalties(tmp_path / "bin")
    for arguments, expected in (
        (("--exempt", "203.0.113.0/24,2001:db8::/32"), "203.0.113.0/24,2001:db8::/32"),
        ((), "203.0.113.0/24,2001:db8::/32"),
        (("--exempt", "198.51.100.7"), "198.51.100.7"),
        (("--exempt", "none"), ""),
    ):
        assert site.setup(*arguments, path=path).returncode == 0
        found = re.findall(r"(?m)^PerSourcePenaltyExemptList (.*)", site.drop_in.read_text())
        assert found == ([expected] if expected else [])
    before = site.drop_in.read_text()
    # sshd itself takes the first for a pattern, which exempts nobody.
    for wrong in ("gateway.example.com", "203.0.113.0/24, 198.51.100.7", "203.0.113.0/99"):
        result = site.setup("--exempt", wrong, path=path)
        assert (result.returncode, site.drop_in.read_text()) == (1, before)
        assert "address" in result.stderr


@as_root
@pytest.mark.skipif(knows("PerSourcePenalties no"), reason="this machine's sshd has penalties")
def test_an_exemption_that_is_not_needed_is_no_failure(site: Site) -> None:
    result = site.setup("--exempt", "203.0.113.0/24")
    assert result.returncode == 0
    assert "not needed" in result.stdout
    text = site.drop_in.read_text()
    assert "Exempt" not in text
    # A newer sshd was here before, whose words this one refuses.
    site.drop_in.write_text(f"PerSourcePenaltyExemptList 203.0.113.0/24\nPerSourcePenalties min:60\n{text}")
    assert site.setup().returncode == 0
    assert site.drop_in.read_text() == text


@as_root
def test_a_drop_in_that_is_not_read_is_said_again_by_the_second_run(site: Site) -> None:
    """The kind's other member: what the first run found wrong was passed over once the file was there."""
    _, _, rest = site.config.read_text().partition("\n")
    site.config.write_text(rest)
    for _ in range(2):
        result = site.setup()
        assert (result.returncode, "Include" in result.stderr) == (1, True)


@as_root
def test_the_line_of_a_key_that_is_there_is_replaced(site: Site, worker: Path) -> None:
    for machine_id in ("00000000", MACHINE_ID):
        assert site.setup("--machine-id", machine_id, "--public-key", f"{worker}.pub").returncode == 0
    text = (site.directory / f"{site.user}.keys").read_text()
    assert text == key_line(Path(f"{worker}.pub").read_text(), Grant((MACHINE_ID,))) + "\n"


@as_root
def test_a_dry_run_says_everything_and_changes_nothing(site: Site, worker: Path) -> None:
    before = site.files_and_account()
    result = site.setup("--dry-run", "--pool-key", "--public-key", f"{worker}.pub")
    assert result.returncode == 0
    assert site.files_and_account() == before
    for change in (f"would add the user {site.user}", "would set an impossible", "would write", "50-"):
        assert change in result.stdout


@as_root
def test_remove_takes_everything_back_and_ends_sessions(site: Site, worker: Path) -> None:
    before = site.files_and_account()
    assert site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub").returncode == 0
    with SiteSshd(site, worker) as server, Ssh(server) as client:
        wait_until(lambda: "forced-command (config)" in server.log(), "the session")
        result = site.setup("--remove")
        assert result.returncode == 0, result.stderr
        client.failed()
        wait_until(lambda: server.log().count("Server listening") == 2, "the reload")
        assert "Permission denied" in refusal(server)
    after = {
        path: text
        for path, text in site.files_and_account().items()
        if Path(path).name not in {"log", "pid", "known_hosts"}
    }
    assert after == before
    again = site.setup("--remove")
    assert (again.returncode, again.stdout) == (0, "")


@as_root
def test_a_running_sshd_is_reloaded(site: Site, worker: Path) -> None:
    with SiteSshd(site, worker) as server:
        assert "Permission denied" in refusal(server)
        assert site.setup("--machine-id", MACHINE_ID, "--public-key", f"{worker}.pub").returncode == 0
        wait_until(lambda: server.log().count("Server listening") == 2, "the reload")
        with Ssh(server):
            wait_until(lambda: "forced-command (config)" in server.log(), "the session")


@as_root
@pytest.mark.parametrize("line", ["ssh-ed25519 AAAA x", 'command="sh" ssh-ed25519 AAAA x', "restrict,pty x"])
def test_a_key_line_that_gives_more_than_forwards_is_refused(site: Site, line: str) -> None:
    before = site.files_and_account()
    result = site.setup("--key-line", line)
    assert result.returncode == 1
    assert "beta9-worker authorize" in result.stderr
    assert site.files_and_account() == before


@as_root
def test_a_key_that_cannot_be_used_changes_nothing(site: Site, worker: Path) -> None:
    before = site.files_and_account()
    result = site.setup("--machine-id", MACHINE_ID, "--public-key", str(worker))
    assert result.returncode == 1
    assert "private key" in result.stderr
    assert site.files_and_account() == before


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
    assert not site.drop_in.exists()


@as_root
def test_a_persons_account_is_neither_changed_nor_removed(site: Site) -> None:
    for arguments in ((), ("--remove",)):
        result = site.setup("--user", "daemon", *arguments)
        assert result.returncode == 1
        assert "was not created by this script" in result.stderr


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--key-line",), ("positional",)])
def test_called_wrongly_it_shows_its_use(arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [str(GATEWAY / "setup.sh"), *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "--dry-run" in result.stderr
