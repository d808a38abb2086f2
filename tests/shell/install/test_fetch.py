"""Downloads: verified whatever their source, and bounded in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.shell.install.fakehost import Host, sha256

WRONG = "0" * 64


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    file = tmp_path / "origin" / "k3s"
    file.parent.mkdir()
    file.write_bytes(b"\x7fELF a program")
    return file


def dest(host: Host) -> Path:
    return host.root / "dest"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_file_with_its_checksum(host: Host, origin: Path, scheme: str) -> None:
    done = host.step(f'fetch "{scheme}{origin}#sha256={sha256(origin)}" "{dest(host)}"')
    assert done.returncode == 0, done.stderr
    assert dest(host).read_bytes() == origin.read_bytes()


def test_a_wrong_checksum_names_both_checksums_and_leaves_no_file(host: Host, origin: Path) -> None:
    done = host.step(f'fetch "{origin}#sha256={WRONG}" "{dest(host)}"')
    assert done.returncode == 1
    assert sha256(origin) in done.stderr
    assert WRONG in done.stderr
    assert list(host.root.glob("dest*")) == []


def test_an_existing_file_is_not_downloaded_again(host: Host, origin: Path) -> None:
    sum_ = sha256(origin)
    origin.rename(dest(host))
    done = host.step(f'fetch "{origin}" "{dest(host)}" {sum_}')
    assert done.returncode == 0, done.stderr


def test_files_dir_takes_precedence_over_the_network(host: Host, origin: Path) -> None:
    host.write_settings(BETA9_FILES_DIR=str(origin.parent))
    done = host.step(f'fetch "https://192.0.2.1/path/k3s" "{dest(host)}" {sha256(origin)}')
    assert done.returncode == 0, done.stderr


def test_http_only_with_a_checksum(host: Host, origin: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/k3s").respond_with_data(origin.read_bytes())
    url = httpserver.url_for("/k3s")
    assert host.step(f'fetch "{url}" "{dest(host)}"').returncode == 1
    assert "http requires a checksum" in host.step(f'fetch "{url}" "{dest(host)}"').stderr
    assert host.step(f'fetch "{url}#sha256={sha256(origin)}" "{dest(host)}"').returncode == 0


def test_a_missing_file_fails_after_a_bounded_number_of_attempts(host: Host, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/k3s").respond_with_data("gone", status=404)
    done = host.step(f'fetch "{httpserver.url_for("/k3s")}#sha256={WRONG}" "{dest(host)}"')
    assert done.returncode == 1
    assert "could not download" in done.stderr
    assert len(httpserver.log) == 6, "one attempt and five retries"


@pytest.mark.parametrize("location", ["ftp://host/file", "relative/file", "$(touch pwned)", ""])
def test_other_locations_are_refused(host: Host, location: str) -> None:
    done = host.step(f"fetch '{location}' '{dest(host)}'")
    assert done.returncode == 1
    assert "is not https://" in done.stderr


def test_without_a_pin_published_checksums_are_used_and_the_console_warns(host: Host, origin: Path) -> None:
    sums = origin.with_name("sums.txt")
    sums.write_text(f"{WRONG}  other\n{sha256(origin)} *k3s\n")
    body = f'fetch_pinned BETA9_K3S_SHA256 "{origin}" "" "{dest(host)}" "{sums}"'
    done = host.step(body)
    assert done.returncode == 0, done.stderr
    assert "the origin of k3s is not pinned (BETA9_K3S_SHA256 is empty)" in host.console_text()


def test_without_a_pin_a_file_that_differs_from_the_published_checksum_is_refused(
    host: Host, origin: Path
) -> None:
    sums = origin.with_name("sums.txt")
    sums.write_text(f"{WRONG}  k3s\n")
    done = host.step(f'fetch_pinned BETA9_K3S_SHA256 "{origin}" "" "{dest(host)}" "{sums}"')
    assert done.returncode == 1
    assert not dest(host).exists()


def test_pins_can_be_required(host: Host, origin: Path) -> None:
    host.write_settings(BETA9_REQUIRE_PINS="1")
    done = host.step(f'fetch_pinned BETA9_K3S_SHA256 "{origin}" "" "{dest(host)}" /none')
    assert done.returncode == 1
    assert "BETA9_K3S_SHA256 is not pinned, and BETA9_REQUIRE_PINS is set" in done.stderr


@pytest.mark.parametrize("spelled", [str.upper, str.lower])
def test_checksums_of_settings_and_listings_are_accepted_in_capitals(
    host: Host, origin: Path, spelled: Callable[[str], str]
) -> None:
    """Field case 4.4: the checksum of a setting, and that of a published listing."""
    checksum = spelled(sha256(origin))
    sums = origin.with_name("sums.txt")
    sums.write_text(f"{checksum}  k3s\n")
    for body in (
        f'fetch_pinned BETA9_K3S_SHA256 "{origin}" {checksum} "{dest(host)}"',
        f'fetch_pinned BETA9_K3S_SHA256 "{origin}#sha256={checksum}" "" "{dest(host)}"',
        f'fetch_pinned BETA9_K3S_SHA256 "{origin}" "" "{dest(host)}" "{sums}"',
        f'checksum_matches "{dest(host)}" {checksum}',
    ):
        done = host.step(body)
        assert done.returncode == 0, done.stderr


def test_a_whole_installation_takes_checksums_in_capitals(host: Host) -> None:
    """Field case 4.4: BETA9_K3S_SHA256, BETA9_K3S_INSTALL_SHA256 and the agent's image; a second run finds it all."""
    capitals = {name: value.upper() for name, value in host.settings.items() if name.endswith("_SHA256")}
    location, _, checksum = host.settings["BETA9_AGENT_IMAGE"].rpartition("=")
    host.write_settings(**capitals, BETA9_AGENT_IMAGE=f"{location}={checksum.upper()}")
    assert host.install().returncode == 0, host.console_text()
    host.write_settings(BETA9_AGENT_IMAGE=f"{location}={checksum}")
    assert host.install().returncode == 0
    assert len([call for call in host.calls("docker") if call.startswith("load ")]) == 1


def test_a_query_is_neither_part_of_the_name_nor_shown(host: Host, origin: Path) -> None:
    """Field cases 4.5, 4.6: in a published listing, in BETA9_FILES_DIR, and in the warning about a missing pin."""
    (origin.parent / "sums.txt").write_text(f"{sha256(origin)}  k3s\n")
    host.write_settings(BETA9_FILES_DIR=str(origin.parent))
    location, sums = "https://u:sEcReT@192.0.2.1/k3s?sig=sEcReT", "https://192.0.2.1/sums.txt?sig=sEcReT"
    done = host.step(f'fetch_pinned BETA9_K3S_SHA256 "{location}" "" "{dest(host)}" "{sums}"')
    assert done.returncode == 0, done.stderr
    assert "the origin of k3s is not pinned" in host.console_text()
    assert "sEcReT" not in done.stderr + host.console_text()
