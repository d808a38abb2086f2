"""Which disk is used for data, and which never; with recorded output of lsblk, wipefs and blkid, and real files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shell.install.fakehost import BOOTSTRAP, Host

CHOOSE = '. "$BETA9_BOOTSTRAP/lib/scratch.sh"; find_scratch'
AWS = (
    "{small} disk 1000 0 Amazon\\x20EC2\\x20NVMe\\x20Instance\\x20Storage",
    "{large} disk 2000 0 Amazon\\x20EC2\\x20NVMe\\x20Instance\\x20Storage",
    "{volume} disk 9000 0 Amazon\\x20Elastic\\x20Block\\x20Store",
    "{other} disk 8000 0",
)


@pytest.fixture
def disks(host: Host) -> Host:
    """Two blank NVMe disks, an EBS volume, and a disk that is not NVMe."""
    host.settings.pop("BETA9_SCRATCH_DISK")
    paths = {}
    for name, device in (("small", "nvme1n1"), ("large", "nvme2n1"), ("volume", "nvme3n1"), ("other", "vdb")):
        path = host.directory / device
        with path.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        paths[name] = str(path)
    listing = "\n".join(AWS).format(**paths)
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


def test_the_largest_blank_nvme_disk_is_used(disks: Host) -> None:
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
def test_a_disk_that_may_be_in_use_is_not_used(disks: Host, answer: str, content: str) -> None:
    (disks.state / f"{answer}-nvme2n1").write_text(content)
    assert chosen(disks) == "disk nvme1n1"


def test_a_disk_that_is_not_blank_is_used_only_if_it_is_named(disks: Host) -> None:
    with (disks.directory / "nvme2n1").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"somebody's database")
    assert chosen(disks) == "disk nvme1n1"
    (disks.state / "signature-nvme1n1").write_text("0x0,,,crypto_LUKS\n")
    assert chosen(disks) == ""


def test_a_disk_formatted_earlier_precedes_one_mounted_by_aws_images_and_that_a_blank_one(
    disks: Host,
) -> None:
    (disks.root / "opt/dlami/nvme").mkdir(parents=True)
    (disks.state / "mounted").touch()
    assert chosen(disks) == f"mounted {disks.root}/opt/dlami/nvme".replace(f"{disks.directory}/", "")
    (disks.state / "label").write_text("/dev/nvme9n1\n")
    assert chosen(disks) == "formatted /dev/nvme9n1"


def test_a_named_disk_is_known_again_once_it_is_formatted(disks: Host) -> None:
    """Its file system is this bootstrap's own: the next run must neither refuse the disk nor look for another."""
    (disks.state / "label").write_text("/dev/null\n")  # stands for the disk: any path below /dev that exists
    disks.write_settings(BETA9_SCRATCH_DISK="/dev/null")
    assert chosen(disks) == "formatted /dev/null"
    disks.write_settings(BETA9_SCRATCH_DISK="/dev/zero")
    assert chosen(disks) == ""


def test_none_and_a_directory_are_used_unchecked(disks: Host) -> None:
    disks.write_settings(BETA9_SCRATCH_DISK="none")
    assert chosen(disks) == ""
    disks.write_settings(BETA9_SCRATCH_DISK="/srv/data")
    assert chosen(disks) == "mounted /srv/data"


INSTANCE_STORAGE = r"Amazon\x20EC2\x20NVMe\x20Instance\x20Storage"


@pytest.mark.parametrize(
    ("large", "small", "expected"),
    [
        (r"MSFT\x20NVMe\x20Accelerator\x20v1.0", r"Microsoft\x20NVMe\x20Direct\x20Disk\x20v2", "small"),
        (r"MSFT\x20NVMe\x20Accelerator\x20v1.0", r"Microsoft\x20NVMe\x20Direct\x20Disk", "small"),
        ("nvme_card-pd", "nvme_card", "small"),
        ("nvme_card-pd", "nvme_card12", "small"),
        ("nvme_card-pd", "nvme_card-pd", ""),
        (r"Amazon\x20Elastic\x20Block\x20Store", INSTANCE_STORAGE, "small"),
        (r"SPDK\x20bdev\x20Controller", r"Mellanox\x20BlueField\x20NVMe\x20SNAP\x20Controller", ""),
        ("", r"ORACLE\x20BlockVolume", ""),
        ("", r"QEMU\x20NVMe\x20Ctrl", "small"),
        ("Linux", r"NetApp\x20ONTAP\x20Controller", ""),
        (r"Samsung\x20SSD\x20990\x20PRO\x204TB", r"INTEL\x20SSDPE2KX040T8", "large"),
        ("Micron_7450_MTFDKCC7T6TFR", r"WD_BLACK\x20SN850X\x204000GB", "large"),
        (r"SAMSUNG\x20MZQL23T8HCLS-00A07\x20", "KIOXIA", "large"),
    ],
)
def test_only_a_disk_that_is_known_to_be_local_is_used(
    disks: Host, large: str, small: str, expected: str
) -> None:
    """Field case 15.1: network volumes are NVMe disks, too, and are often the larger ones."""
    paths = {"large": disks.directory / "nvme2n1", "small": disks.directory / "nvme1n1"}
    lines = f"{paths['large']} disk 900 0 {large}\n{paths['small']} disk 375 0 {small}\n"
    (disks.state / "lsblk").write_text(lines)
    done = disks.step(CHOOSE)
    assert done.stdout == (f"disk {paths[expected]}" if expected else "")
    if not expected:
        assert f"set BETA9_SCRATCH_DISK={paths['large']} to use it anyway" in done.stderr


def test_a_drive_at_the_other_end_of_a_network_is_not_local(disks: Host) -> None:
    """Field case 15.1: an NVMe disk over TCP shows the model of the target's drive."""
    large = disks.directory / "nvme2n1"
    (disks.state / "lsblk").write_text(f"{large} disk 900 0 SAMSUNG\\x20MZQL23T8HCLS-00A07\n")
    for path in ("device/transport", "device/nvme2/transport"):
        transport = disks.root / "sys/block/nvme2n1" / path
        transport.parent.mkdir(parents=True, exist_ok=True)
        for value, expected in (("tcp", ""), ("pcie", "disk nvme2n1")):
            transport.write_text(f"{value}\n")
            assert chosen(disks) == expected


def storage_alone(host: Host) -> Path:
    """Return a directory with only the real storage step, without its dependencies."""
    steps = host.directory / "real"
    steps.mkdir()
    text = (BOOTSTRAP / "steps/30-storage.sh").read_text()
    (steps / "30-storage.sh").write_text(text.replace("# needs: tools", "# needs:"))
    return steps


@pytest.fixture
def moved(disks: Host) -> Host:
    """Docker was running without any data; its data directory is now on a scratch directory."""
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


def test_docker_is_stopped_while_its_data_moves_back_and_runs_afterwards(moved: Host) -> None:
    (moved.state / "systemctl.calls").unlink()
    done = moved.uninstall()
    assert done.returncode == 0, done.stderr
    calls = [call for call in moved.calls("systemctl") if "docker" in call]
    assert calls == [
        "stop docker.socket docker.service var-lib-docker.mount",
        "disable --quiet var-lib-docker.mount",
        "start docker.socket docker.service",
    ]


def test_containers_of_others_are_removed_only_with_purge(moved: Host) -> None:
    (moved.state / "ps").write_text("container beta9-worker\ncontainer somebodys-database\n")
    before = moved.files()
    for arguments, code in (((), 1), (("--dry-run",), 0)):
        done = moved.uninstall(*arguments)
        assert done.returncode == code
        assert (
            "Docker's data would be removed, and with it: container somebodys-database; move" in done.stderr
        )
        assert moved.files() == before
    assert moved.uninstall("--purge").returncode == 0
    assert not (moved.root / "etc/systemd/system/var-lib-docker.mount").exists()


def test_data_is_bind_mounted_from_the_scratch_disk_and_moves_back_when_uninstalled(disks: Host) -> None:
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
    assert "done, 0 changes" in disks.console_text().splitlines()[-1]
    unit = (disks.root / "etc/systemd/system/var-lib-rancher.mount").read_text()
    assert f"What={scratch}/beta9-worker/rancher\nWhere=/var/lib/rancher\nType=none\nOptions=bind" in unit
    assert f"AssertPathIsMountPoint={scratch}" in unit
    assert not (disks.root / "etc/systemd/system/var-lib-docker.mount").exists()
    # A disk that comes up empty: k3s waits for its data, which the installer makes again at that boot.
    units = disks.root / "etc/systemd/system"
    waits = (units / "k3s.service.d/50-beta9-scratch.conf").read_text()
    assert "RequiresMountsFor=/var/lib/rancher /var/lib/kubelet /images\n" in waits
    assert not (units / "docker.service.d").exists()
    resumes = (units / "beta9-worker-resume.service.d/50-scratch.conf").read_text()
    assert "After=var-lib-rancher.mount\nConditionPathIsMountPoint=|!/var/lib/rancher\n" in resumes
    assert (units / "beta9-worker-resume.service").exists()
    assert "/var/lib/docker already contains data" in done.stderr
    assert disks.uninstall().returncode == 0
    assert disks.files() == before
    assert list(scratch.iterdir()) == []
