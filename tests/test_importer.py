"""The handler that a name stands for, and the sentence for each way in which there is none."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bunpy.errors import ConfigError, ImportFailed
from bunpy.server.importer import load, refuse_in_import

Write = Callable[..., Path]

HANDLER = """
def handler(req):
    return "hello"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into the current directory, and forgets them at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def file(name: str, source: str = HANDLER) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    yield file
    for name in set(sys.modules) - known:
        module_file = getattr(sys.modules[name], "__file__", None) or ""
        if module_file.startswith(str(tmp_path)):
            del sys.modules[name]


def refusal(target: str) -> str:
    with pytest.raises(ImportFailed) as caught:
        load(target)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is had


def test_a_function_of_a_module(write: Write) -> None:
    write("app_one.py")
    assert load("app_one:handler")(None) == "hello"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("site_two.pages.web:handler", "hello"),
        ("site_two.pages.web:Site.main", "static"),
        ("site_two.pages.web:site.bound", "bound"),
        ("site_two.pages.web:site", "called"),
    ],
)
def test_dots_on_both_sides(write: Write, target: str, answer: str) -> None:
    write("site_two/__init__.py", "")
    write("site_two/pages/__init__.py", "")
    write(
        "site_two/pages/web.py",
        HANDLER
        + """
class Site:
    @staticmethod
    def main(req):
        return "static"
    def bound(self, req, extra=None):
        return "bound"
    def __call__(self, *requests):
        return "called"
site = Site()
""",
    )
    assert load(target)(None) == answer  # type: ignore[arg-type]


def test_the_current_directory_comes_first_and_once(write: Write, tmp_path: Path) -> None:
    write("app_three.py")
    sys.path[:] = ["/somewhere/else", str(tmp_path)]
    load("app_three:handler")
    load("app_three:handler")
    assert sys.path == [str(tmp_path), "/somewhere/else", str(tmp_path)]


def test_an_empty_entry_is_the_current_directory(write: Write) -> None:
    write("app_four.py")
    sys.path[:] = ["", *sys.path]
    before = [*sys.path]
    load("app_four:handler")
    assert sys.path == before


def test_a_module_with_a_name_that_no_statement_could_import(write: Write) -> None:
    write("my-app.py")
    assert callable(load("my-app:handler"))


def test_a_builtin_without_a_signature_is_let_through(write: Write) -> None:
    write("app_five.py", "handler = type\n")
    assert load("app_five:handler") is type


# What is no name


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("app", "'app' does not say which function answers: write module:function, as app:handler"),
        ("", "'' does not say which function answers: write module:function, as app:handler"),
        ("app.py", "app.py names a file, not a module: write app:handler"),
        (
            "./src/app.py:serve",
            "./src/app.py:serve names a file, not a module: write src.app:serve",
        ),
        ("src/app:main", "src/app:main names a file, not a module: write src.app:main"),
        ("app:", "'app:' is no name of a handler: it is module:function, as app:handler"),
        (":handler", "':handler' is no name of a handler: it is module:function, as app:handler"),
        ("app:a..b", "'app:a..b' is no name of a handler: it is module:function, as app:handler"),
        (".app:b", "'.app:b' is no name of a handler: it is module:function, as app:handler"),
        ("a:b:c", "'a:b:c' is no name of a handler: it is module:function, as app:handler"),
        ("app:f()", "'app:f()' is no name of a handler: it is module:function, as app:handler"),
    ],
)
def test_what_is_no_name_of_a_handler(write: Write, target: str, says: str) -> None:
    assert refusal(target) == says


def test_it_is_an_error_of_an_option() -> None:
    with pytest.raises(ConfigError):
        load("app")


# What is not there


def test_a_missing_module_in_an_empty_directory(write: Write, tmp_path: Path) -> None:
    assert refusal("app_none:handler") == (
        f"there is no module app_none in {tmp_path}, nor is one installed:"
        " run bunpy in the directory of its file"
    )


def test_a_missing_module_beside_one_of_a_like_name(write: Write, tmp_path: Path) -> None:
    write("server_app.py")
    assert refusal("serverapp:handler") == (
        f"there is no module serverapp in {tmp_path}, nor is one installed:"
        " did you mean server_app?"
    )


def test_a_missing_module_beside_others(write: Write, tmp_path: Path) -> None:
    write("main.py")
    write("web.py")
    assert refusal("app_none:handler") == (
        f"there is no module app_none in {tmp_path}, nor is one installed; there is main, web"
    )


def test_a_missing_module_of_a_package(write: Write) -> None:
    write("package_one/__init__.py", "")
    write("package_one/pages.py")
    assert refusal("package_one.page:handler") == (
        "the package package_one has no module page: did you mean package_one.pages?"
    )
    assert refusal("package_one.xyz:handler") == (
        "the package package_one has no module xyz: it has pages"
    )


def test_a_module_that_is_no_package(write: Write) -> None:
    write("app_six.py")
    assert refusal("app_six.handler:main") == (
        "app_six, which is no package, has no module handler"
    )


def test_a_missing_attribute_with_one_of_a_like_name(write: Write) -> None:
    path = write("app_seven.py")
    assert refusal("app_seven:handle") == (
        f"app_seven ({path}) has no handle: did you mean handler?"
    )


def test_a_missing_attribute_among_others(write: Write) -> None:
    path = write("app_eight.py", "import os\nclass A: pass\ndef one(req): ...\ndef two(req): ...\n")
    assert refusal("app_eight:handler") == f"app_eight ({path}) has no handler: it has one, two"


def test_a_missing_attribute_where_there_is_nothing(write: Write) -> None:
    path = write("app_nine.py", "x = 1\n")
    assert (
        refusal("app_nine:handler") == f"app_nine ({path}) has no handler, and no function at all"
    )


def test_a_missing_attribute_of_an_attribute(write: Write) -> None:
    write("app_ten.py", "class Site:\n    def main(self, req): ...\nsite = Site()\nn = 1\n")
    assert refusal("app_ten:Site.mian") == "app_ten:Site has no mian: did you mean main?"
    assert refusal("app_ten:n.real.x") == "app_ten:n.real has no x, and no function at all"


# What is no handler


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("handler = {'status': 200}", "is {'status': 200}, and not a function of a request"),
        ("handler = None", "is None, and not a function of a request"),
        ("import json as handler", "is a module: write json:handler, with the name of a function"),
        ("def handler(): ...", "takes (), and cannot be called with a request alone"),
        ("def handler(a, b): ...", "takes (a, b), and cannot be called with a request alone"),
        (
            "async def handler(scope, receive, send): ...",
            "is an ASGI application, and not a function of a request: run it on an ASGI server",
        ),
    ],
)
def test_what_is_no_function_of_a_request(write: Write, source: str, says: str) -> None:
    name = f"app_kind_{abs(hash(source))}"
    write(f"{name}.py", source)
    assert refusal(f"{name}:handler").startswith(f"{name}:handler {says}")


# What raises


def test_a_module_that_raises_is_told_with_its_line_and_is_the_cause(write: Write) -> None:
    write("app_raises.py", "import os\n\nint('many')\n")
    with pytest.raises(ImportFailed) as caught:
        load("app_raises:handler")
    assert str(caught.value) == (
        "app_raises cannot be imported: ValueError: invalid literal for int() with base 10: 'many'"
        " (app_raises.py, line 3)"
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_line_is_the_programs_own_and_not_a_librarys(write: Write) -> None:
    write("app_calls.py", "from settings_one import x\n")
    write("settings_one.py", "import json\n\n\nx = json.loads('{')\n")
    assert refusal("app_calls:handler").endswith(" (settings_one.py, line 4)")


def test_a_syntax_error(write: Write) -> None:
    write("app_syntax.py", "def handler(req)\n    return 1\n")
    assert refusal("app_syntax:handler") == (
        "app_syntax cannot be imported: SyntaxError: expected ':' (app_syntax.py, line 1)"
    )


def test_what_the_module_imports_and_is_not_there(write: Write) -> None:
    write("app_needs.py", "\nimport no_such_library\n")
    assert refusal("app_needs:handler") == (
        "app_needs cannot be imported: it needs the module no_such_library, which is not installed"
        " (app_needs.py, line 2)"
    )


def test_what_a_package_imports_of_itself_and_is_not_there(write: Write) -> None:
    write("package_two/__init__.py", "import package_two.gone\n")
    assert refusal("package_two:handler") == (
        "package_two cannot be imported: it needs the module package_two.gone, which does not exist"
        f" ({Path('package_two/__init__.py')}, line 1)"
    )


def test_a_name_that_cannot_be_imported_from_a_module(write: Write) -> None:
    write("app_from.py", "from json import lods\n")
    assert refusal("app_from:handler").startswith(
        "app_from cannot be imported: ImportError: cannot import name 'lods' from 'json'"
    )


def test_a_module_that_exits(write: Write) -> None:
    write("app_exits.py", "import sys\nsys.exit(3)\n")
    assert refusal("app_exits:handler") == (
        "app_exits cannot be imported: SystemExit: 3 (app_exits.py, line 2)"
    )


def test_many_words_are_cut_and_lines_joined(write: Write) -> None:
    write("app_words.py", "raise RuntimeError('one\\n two ' + 'x' * 1000)\n")
    says = refusal("app_words:handler")
    assert says.startswith("app_words cannot be imported: RuntimeError: one two xxx")
    assert says.endswith("xxx... (app_words.py, line 1)")
    assert len(says) < 400


def test_an_error_without_words(write: Write) -> None:
    write("app_silent.py", "raise KeyError\n")
    assert refusal("app_silent:handler") == (
        "app_silent cannot be imported: KeyError (app_silent.py, line 1)"
    )


def test_an_interrupt_is_let_through(write: Write) -> None:
    write("app_stops.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("app_stops:handler")


def test_a_module_that_was_mended_is_had(write: Write) -> None:
    path = write("app_mended.py", "1 / 0\n")
    refusal("app_mended:handler")
    path.write_text(HANDLER)
    assert callable(load("app_mended:handler"))


# What serves while it is imported


def test_a_module_that_serves_by_itself(write: Write) -> None:
    write(
        "app_serves.py",
        f"from bunpy.server.importer import refuse_in_import as serve\n{HANDLER}\nserve()\n",
    )
    assert refusal("app_serves:handler") == (
        "app_serves calls serve while it is imported for its handler: put that call below"
        ' if __name__ == "__main__": (app_serves.py, line 6)'
    )


def test_only_the_thread_that_imports_is_refused(write: Write) -> None:
    write(
        "app_threads.py",
        f"""{HANDLER}
from bunpy.server.importer import refuse_in_import
said = []
def run():
    refuse_in_import()
    said.append("served")
import threading
thread = threading.Thread(target=run)
thread.start()
thread.join()
""",
    )
    load("app_threads:handler")
    assert sys.modules["app_threads"].said == ["served"]
    refuse_in_import()  # nothing is imported now: it says nothing
