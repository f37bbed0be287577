"""What is to be run: flags and variables, each read, checked and told by its own name when it makes no sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bunpy.cli.options import OPTIONS, Option
from bunpy.cli.parser import Arguments
from bunpy.cli.values import SWITCH
from bunpy.errors import ConfigError
from bunpy.server.config import Config
from bunpy.shown import shown

__all__ = ["Settings", "arguments_of", "settings_of"]

#: Options that are ``serve``'s own, or the command's, and no fields of ``Config``.
_PORT: Final = 3000
_HOST: Final = "127.0.0.1"
_PASSWORD: Final = "BUNPY_TLS_PASSWORD"

#: Options that make processes come and go by themselves, by what makes none.
_SEVERAL: Final = {"workers": 1, "max_requests": None, "max_lifetime": None}
#: The parts of ``tls``, as its faults are told.
_TLS_PARTS: Final = re.compile(r"tls\['(cert|key|password)'\]")
#: Names of fields in what ``Config`` says of several at once; "tls" and such are words of any sentence.
_NAMES: Final = re.compile(
    rf"\b({'|'.join(name for name in OPTIONS if '_' in name and '.' not in name)})\b"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one run. ``options`` are ``serve``'s; ``flags`` the texts that were on the command line."""

    target: str
    hostname: str = _HOST
    port: int = _PORT
    options: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    reloads: bool = False
    reload_dirs: tuple[str, ...] = (".",)
    shows_tracebacks: bool = False

    def in_flags(self, message: str) -> str:
        """A message of ``Config``'s or ``serve``'s, with the names that the user knows."""
        return _renamed(message, self.origins)


def settings_of(arguments: Arguments, environment: Mapping[str, str]) -> Settings:
    """The settings that arguments and variables make; ``ConfigError`` names the one that makes no sense.

    BUNPY_PURE is not looked at: ``_speedups`` does that.
    """
    assert arguments.target is not None
    given = dict(_given(arguments.texts, environment))
    origins = {name: origin for name, (origin, _) in given.items()}
    values = {name: _value(OPTIONS[name], *given[name]) for name in given}
    hostname, port = _place(values, origins)
    options = _options(values)
    if "tls" in options:
        _complete_tls(options["tls"], origins, environment)
    if "cors" in options and "origins" not in options["cors"]:
        first = next(name for name in origins if name.startswith("cors."))
        raise ConfigError(f"{origins[first]} says nothing without --cors-origins")
    _check_together(options, origins)
    return Settings(
        arguments.target,
        hostname,
        port,
        options,
        arguments.texts,
        origins,
        **_own(values, origins),
    )


def _given(texts: Mapping[str, str], environment: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Each option that was given: its name, and (where it was, its text). An empty variable is none."""
    for name, option in OPTIONS.items():
        if name in texts:
            yield name, (f"--{option.flag}", texts[name])
        elif environment.get(option.variable) and name != "pure":
            yield name, (option.variable, environment[option.variable])


def _value(option: Option, origin: str, text: str) -> Any:
    if option.is_optional and text.lower() == "none":
        return None
    wrong: str | None
    try:
        value = option.kind.read(text)
    except ValueError:
        wrong = option.kind.says
    else:
        wrong = option.check(value)
        if wrong is None:
            return value
    raise ConfigError(
        f"{origin} is {shown(text)}: {wrong}{', or none' if option.is_optional else ''}"
    )


def _place(values: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[str, int]:
    """Where to listen; what is on the command line wins over any variable, a Unix socket or not."""
    others = [origins[name] for name in ("hostname", "port") if name in values]
    if "unix" in values:
        is_flag = origins["unix"].startswith("-")
        rivals = [origin for origin in others if origin.startswith("-") or not is_flag]
        if not rivals:
            return f"unix:{values['unix']}", 0
        if is_flag or not any(origin.startswith("-") for origin in rivals):
            raise ConfigError(
                f"{origins['unix']} is a place of its own: leave {' and '.join(rivals)} out"
            )
    return values.get("hostname", _HOST), values.get("port", _PORT)


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``serve``, parts of a dict put together."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        whole, dot, part = name.partition(".")
        if dot:
            options.setdefault(whole, {})[part] = "*" if value == ("*",) else value
        elif OPTIONS[name].field is not None:
            options[name] = value
    return options


def _complete_tls(
    tls: dict[str, Any], origins: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    for part, other in (("cert", "key"), ("key", "cert")):
        if part not in tls:
            raise ConfigError(f"{origins[f'tls.{other}']} needs --tls-{part} beside it")
    if environment.get(_PASSWORD):
        tls["password"] = environment[_PASSWORD]


def _check_together(options: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Have ``Config`` look at all of them: some it must see whole, or beside others."""
    try:
        Config(**options)
    except ConfigError as exc:
        raise ConfigError(_renamed(str(exc), origins)) from None


def _own(values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """The command's own options."""
    reloads = values.get("reload", False)
    if not reloads and "reload_dir" in values:
        raise ConfigError(f"{origins['reload_dir']} says nothing without --reload")
    several = [name for name in _SEVERAL if values.get(name, _SEVERAL[name]) != _SEVERAL[name]]
    if reloads and several:
        raise ConfigError(
            f"{origins['reload']} runs one process, and replaces it when a file changes:"
            f" leave {origins[several[0]]} out"
        )
    own: dict[str, Any] = {"reloads": reloads, "shows_tracebacks": values.get("debug", False)}
    if "reload_dir" in values:
        own["reload_dirs"] = values["reload_dir"]
    return own


def _renamed(message: str, origins: Mapping[str, str]) -> str:
    def origin(name: str) -> str:
        return origins.get(name) or f"--{OPTIONS[name].flag}"

    if message.startswith("cors: "):
        names = [origins[name] for name in origins if name.startswith("cors.")]
        message = f"{', '.join(names)}: {message.removeprefix('cors: ')}"
    message = _TLS_PARTS.sub(
        lambda match: _PASSWORD if match[1] == "password" else origin(f"tls.{match[1]}"), message
    )
    return _NAMES.sub(lambda match: origin(match[1]), message)


def arguments_of(flags: Mapping[str, str]) -> Iterator[str]:
    """The flags as they would be written."""
    for name, text in flags.items():
        option = OPTIONS[name]
        if option.kind is SWITCH:
            yield f"--{option.flag}" if text == "1" else f"--no-{option.flag}"
        else:
            yield f"--{option.flag}={text}"
