"""Check Terraform configurations against the providers' schemas, without the providers.

It finds unknown types, arguments and blocks; read-only arguments; missing required arguments; values of a wrong type,
for literals and for variables with a declared type; unknown keys of nested objects; and references to unknown
attributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")
PREFIXES = {"crusoe": "crusoe", "restapi": "restapi"}
"""Schema files by the prefix of a type's name."""
META = {
    "count",
    "for_each",
    "depends_on",
    "provider",
    "lifecycle",
    "provisioner",
    "connection",
    "alias",
    "version",
}
CONVERTS = {"string": {"string", "number", "bool"}, "number": {"number"}, "bool": {"bool"}}
"""Types that Terraform converts implicitly to each type. A string converts to a number or bool only with luck."""


@cache
def schema(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def errors(folder: Path) -> list[str]:
    """Return the errors in a folder's *.tf files, as sentences; [] if there are none."""
    import hcl2

    texts = {each.name: each.read_text() for each in sorted(folder.glob("*.tf"))}
    parsed = {name: hcl2.loads(text) for name, text in texts.items()}
    variables = {
        _bare(name): str(body.get("type", "")).strip("${}")
        for each in parsed.values()
        for block in each.get("variable", [])
        for name, body in block.items()
    }
    found: list[str] = []
    for each in parsed.values():
        for where, kind, body in _blocks(each):
            found += [f"{where}: {error}" for error in _Check(variables).body(body, kind)]
    for name, text in texts.items():
        found += [f"{name}: {error}" for error in _references(text)]
    return found


def _blocks(parsed: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Yield every provider, resource and data block: its place, its schema (None: unknown type) and its body."""
    for each in parsed.get("provider", []):
        for name, body in each.items():
            if _bare(name) in PREFIXES:
                yield f"provider {_bare(name)}", schema(_bare(name))["provider"], body
    for group, section in (("resource", "resources"), ("data", "data_sources")):
        for each in parsed.get(group, []):
            for name, named in each.items():
                kind = _bare(name)
                if kind.split("_")[0] not in PREFIXES:
                    continue
                for label, body in named.items():
                    types = schema(PREFIXES[kind.split("_")[0]])[section]
                    yield f"{group} {kind}.{_bare(label)}", types.get(kind), body


@dataclass(frozen=True)
class _Check:
    variables: Mapping[str, str]

    def body(self, body: Mapping[str, Any], kind: Mapping[str, Any] | None) -> Iterator[str]:
        if kind is None:
            yield "unknown type"
            return
        attributes, blocks = kind.get("attributes", {}), kind.get("blocks", {})
        given = {name for name in body if not name.startswith("__")} - META
        for name in sorted(given - set(attributes) - set(blocks)):
            yield f"unknown argument {name}"
        for name in sorted(given & set(attributes)):
            yield from self.value(name, body[name], attributes[name])
        for name, each in attributes.items():
            if each.get("required") and name not in given:
                yield f"{name} is required"
        for name in sorted(given & set(blocks)):
            for inner in body[name]:
                yield from (f"{name}: {error}" for error in self.body(inner, blocks[name]))

    def value(self, name: str, value: Any, expected: Mapping[str, Any]) -> Iterator[str]:
        if not expected.get("required") and not expected.get("optional"):
            yield f"{name} is read-only"
        if "nesting" in expected:
            yield from self.nested(name, value, expected)
            return
        if isinstance(value, list) and value and isinstance(value[0], dict) and "__is_block__" in value[0]:
            yield f"{name} is an argument, but written as a block"
            return
        kind = expected["type"]
        outer = kind if isinstance(kind, str) else kind[0]
        for actual in self.kinds(value):
            if actual != outer and actual not in CONVERTS.get(outer, set()):
                yield f"{name} is of type {outer}, not {actual}"

    def nested(self, name: str, value: Any, expected: Mapping[str, Any]) -> Iterator[str]:
        """Check the keys of every object literal; there must be at least one, or null."""
        if "__is_block__" in str(value):
            yield f"{name} is an argument, but written as a block"
            return
        text = value if isinstance(value, str) else str(value)
        objects = list(_objects(text.removeprefix("${").removesuffix("}") if text.startswith("${") else text))
        if not objects and "null" not in text and value != []:
            yield f"{name}: no object literal to check"
        for each in objects:
            for key, inner in each.items():
                kind = expected["attributes"].get(key)
                if kind is None:
                    yield f"{name}: unknown key {key}"
                elif not kind.get("required") and not kind.get("optional"):
                    yield f"{name}: {key} is read-only"
                elif "nesting" in kind:
                    yield from self.nested(f"{name}.{key}", "${" + inner + "}", kind)
            for key, kind in expected["attributes"].items():
                if kind.get("required") and key not in each:
                    yield f"{name}: {key} is required"

    def kinds(self, value: Any) -> Iterator[str]:
        """Yield the type of a value, if the text shows it."""
        if isinstance(value, bool):
            yield "bool"
        elif isinstance(value, int | float):
            yield "number"
        elif isinstance(value, list):
            yield "list"
        elif isinstance(value, dict):
            yield "map"
        elif isinstance(value, str):
            variable = re.fullmatch(r"\$\{var\.(\w+)\}", value)
            if variable:
                yield self.variables.get(variable[1], "undeclared").partition("(")[0]
            elif value.startswith('"'):
                yield "string"


def _objects(text: str) -> Iterator[dict[str, str]]:
    """Yield the outermost objects `{ key = value, … }` of a text, as the texts of their values by key."""
    depth, start = 0, 0
    for position, character in enumerate(text):
        if character == "{":
            depth, start = depth + 1, start if depth else position + 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                yield _keys(text[start:position])


def _keys(text: str) -> dict[str, str]:
    """Split the content of an object at its own commas and line breaks, not those of nested values."""
    parts, depth = [""], 0
    for character in text:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(character, 0)
        if character in ",\n" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    pairs = [re.match(r"\s*['\"]?(\w+)['\"]?\s*[=:](?!=)(.*)", each, re.DOTALL) for each in parts]
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


REFERENCE = re.compile(r"(?<![\w.])(data\.)?((?:crusoe|restapi)_\w+)\.\w+((?:\[[^\]]*\]|\.\w+)+)")


def _references(text: str) -> Iterator[str]:
    """Yield the references to unknown attributes, ignoring comments."""
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    for data, kind, path in REFERENCE.findall(code):
        types = schema(PREFIXES[kind.split("_")[0]])["data_sources" if data else "resources"]
        if kind in types and not _exists(types[kind], re.findall(r"\.(\w+)", path)):
            yield f"{kind} has no {path.lstrip('.')}"


def _exists(kind: Mapping[str, Any], names: list[str]) -> bool:
    node: Mapping[str, Any] | None = kind
    for name in names:
        if node is None or "attributes" not in node:
            # A map or a list of plain values, whose keys are known only at run time.
            return node is not None and not isinstance(node.get("type"), str)
        node = node["attributes"].get(name)
    return node is not None


def _bare(name: str) -> str:
    return name.strip('"')
