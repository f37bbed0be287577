"""The command's arguments taken apart, and its help. What their texts mean is for ``settings``."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from bunpy.cli.options import GROUPS, OPTIONS, Option
from bunpy.cli.values import SWITCH, WORDS
from bunpy.errors import ConfigError

__all__ = ["COMMANDS", "Arguments", "help_text", "parse"]

#: Words that are no handlers: the name of one has a colon in it, and none of these has.
COMMANDS: Final = ("doctor",)

_HINT: Final = "bunpy --help lists the options"

_HEAD: Final = """\
Serve a handler: a function of a request, as "app:handler", which is handler in app.py. Or:
bunpy doctor URL follows an event stream through what lies between, and says what disturbs it."""

_FOOT: Final = """\
Each option can be set by a variable as well: --limit-head by BUNPY_LIMIT_HEAD, a switch by 1 or 0. An option on the
command line wins, and --no-... takes a switch back. Where no default is told there is no limit, no list, or no;
"none" says so where there is a default. Exit status: 2 for a mistake in the command or in the program, 1 for a port
that cannot be had, 0 after SIGINT or SIGTERM."""


@dataclass(slots=True)
class Arguments:
    """What was on the command line: the handler's name, the options' texts by their names, and what else is asked."""

    target: str | None = None
    texts: dict[str, str] = field(default_factory=dict)
    asks_help: bool = False
    asks_version: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """What argparse says begins with "argument --port: "."""
        match = re.fullmatch(r"argument (--[\w-]+): (.*)", message)
        if match and match[2].startswith("expected"):
            raise ConfigError(f"{match[1]} needs a value: {_HINT}")
        if match and match[2].startswith("ignored"):
            raise ConfigError(f"{match[1]} takes no value: {_HINT}")
        raise ConfigError(f"{message}: {_HINT}")


def parse(arguments: Sequence[str]) -> Arguments:
    """Take arguments apart; ``ConfigError`` for what is no option, and for more than one handler."""
    found, rest = _parser().parse_known_args(list(arguments))
    values: dict[str, Any] = vars(found)
    target = values.pop("target", None)
    for word in rest:
        if word.startswith("-"):
            raise ConfigError(_no_option(word))
        if target in COMMANDS:
            raise ConfigError(f"{target} comes first: bunpy {target} {word}")
        raise ConfigError(f"bunpy serves one handler, and was given {target} and {word}: {_HINT}")
    result = Arguments(target, asks_help="help" in values, asks_version="version" in values)
    for name in OPTIONS:
        if name in values:
            value = values[name]
            result.texts[name] = value if isinstance(value, str) else ",".join(value)
    return result


def help_text() -> str:
    """The help, as it is printed."""
    return _parser().format_help()


def _parser() -> _Parser:
    parser = _Parser(
        "bunpy",
        usage="bunpy module:function [options]",
        description=_HEAD,
        epilog=_FOOT,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Formatter,
    )
    parser.add_argument("target", nargs="?", help=argparse.SUPPRESS)
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option)
    group = parser.add_argument_group("Else")
    group.add_argument("--version", action="store_true", help="bunpy's, and what it runs on")
    group.add_argument("-h", "--help", action="store_true", help="this")
    return parser


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    flag = f"--{option.flag}"
    says = option.says
    if option.default:
        says = f"{says} (default: {option.default})"
    says = says.replace("%", "%%")
    if option.kind is SWITCH:
        for text, name, help_ in (
            ("1", flag, says),
            ("0", f"--no-{option.flag}", argparse.SUPPRESS),
        ):
            group.add_argument(name, dest=option.name, action="store_const", const=text, help=help_)
    elif option.kind is WORDS:
        group.add_argument(
            flag, dest=option.name, action="append", metavar=option.kind.place, help=says
        )
    else:
        group.add_argument(flag, dest=option.name, metavar=option.kind.place, help=says)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "max_help_position": 36, "width": 118})


def _no_option(word: str) -> str:
    name = word.partition("=")[0]
    flags = [f"--{option.flag}" for option in OPTIONS.values()]
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
    return f"there is no option {name}: {f'did you mean {near[0]}?' if near else _HINT}"
