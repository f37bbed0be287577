"""Objects that lie about themselves, raise wherever they are asked, or act when they are made JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from .choices import Choices

__all__ = [
    "ERRORS", "Acting", "Claiming", "Failing", "LyingDict", "LyingInt", "LyingStr", "change_dict", "change_list",
    "error",
]  # fmt: skip

#: What the objects' methods raise.
ERRORS: Final[tuple[type[BaseException], ...]] = (
    ValueError, TypeError, RuntimeError, KeyError, RecursionError, MemoryError, OSError, UnicodeDecodeError,
    StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit, ArithmeticError,
)  # fmt: skip


def error(choices: Choices) -> BaseException:
    """One of ``ERRORS``."""
    kind = choices.pick(ERRORS)
    if kind is UnicodeDecodeError:
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "made up")
    return kind("made up")


class LyingStr(str):
    """A str that says something else wherever it is asked; it is its text."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __str__(self) -> str:
        return "data: forged"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return True

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        return iter("forged")

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"x\n\ndata: forged"

    def isascii(self) -> bool:
        return True


class LyingInt(int):
    """An int that says something else; it is its number."""

    def __repr__(self) -> str:
        return "0\ndata: forged"

    __str__ = __repr__

    def __index__(self) -> int:
        return -1

    def __lt__(self, other: object) -> bool:
        return False

    def __ge__(self, other: object) -> bool:
        return True


class LyingDict(dict[Any, Any]):
    """A dict that says something else of what is in it."""

    def __len__(self) -> int:
        return 99

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, key: object) -> Any:
        return "forged"

    def get(self, key: object, default: Any = None) -> Any:
        return "forged"

    def keys(self) -> Any:
        return ["forged"]


class Failing:
    """An object whose every method raises; its hash does only if asked to, and may be that of a field's name."""

    def __init__(self, raised: BaseException, hashed: int | None) -> None:
        object.__setattr__(self, "_raised", raised)
        object.__setattr__(self, "_hashed", hashed)

    def _fail(self, *arguments: object) -> Any:
        raise object.__getattribute__(self, "_raised")

    __eq__ = __ne__ = __repr__ = __str__ = __len__ = __bool__ = __iter__ = __index__ = __int__ = (
        _fail
    )
    __float__ = __getitem__ = __contains__ = __lt__ = __ge__ = __format__ = __bytes__ = (
        __await__
    ) = _fail

    def __hash__(self) -> int:
        hashed: int | None = object.__getattribute__(self, "_hashed")
        return self._fail() if hashed is None else hashed

    @property
    def __class__(self) -> Any:
        return self._fail()

    @__class__.setter
    def __class__(self, value: object) -> None:
        self._fail()


class Claiming:
    """An object that claims another class, and to equal everything."""

    def __init__(self, claimed: type) -> None:
        self._claimed = claimed

    def __repr__(self) -> str:
        return "claiming"

    @property
    def __class__(self) -> Any:
        return self._claimed

    @__class__.setter
    def __class__(self, value: object) -> None:
        raise AttributeError

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("data")


class Acting(dict[str, Any]):
    """A dict that does something when it is made JSON, and then raises if told to."""

    def __init__(self, act: Callable[[], None], raised: BaseException | None) -> None:
        super().__init__(a=1)
        self._act = act
        self._raised = raised

    def items(self) -> Any:
        self._act()
        if self._raised is not None:
            raise self._raised
        return [("acted", 1)]


def change_list(target: list[Any], way: int) -> None:
    """Change a list that may be being encoded, in one of seven ways."""
    if way <= 1:
        target.clear()
    elif way == 2:
        target.append({"data": "appended"})
    elif way == 3 and target:
        target.pop()
    elif way == 4:
        target[:] = ["replaced" * 100] * 20
    elif way == 5:
        target.insert(0, None)
    else:
        target.reverse()


def change_dict(target: dict[Any, Any], way: int) -> None:
    """Change a dict that may be being encoded, in one of seven ways."""
    if way <= 1:
        dict.clear(target)
    elif way == 2:
        target["comment"] = "added" * 100
    elif way == 3:
        target.pop("data", None)
    elif way == 4:
        target["data"] = "replaced" * 1000
    elif way == 5:
        target[1] = 1
    else:
        target.update({str(n): n for n in range(50)})
