"""Which disk is taken for data, and which never; on recorded answers of lsblk, wipefs and blkid, and real files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shell.install.fakehost import BOOTSTRAP, Host

CHOOSE = '. "$BETA9_BOOTSTRAP/lib/scratch.sh"; scratch_place'
AWS = (
    "{small} disk 1000 0 Amazon\\x20EC2\\x20NVMe\\x20Instance\\x20Storage",
    "{large} disk 2000 0 Amazon\\x20EC2\\x20NVMe\\x20Instance\\x20Storage",
    "{volume} disk 9000 0 Amazon\\x20Elastic\\x20Block\\x20Store",
    "{other} disk 8000 0",
)


@pytest.fixture
def disks(host: Host) -> Host:
    """Two blank NVMe disks, a volume of the block store, and a disk that is not NVMe."""
    host.settings.pop("BETA9_SCRATCH_DISK")
    places = {}
    for name, device in (("small", "nvme1n1"), ("large", "nvme2n1"), ("volume", "nvme3n1"), ("other", "vdb")):
        path = host.directory / device
        with path.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        places[name] = str(path)
    listing = "\n".join(AWS).format(**places)
    (host.state / "lsblk").write_text(listing + "\n")
    replace(
        host,
        "lsblk",
        'case "$*" in\n'
        '  *SIZE,RO,MODEL*) cat "$STUB_STATE/lsblk" ;;\n'
        '  *MOUNTPOINTS*) cat "$STUB_STATE/mounted-$(basename "${!#}")" 2>/dev/null || true ;;\n'
        '  *NAME*) basename "${!#}"; cat "$STUB_STATE/children-$(basename "${!#}")" 2>/dev/null || true ;;\n'
        "esac",
    )
    replace(host, "wipefs", 'cat "$STUB_STATE/signature-$(basename "${!#}")" 2>/dev/null || true')
    replace(host, "blkid", 'cat "$STUB_STATE/label" 2>/dev/null || exit 2')
    replace(host, "mountpoint", "[[ -e $STUB_STATE/mounted && ${!#} == */opt/dlami/nvme ]]")
    host.write_settings()
    return host


def replace(host: Host, name: str, body: str) -> None:
    (host.bin / name).unlink(missing_ok=True)
    (host.bin / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (host.bin / name).chmod(0o755)


def chosen(host: Host) -> str:
    done = host.step(CHOOSE)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(f"{host.directory}/", "")


def test_the_largest_blank_nvme_disk_is_taken(disks: Host) -> None:
    assert chosen(disks) == "disk nvme2n1"


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ("signature", "# offset,uuid,label,type\n0x438,6f0e,,ext4\n"),
        ("signature", "0x0,,,ceph_bluestore\n"),
        ("children", "nvme2n1p1\n"),
        ("mounted", "/data\n"),
    ],
)
def test_a_disk_that_may_be_somebody_s_is_not(disks: Host, answer: str, content: str) -> None:
    (disks.state / f"{answer}-nvme2n1").write_text(content)
    assert chosen(disks) == "disk nvme1n1"


def test_nor_is_one_that_is_not_blank_unless_it_is_named(disks: Host) -> None:
    with (disks.directory / "nvme2n1").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"somebody's database")
    assert chosen(disks) == "disk nvme1n1"
    (disks.state / "signature-nvme1n1").write_text("0x0,,,crypto_LUKS\n")
    assert chosen(disks) == ""


def test_what_aws_s_images_mount_comes_first_and_what_an_earlier_run_made_before_it(disks: Host) -> None:
    (disks.root / "opt/dlami/nvme").mkdir(parents=True)
    (disks.state / "mounted").touch()
    assert chosen(disks) == f"mounted {disks.root}/opt/dlami/nvme".replace(f"{disks.directory}/", "")
    (disks.state / "label").write_text("/dev/nvme9n1\n")
    assert chosen(disks) == "ours /dev/nvme9n1"


def test_none_and_a_directory_are_taken_at_their_word(disks: Host) -> None:
    disks.write_settings(BETA9_SCRATCH_DISK="none")
    assert chosen(disks) == ""
    disks.write_settings(BETA9_SCRATCH_DISK="/srv/data")
    assert chosen(disks) == "mounted /srv/data"


def storage_alone(host: Host) -> Path:
    """A directory of steps with the real one for storage, which then needs no other."""
    steps = host.directory / "real"
    steps.mkdir()
    text = (BOOTSTRAP / "steps/30-storage.sh").read_text()
    (steps / "30-storage.sh").write_text(text.replace("# needs: tools", "# needs:"))
    return steps


@pytest.fixture
def moved(disks: Host) -> Host:
    """Docker was here, running and with nothing in it; its data now goes to a scratch directory."""
    scratch = disks.directory / "scratch"
    scratch.mkdir()
    (disks.root / "var/lib/docker").mkdir(parents=True)
    (disks.state / "systemctl").mkdir()
    for unit in ("docker.socket", "docker"):
        (disks.state / "systemctl" / f"{unit}.active").touch()
    replace(disks, "docker", 'case "$1" in ps) cat "$STUB_STATE/ps" 2>/dev/null || true ;; esac')
    disks.write_settings(BETA9_SCRATCH_DISK=str(scratch))
    done = disks.install("--steps", str(storage_alone(disks)))
    assert done.returncode == 0, done.stderr
    assert (disks.root / "etc/systemd/system/var-lib-docker.mount").exists()
    subprocess.run(
        [str(disks.bin / "systemctl"), "start", "docker.socket", "docker.service"],
        check=True,
        env=disks.environment(),
    )
    return disks


def test_docker_is_stopped_while_its_data_goes_back_and_runs_afterwards(moved: Host) -> None:
    (moved.state / "systemctl.calls").unlink()
    done = moved.uninstall()
    assert done.returncode == 0, done.stderr
    asked = [call for call in moved.asked("systemctl") if "docker" in call]
    assert asked == [
        "stop docker.socket docker.service var-lib-docker.mount",
        "disable --quiet var-lib-docker.mount",
        "start docker.socket docker.service",
    ]


def test_what_others_have_in_docker_is_not_lost_without_being_asked_for(moved: Host) -> None:
    (moved.state / "ps").write_text("container beta9-worker\ncontainer somebodys-database\n")
    before = moved.files()
    for arguments, code in (((), 1), (("--dry-run",), 0)):
        done = moved.uninstall(*arguments)
        assert done.returncode == code
        assert "Docker's data goes, and with it: container somebodys-database; move" in done.stderr
        assert moved.files() == before
    assert moved.uninstall("--purge").returncode == 0
    assert not (moved.root / "etc/systemd/system/var-lib-docker.mount").exists()


def test_data_goes_there_by_bind_mounts_and_comes_back_at_the_end(disks: Host) -> None:
    scratch = disks.directory / "scratch"
    scratch.mkdir()
    kept = disks.root / "var/lib/docker"
    kept.mkdir(parents=True)
    (kept / "somebody's").touch()
    replace(disks, "docker", "[[ $1 != ps ]] || echo container; case $1 in version) echo 20 ;; esac")
    disks.write_settings(BETA9_SCRATCH_DISK=str(scratch))
    before = disks.files()
    steps = storage_alone(disks)
    for _ in range(2):
        done = disks.install("--steps", str(steps))
        assert done.returncode == 0, done.stderr
    assert "done, 0 changes" in disks.said().splitlines()[-1]
    unit = (disks.root / "etc/systemd/system/var-lib-rancher.mount").read_text()
    assert f"What={scratch}/beta9-worker/rancher\nWhere=/var/lib/rancher\nType=none\nOptions=bind" in unit
    assert f"AssertPathIsMountPoint={scratch}" in unit
    assert not (disks.root / "etc/systemd/system/var-lib-docker.mount").exists()
    assert "/var/lib/docker holds data already" in done.stderr
    assert disks.uninstall().returncode == 0
    assert disks.files() == before
    assert list(scratch.iterdir()) == []
