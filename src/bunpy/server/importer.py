"""The handler that a name stands for: "app:handler" is imported, or it is said in one sentence why it cannot be.

Whoever named it on a command line sees the sentence and nothing else; what its module raised is kept as the cause.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from bunpy.errors import ImportFailed

if TYPE_CHECKING:
    from bunpy.http.service import Handler

__all__ = ["load", "refuse_in_import"]

#: How much of an exception's own words is said.
_MOST_WORDS: Final = 300
#: How many names are offered in place of one that is wrong.
_MOST_NAMES: Final = 8

_BUNPY: Final = os.path.join(str(Path(__file__).parent.parent), "")

#: What each thread is importing just now.
_importing = threading.local()


def load(target: str) -> Handler:
    """Import the handler that ``target`` names: a module, a colon, and a name in it, as "app:handler" or
    "package.module:site.handler". The current directory comes first on ``sys.path`` from then on.

    ``ImportFailed`` says in one sentence why there is none; its ``__cause__`` is what the module raised.
    """
    module_name, path = _split(target)
    directory = str(Path.cwd())
    if sys.path[:1] not in ([""], [directory]):
        sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the module may be a moment old, as after a restart on change
    return _checked(target, _attribute(_import(module_name, directory), module_name, path))


def refuse_in_import() -> None:
    """``ImportFailed`` if the calling thread imports a handler that was named: its module must not serve as well."""
    name = getattr(_importing, "name", None)
    if name is not None:
        raise ImportFailed(
            f"{name} calls serve while it is imported for its handler: put that call below"
            ' if __name__ == "__main__":'
        )


def _split(target: str) -> tuple[str, list[str]]:
    """The module's name and the attributes' names."""
    module_name, colon, path = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        name = module_name.removesuffix(".py").replace(os.sep, "/").strip("./").replace("/", ".")
        raise ImportFailed(
            f"{target} names a file, not a module: write {name or 'app'}:{path or 'handler'}"
        )
    if not colon:
        raise ImportFailed(
            f"{target!r} does not say which function answers: write module:function, as"
            f" {module_name or 'app'}:handler"
        )
    names = path.split(".")
    if not all(module_name.split(".")) or not all(name.isidentifier() for name in names):
        raise ImportFailed(
            f"{target!r} is no name of a handler: it is module:function, as app:handler"
        )
    return module_name, names


def _import(name: str, directory: str) -> ModuleType:
    before = getattr(_importing, "name", None)
    _importing.name = name
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as exc:  # a SystemExit as well: a module that ends the program has no handler either
        if isinstance(exc, ImportFailed):  # of ``refuse_in_import``
            raise ImportFailed(f"{exc}{_where(exc, directory)}") from None
        if isinstance(exc, ModuleNotFoundError) and _is_itself_missing(exc, name):
            raise ImportFailed(_no_module(name, str(exc.name), directory)) from None
        raise ImportFailed(_raised(name, exc, directory)) from exc
    finally:
        _importing.name = before


def _is_itself_missing(exc: ModuleNotFoundError, name: str) -> bool:
    """Whether it is the module itself that is not there, and not one that it imports."""
    return f"{name}.".startswith(f"{exc.name}.") and not _frames(exc)


def _frames(exc: BaseException) -> list[traceback.FrameSummary]:
    """The frames of a traceback that are of neither this module nor the import system's."""
    return [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]


# What is said of a module


def _no_module(name: str, missing: str, directory: str) -> str:
    parent, _, last = missing.rpartition(".")
    if not parent:
        others = [found.name for found in pkgutil.iter_modules([directory])]
        says = f"there is no module {missing} in {directory}, nor is one installed"
        advice = "run bunpy in the directory of its file"
    else:
        package = sys.modules[parent]
        places = list(getattr(package, "__path__", ()))
        others = [found.name for found in pkgutil.iter_modules(places)]
        what = f"the package {parent}" if places else f"{parent}, which is no package,"
        says = f"{what} has no module {last}"
        advice = ""
    near = _near(last, others)
    if near:
        right = name.replace(missing, f"{parent}.{near[0]}".lstrip("."), 1)
        return f"{says}: did you mean {right}?"
    if others and len(others) <= _MOST_NAMES:
        return (
            f"{says}: it has {_listed(others)}" if parent else f"{says}; there is {_listed(others)}"
        )
    return f"{says}: {advice}" if advice else says


def _raised(name: str, exc: BaseException, directory: str) -> str:
    """That a module raised while it was imported, what, and where."""
    where = _where(exc, directory)
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        lack = "does not exist" if "." in exc.name else "is not installed"
        return f"{name} cannot be imported: it needs the module {exc.name}, which {lack}{where}"
    words = " ".join((exc.msg if isinstance(exc, SyntaxError) else str(exc)).split())
    if len(words) > _MOST_WORDS:
        words = f"{words[:_MOST_WORDS]}..."
    return f"{name} cannot be imported: {type(exc).__name__}{': ' if words else ''}{words}{where}"


def _where(exc: BaseException, directory: str) -> str:
    """The file and line where an exception arose: the program's own, not those of a library that it called."""
    if isinstance(exc, SyntaxError) and exc.filename and exc.filename[0] != "<":
        place: tuple[str, int | None] = (exc.filename, exc.lineno)
    else:
        frames = _frames(exc)
        if not frames:
            return ""
        libraries = tuple(
            {
                os.path.join(sysconfig.get_path(kind), "")
                for kind in ("stdlib", "purelib", "platlib")
            }
        )
        own = [
            frame for frame in frames if not frame.filename.startswith((*libraries, "<", _BUNPY))
        ]
        frame = (own or frames)[-1]
        place = (frame.filename, frame.lineno)
    file = place[0].removeprefix(os.path.join(directory, ""))
    return f" ({file}, line {place[1]})"


# What is said of an attribute


def _attribute(module: ModuleType, module_name: str, path: list[str]) -> Any:
    value: Any = module
    said = module_name
    for name in path:
        try:
            inner = getattr(value, name)
        except AttributeError:
            raise ImportFailed(_no_attribute(value, said, name)) from None
        value = inner
        said = f"{said}{':' if said == module_name else '.'}{name}"
    return value


def _no_attribute(value: object, said: str, name: str) -> str:
    file = getattr(value, "__file__", None)
    where = f" ({file})" if isinstance(value, ModuleType) and file else ""
    says = f"{said}{where} has no {name}"
    names = (
        [key for key, inner in vars(value).items() if _is_offered(key, inner)]
        if (hasattr(value, "__dict__"))
        else []
    )
    near = _near(name, names)
    if near:
        return f"{says}: did you mean {' or '.join(near)}?"
    if names:
        return f"{says}: it has {_listed(names)}"
    return f"{says}, and no function at all"


def _is_offered(key: str, value: object) -> bool:
    return not key.startswith("_") and callable(value) and not isinstance(value, type)


def _checked(target: str, value: Any) -> Handler:
    """``value`` if it can be called with a request."""
    if isinstance(value, ModuleType):
        raise ImportFailed(
            f"{target} is a module: write {value.__name__}:handler, with the name of a function in it"
        )
    if not callable(value):
        raise ImportFailed(f"{target} is {value!r:.80}, and not a function of a request")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a builtin that has none
        return value  # type: ignore[no-any-return]
    try:
        signature.bind(None)
    except TypeError:
        if list(signature.parameters)[:3] == ["scope", "receive", "send"]:
            raise ImportFailed(
                f"{target} is an ASGI application, and not a function of a request: run it on an ASGI server"
            ) from None
        raise ImportFailed(
            f"{target} takes {signature}, and cannot be called with a request alone"
        ) from None
    return value  # type: ignore[no-any-return]


def _near(name: str, others: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(others), n=2, cutoff=0.6)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"
