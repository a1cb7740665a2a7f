"""Declarations of commands: their help texts, one `flag` for each flag, and the function that does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from rgt_arch.version import __version__

Flag = tuple[Sequence[str], dict[str, Any]]


def flag(usage: str, help: str, kind: Callable[[str], Any] | None = None, **settings: Any) -> Flag:
    """Declare a flag or positional argument; `settings` are those of `ArgumentParser.add_argument`.

    usage: its names and, if it takes a value, the value's name in the help: "-o --output FILE". kind: converts the
    value.
    """
    words = usage.split()
    names = [word for word in words if word.startswith("-")] or words[:1]
    if len(words) > len(names):
        settings["metavar"] = words[-1]
    if kind:
        settings["type"] = kind
    elif usage.startswith("-") and not settings:
        settings["action"] = "store_true"
    return names, {"help": help, **settings}


@dataclass(frozen=True)
class Command:
    """A command, or without `run` a group of commands.

    `run` gets the flags that the user gave, as keywords, and returns the exit code or None for 0. A flag that was not
    given is not passed on: its default is that of the library's function, which is imported when the command runs.
    """

    name: str
    """The words that users type; in a group, the group's name comes first: "prepare lr"."""
    summary: str
    """One line in the list of commands."""
    description: str
    epilog: str
    """Examples and other lines that are printed unchanged."""
    flags: Sequence[Flag | list[Flag]] = ()
    """Of the flags of an inner list, users may give at most one."""
    run: Callable[..., int | None] | None = None


def command(
    name: str, summary: str, description: str, epilog: str, *flags: Flag | list[Flag]
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a Command whose `run` is the decorated function."""
    return lambda run: Command(name, summary, description, epilog, flags, run)


class _Formatter(argparse.HelpFormatter):
    """Wraps texts, except texts with line breaks."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text.rstrip() if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest command, flag or choice for a mistyped one."""

    words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.words = list(sys.argv[1:] if args is None else args)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(unknown[0].partition('=')[0], flags)}")
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(
                action, error.message + _hint(str(value), map(str, action.choices or ()))
            ) from None

    def error(self, message: str) -> NoReturn:
        file = next(filter(os.path.isfile, self.words), None)
        if file and "required: -" in message:
            message += f"; did you mean {message.rpartition(': ')[2].split('/')[0]} {file}?"
        super().error(message)


def _hint(word: str, known: Iterable[str]) -> str:
    from rgt_arch.config.problems import nearest  # imports YAML, which `--help` does not need

    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def parse(
    main: Command, commands: Sequence[Command], argv: Sequence[str] | None
) -> tuple[Callable[[], int | None], str, bool]:
    """Parse the arguments (default: sys.argv). Returns the call of the command, its name, and --verbose."""
    given = vars(build_parser(main, commands).parse_args(argv))
    command, prog, verbose = given.pop("command"), given.pop("prog"), given.pop("verbose", False)
    return partial(command.run, **given), prog, verbose


def build_parser(main: Command, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Build the parser of the console command `main`. It sets `command` and `prog` beside the flags that were given."""
    parser = _Parser(main.name, description=main.description, epilog=main.epilog, formatter_class=_Formatter)
    parser.add_argument("--version", action="version", version=f"rgt-arch {__version__}")
    groups = {"": _add_subparsers(parser, "", commands)}
    for command in commands:
        group, _, name = command.name.rpartition(" ")
        texts = {"help": command.summary, "description": command.description, "epilog": command.epilog}
        member = groups[group].add_parser(name, argument_default=argparse.SUPPRESS, **texts, formatter_class=_Formatter)
        for item in command.flags:
            container = member.add_mutually_exclusive_group() if isinstance(item, list) else member
            for names, settings in item if isinstance(item, list) else [item]:
                container.add_argument(*names, **settings)
        member.add_argument("--verbose", action="store_true", help="show a traceback when something fails")
        if command.run is None:
            groups[command.name] = _add_subparsers(member, command.name, commands)
        else:
            member.set_defaults(command=command, prog=member.prog)
    return parser


def _add_subparsers(parser: argparse.ArgumentParser, group: str, commands: Sequence[Command]) -> Any:
    names = [command.name.split()[-1] for command in commands if command.name.rpartition(" ")[0] == group]
    return parser.add_subparsers(required=True, metavar="|".join(names) if len(names) < 6 else "COMMAND")
