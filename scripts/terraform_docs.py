"""Generates the tables in the READMEs of Terraform modules and examples, and modules/user-data's table of variables.

    python -m scripts.terraform_docs          write them
    python -m scripts.terraform_docs --check  list what is out of date, and exit with 1

The *.tf files must be formatted by `terraform fmt`: blocks begin and end in the first column, and their arguments are
indented by two.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.settings_patterns import patterns

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- made by scripts/terraform_docs.py -->", "<!-- end of what is made -->"
KNOWN = ROOT / "terraform/modules/user-data/known_variables.json"


@dataclass(frozen=True)
class Block:
    """One top-level block: its labels, and its arguments as source text."""

    kind: str
    labels: tuple[str, ...]
    arguments: dict[str, str]

    @property
    def description(self) -> str:
        """The text of its `description`, escaped for a Markdown table."""
        match = re.fullmatch(r'"(.*)"', self.arguments.get("description", ""), re.DOTALL)
        assert match, f"{self.kind} {self.labels} has no one-line description"
        return match[1].replace('\\"', '"').replace("|", "\\|")


def blocks(folder: Path) -> Iterator[Block]:
    """Yield every block of a module, file by file."""
    for path in sorted(folder.glob("*.tf")):
        for kind, labels, body in re.findall(
            r'^(\w+)((?: "[^"]+")*) \{(?:\}$|\n(.*?)^\}$)', path.read_text(), re.MULTILINE | re.DOTALL
        ):
            yield Block(kind, tuple(re.findall(r'"([^"]+)"', labels)), _arguments(body))


def tables(folder: Path) -> str:
    """Return the tables for the README of a module or example."""
    found = list(blocks(folder))
    parts = [
        _table("Requirements", ("name", "version"), _requirements(folder)),
        _table("Resources", ("name", "type"), _resources(found)),
        _table("Inputs", ("name", "description", "type", "default"), _inputs(found)),
        _table("Outputs", ("name", "description"), _outputs(found)),
    ]
    return "\n".join(part for part in parts if part)


def filled(readme: str, made: str) -> str:
    """Return the README with new tables. Raises: ValueError if it has no place for them."""
    head, begins, rest = readme.partition(BEGIN)
    _, ends, tail = rest.partition(END)
    if not begins or not ends:
        raise ValueError(f"contains no line {BEGIN} followed by a line {END}")
    return f"{head}{BEGIN}\n\n{made}\n{END}{tail}"


def wanted() -> dict[Path, str]:
    """Return every generated file and its expected contents."""
    known = json.dumps(patterns(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    made = {KNOWN: known}
    for versions in sorted((ROOT / "terraform").glob("*/*/versions.tf")):
        readme = versions.parent / "README.md"
        try:
            made[readme] = filled(readme.read_text(), tables(versions.parent))
        except (OSError, ValueError) as error:
            sys.exit(f"{readme.relative_to(ROOT)}: {error}")
    return made


def main() -> int:
    """Write the files, or with --check list the stale ones."""
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run: .venv/bin/python -m scripts.terraform_docs")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted()[path])
        print(path.relative_to(ROOT))
    return 0


def _arguments(body: str) -> dict[str, str]:
    """Return the block's own arguments; multi-line values are complete."""
    found = re.findall(r"^  (\w+)\s*=\s*(.*(?:\n(?:    .*|  [\]})].*))*)", body, re.MULTILINE)
    return {name: value.strip() for name, value in found}


def _requirements(folder: Path) -> list[tuple[str, ...]]:
    text = (folder / "versions.tf").read_text()
    rows: list[tuple[str, ...]] = [
        ("terraform", _code(match)) for match in re.findall(r'required_version = "([^"]+)"', text)
    ]
    for source, version in re.findall(r'source\s+= "([^"]+)"[^}]*?version\s*= "([^"]+)"', text, re.DOTALL):
        rows.append((source, _code(version)))
    return rows


def _resources(found: list[Block]) -> list[tuple[str, ...]]:
    kinds = {"resource": "resource", "data": "data source", "module": "module"}
    return [
        (_code(".".join(each.labels)), kinds[each.kind] + _source(each))
        for each in found
        if each.kind in kinds
    ]


def _source(block: Block) -> str:
    return f" {_code(block.arguments['source'].strip(chr(34)))}" if block.kind == "module" else ""


def _inputs(found: list[Block]) -> list[tuple[str, ...]]:
    return [
        (
            _code(each.labels[0]),
            each.description,
            _code(each.arguments["type"]),
            _code(each.arguments["default"]) if "default" in each.arguments else "required",
        )
        for each in sorted(found, key=lambda each: ("default" in each.arguments, each.labels))
        if each.kind == "variable"
    ]


def _outputs(found: list[Block]) -> list[tuple[str, ...]]:
    return [(_code(each.labels[0]), each.description) for each in found if each.kind == "output"]


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return "\n".join([f"### {title}", "", lines[0], "|---" * len(columns) + "|", *lines[1:], ""])


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`"


if __name__ == "__main__":
    sys.exit(main())
