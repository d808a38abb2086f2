"""Compares Terraform configurations with providers' schemas, without the providers.

Found are: types, arguments and blocks that do not exist; arguments that can only be read; required ones that are
missing; values of another type, as far as the text tells (literals, and variables, by their declared type); keys of
nested objects; and references to attributes that there are not.
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
"""Schema files by the first word of a type's name."""
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
"""Of which types Terraform makes which by itself; a number or a bool out of a text only by chance."""


@cache
def schema(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def problems(folder: Path) -> list[str]:
    """Return what is wrong in one folder's *.tf files by the schemas, as sentences; [] if all is well."""
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
            found += [f"{where}: {what}" for what in _Check(variables).body(body, kind)]
    for name, text in texts.items():
        found += [f"{name}: {what}" for what in _references(text)]
    return found


def _blocks(parsed: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Yield what is a provider's matter: where it is, its schema (None: there is no such type), its body."""
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
            yield "there is no such type"
            return
        attributes, blocks = kind.get("attributes", {}), kind.get("blocks", {})
        given = {name for name in body if not name.startswith("__")} - META
        for name in sorted(given - set(attributes) - set(blocks)):
            yield f"there is no argument {name}"
        for name in sorted(given & set(attributes)):
            yield from self.value(name, body[name], attributes[name])
        for name, each in attributes.items():
            if each.get("required") and name not in given:
                yield f"{name} is required"
        for name in sorted(given & set(blocks)):
            for inner in body[name]:
                yield from (f"{name}: {what}" for what in self.body(inner, blocks[name]))

    def value(self, name: str, value: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
        if not wanted.get("required") and not wanted.get("optional"):
            yield f"{name} can only be read"
        if "nesting" in wanted:
            yield from self.nested(name, value, wanted)
            return
        if isinstance(value, list) and value and isinstance(value[0], dict) and "__is_block__" in value[0]:
            yield f"{name} is an argument, written as a block"
            return
        kind = wanted["type"]
        outer = kind if isinstance(kind, str) else kind[0]
        for seen in self.kinds(value):
            if seen != outer and seen not in CONVERTS.get(outer, set()):
                yield f"{name} is of type {outer}, given is {seen}"

    def nested(self, name: str, value: Any, wanted: Mapping[str, Any]) -> Iterator[str]:
        """Check the keys of every object that is written out; of nested objects there must be one, or null."""
        if "__is_block__" in str(value):
            yield f"{name} is an argument, written as a block"
            return
        text = value if isinstance(value, str) else str(value)
        objects = list(_objects(text.removeprefix("${").removesuffix("}") if text.startswith("${") else text))
        if not objects and "null" not in text and value != []:
            yield f"{name}: no object is written out that could be checked"
        for each in objects:
            for key, inner in each.items():
                kind = wanted["attributes"].get(key)
                if kind is None:
                    yield f"{name}: there is no {key}"
                elif not kind.get("required") and not kind.get("optional"):
                    yield f"{name}: {key} can only be read"
                elif "nesting" in kind:
                    yield from self.nested(f"{name}.{key}", "${" + inner + "}", kind)
            for key, kind in wanted["attributes"].items():
                if kind.get("required") and key not in each:
                    yield f"{name}: {key} is required"

    def kinds(self, value: Any) -> Iterator[str]:
        """Yield the type of a value, where the text tells it."""
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
                yield self.variables.get(variable[1], "nothing declared").partition("(")[0]
            elif value.startswith('"'):
                yield "string"


def _objects(text: str) -> Iterator[dict[str, str]]:
    """Yield the objects `{ key = value, … }` that a text has, outermost ones, each with its values' texts."""
    depth, start = 0, 0
    for at, letter in enumerate(text):
        if letter == "{":
            depth, start = depth + 1, start if depth else at + 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                yield _keys(text[start:at])


def _keys(text: str) -> dict[str, str]:
    """Split what is between an object's braces at the commas that are its own."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(letter, 0)
        if letter in ",\n" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    pairs = [re.match(r"\s*['\"]?(\w+)['\"]?\s*[=:](?!=)(.*)", each, re.DOTALL) for each in parts]
    return {pair[1]: pair[2].strip() for pair in pairs if pair}


REFERENCE = re.compile(r"(?<![\w.])(data\.)?((?:crusoe|restapi)_\w+)\.\w+((?:\[[^\]]*\]|\.\w+)+)")


def _references(text: str) -> Iterator[str]:
    """Yield the references to attributes that a type has not; comments are left out."""
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    for data, kind, path in REFERENCE.findall(code):
        types = schema(PREFIXES[kind.split("_")[0]])["data_sources" if data else "resources"]
        if kind in types and not _leads(types[kind], re.findall(r"\.(\w+)", path)):
            yield f"{kind} has no {path.lstrip('.')}"


def _leads(kind: Mapping[str, Any], names: list[str]) -> bool:
    here: Mapping[str, Any] | None = kind
    for name in names:
        if here is None or "attributes" not in here:
            # Into a map or a list of plain values: what is in there is the provider's matter at run time.
            return here is not None and not isinstance(here.get("type"), str)
        here = here["attributes"].get(name)
    return here is not None


def _bare(name: str) -> str:
    return name.strip('"')
