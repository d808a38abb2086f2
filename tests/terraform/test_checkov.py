"""checkov finds nothing in terraform/ beyond the documented exceptions, and does find a planted error."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.terraform.program import copy_of_tree

pytestmark = pytest.mark.terraform

CHECKOV = ROOT / ".build" / "checkov" / "bin" / "checkov"
PLANTED = "terraform/modules/planted"
EXCEPTION = re.compile(r"checkov:skip=(CKV\w+)(?::\s*(\S.{20,}))?")


def test_only_the_planted_error_is_found(tmp_path: Path) -> None:
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed: make test-terraform installs it")
    root = copy_of_tree(tmp_path)
    template = (root / "terraform/modules/aws-spot/main.tf").read_text()
    assert 'http_tokens                 = "required"' in template
    (root / PLANTED).mkdir()
    (root / PLANTED / "main.tf").write_text(template.replace('= "required"', '= "optional"'))
    options = ["--framework", "terraform", "--skip-download", "--quiet", "-o", "json"]
    done = subprocess.run(
        [CHECKOV, "-d", root / "terraform", *options],
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    report = json.loads(done.stdout)
    found = {(each["check_id"], each["file_path"]) for each in report["results"]["failed_checks"]}
    assert found == {("CKV_AWS_79", "/modules/planted/main.tf")}, done.stdout
    assert report["summary"]["parsing_errors"] == 0


def test_every_exception_has_a_reason() -> None:
    exceptions = [
        (path.name, match.groups())
        for path in sorted((ROOT / "terraform").rglob("*.tf"))
        for match in EXCEPTION.finditer(path.read_text())
    ]
    assert [each for each in exceptions if each[1][1] is None] == []
