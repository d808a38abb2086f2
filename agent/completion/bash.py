"""The completion script for bash, 4.0 or later. It needs nothing else, not even the package bash-completion."""

from __future__ import annotations

from collections.abc import Sequence

from agent.completion.words import DEFAULT, Command, Option, Value, variables

_SCRIPT = """\
# Completion of beta9-worker for bash. Made by `beta9-worker completion bash`; do not edit.
_beta9_worker() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command='' each
    # bash splits --option=value into three words.
    if [[ $word == = ]]; then word=''; elif [[ $before == = ]]; then before=${{COMP_WORDS[COMP_CWORD - 2]}}; fi
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
        case $each in
            {names}) command=$each; break ;;
            -*) command={default}; break ;;
        esac
    done
    COMPREPLY=()
    case "${{command:-{default}}} $before" in
{values}
    esac
    local words=''
    case $command in
        '') words='{names_words} {all_options}' ;;
{options}
    esac
    if [[ $word != -* ]]; then
        case $command in
{arguments}
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -F _beta9_worker beta9-worker
"""
_ACTIONS = {
    Value.FILE: 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")',
    Value.DIRECTORY: 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word")',
    Value.TEXT: ":",
}


def script(commands: Sequence[Command], global_options: Sequence[Option]) -> str:
    """Return the script."""
    default = next(command for command in commands if command.name == DEFAULT)
    names = [command.name for command in commands]
    return _SCRIPT.format(
        default=DEFAULT,
        names=" | ".join(names),
        names_words=" ".join(names),
        all_options=_names([*global_options, *default.options]),
        values="\n".join(_values(commands)),
        options="\n".join(f"        {each.name}) words='{_names(each.options)}' ;;" for each in commands),
        arguments="\n".join(_arguments(commands)),
    )


def _names(options: Sequence[Option]) -> str:
    return " ".join(dict.fromkeys(name for option in options for name in option.names))


def _values(commands: Sequence[Command]) -> list[str]:
    """Return one case for each action, with all the options that it follows."""
    places: dict[str, list[str]] = {}
    for command in commands:
        for option in command.options:
            if option.value is not Value.NONE:
                places.setdefault(_action(option), []).extend(
                    f"'{command.name} {name}'" for name in option.names
                )
    return [f"        {' | '.join(where)}) {action}; return ;;" for action, where in places.items()]


def _action(option: Option) -> str:
    if option.choices:
        return f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(option.choices)}' -- \"$word\")"
    if option.value is Value.VARIABLE:
        words = " ".join(f"{name}=" for name in variables())
        return f"compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$word\")"
    return _ACTIONS[option.value]


def _arguments(commands: Sequence[Command]) -> list[str]:
    """Return one case for each command that takes an argument."""
    return [
        f"            {command.name}) {_action(command.arguments[0])}; return ;;"
        for command in commands
        if command.arguments
    ]
