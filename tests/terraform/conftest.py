"""Terraform without a registry, and a summary of what was applied and destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT
from tests.terraform import providers
from tests.terraform.program import Terraform, copy_of_tree

_JOURNAL: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow for Terraform on a busy machine, but end a hang."""
    for each in items:
        if each.path.is_relative_to(Path(__file__).parent) and not each.get_closest_marker("timeout"):
            each.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform with the AWS provider 3.39.0 and no other."""
    home = tmp_path_factory.mktemp("terraform-home")
    mirror = providers.mirror_from_package(ROOT / ".build" / "terraform" / "mirror")
    providers.write_config(home / "terraform.rc", [mirror])
    return Terraform(home / "terraform.rc", home)


@pytest.fixture(scope="session")
def terraform_with_mirror(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform with the providers of TF_PLUGIN_MIRROR and no others; skips the test if it is not set."""
    mirror = providers.given_mirror()
    if mirror is None:
        pytest.skip("TF_PLUGIN_MIRROR is not set: only the AWS provider 3.39.0 is available")
    home = tmp_path_factory.mktemp("terraform-mirror-home")
    providers.write_config(home / "terraform.rc", [mirror])
    return Terraform(home / "terraform.rc", home)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of terraform/ and cloud-init/ that the test may init, apply and modify."""
    return copy_of_tree(tmp_path)


@pytest.fixture(scope="session")
def journal() -> list[str]:
    """Lines for the summary at the end of the run: what was applied and destroyed."""
    return _JOURNAL


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _JOURNAL:
        terminalreporter.section("applied and destroyed")
        for each in _JOURNAL:
            terminalreporter.write_line(each)
