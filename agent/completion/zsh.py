"""The completion function for zsh: a file called _beta9-worker on $fpath, or evaluated after compinit."""

from __future__ import annotations

from collections.abc import Sequence

from agent.completion.words import DEFAULT, Command, Option, Value, variables

_SCRIPT = """\
#compdef beta9-worker
# Completion of beta9-worker for zsh. Made by `beta9-worker completion zsh`; do not edit.
_beta9-worker() {{
  local command={default}
  local -a commands=(
{commands}
  )
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    _describe -t commands command commands
    return
  fi
  if [[ $words[2] != -* ]]; then
    command=$words[2]
    shift words
    (( CURRENT-- ))
  fi
  case $command in
{cases}
  esac
}}
if [[ $funcstack[1] == _beta9-worker ]]; then _beta9-worker "$@"; else compdef _beta9-worker beta9-worker; fi
"""
_ACTIONS = {Value.FILE: "_files", Value.DIRECTORY: "_files -/", Value.TEXT: " "}


def script(commands: Sequence[Command], global_options: Sequence[Option]) -> str:
    """Return the script."""
    described = (f"    {_quoted(_escaped(each.name, ':') + ':' + each.help)}" for each in commands)
    return _SCRIPT.format(
        default=DEFAULT,
        commands="\n".join(described),
        cases="\n".join(_case(each, global_options if each.name == DEFAULT else ()) for each in commands),
    )


def _case(command: Command, more: Sequence[Option]) -> str:
    known = {name for option in command.options for name in option.names}
    options = [*command.options, *(option for option in more if not known.intersection(option.names))]
    specs = [spec for option in options for spec in _option(option)]
    specs += [_quoted(f":{_escaped(option.metavar, ':')}:{_action(option)}") for option in command.arguments]
    lines = " \\\n".join(f"        {spec}" for spec in specs)
    return f"    {command.name})\n      _arguments -S \\\n{lines}\n      ;;"


def _option(option: Option) -> list[str]:
    """Return a specification of _arguments for each name of an option."""
    end = ""
    if option.value is not Value.NONE:
        end = f":{_escaped(option.metavar or 'value', ':')}:{_action(option)}"
    others = f"({' '.join(option.names)})" if len(option.names) > 1 else ""
    star = "*" if option.repeatable else ""
    text = _escaped(option.help, "[]:")
    return [
        _quoted(f"{others}{star}{name}{'=' if end and name.startswith('--') else ''}[{text}]{end}")
        for name in option.names
    ]


def _action(option: Option) -> str:
    if option.choices:
        return f"({' '.join(option.choices)})"
    if option.value is Value.VARIABLE:
        return f"compadd -S '' -- {' '.join(f'{name}=' for name in variables())}"
    return _ACTIONS[option.value]


def _escaped(text: str, characters: str) -> str:
    return "".join(f"\\{each}" if each in characters or each == "\\" else each for each in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
