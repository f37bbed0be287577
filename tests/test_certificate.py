"""A certificate's files: what can be used, and what is said about what cannot."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import PASSWORD, Pair

from bunpy.errors import ConfigError
from bunpy.server.certificate import CertificateFiles


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("rsa"), "RSA")


def load(value: dict[str, Any]) -> None:
    CertificateFiles.of(value).load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def refusal(value: dict[str, Any]) -> str:
    """What is said; it is a sentence of ours in any case, and repeats no secret."""
    with pytest.raises(ConfigError) as caught:
        load(value)
    message = str(caught.value)
    assert not message.startswith("[")
    assert PASSWORD not in message
    assert "PRIVATE KEY-----" not in message
    return message


# What can be used


@pytest.mark.parametrize("password", [None, PASSWORD, "not asked for"])
def test_a_pair_of_files(pair: Pair, password: str | None) -> None:
    load({"cert": str(pair.cert), "key": str(pair.key), "password": password})


def test_paths_of_pathlib(pair: Pair) -> None:
    load({"cert": pair.cert, "key": pair.key})


@pytest.mark.parametrize("key", [{}, {"key": None}])
def test_a_key_in_the_file_of_the_certificate(pair: Pair, key: dict[str, None]) -> None:
    load({"cert": str(pair.both), **key})


def test_another_type_of_key(rsa: Pair) -> None:
    load(rsa.option)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        PASSWORD.encode(),
        bytearray(PASSWORD.encode()),
        lambda: PASSWORD,
        lambda: PASSWORD.encode(),
    ],
    ids=["str", "bytes", "bytearray", "function of str", "function of bytes"],
)
def test_a_password(pair: Pair, password: str | bytes | Callable[[], str | bytes]) -> None:
    load({"cert": str(pair.cert), "key": str(pair.encrypted_key), "password": password})


def test_a_password_in_the_file_of_both(pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.encrypted_key.read_bytes())
    load({"cert": str(both), "password": PASSWORD})
    assert f"the private key in {both} is encrypted" in refusal({"cert": str(both)})


def test_a_function_is_called_each_time(pair: Pair) -> None:
    calls: list[str] = []

    def password() -> str:
        calls.append("called")
        return PASSWORD

    value = {"cert": str(pair.cert), "key": str(pair.encrypted_key), "password": password}
    files = CertificateFiles.of(value)
    assert calls == []
    for count in (1, 2):
        files.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        assert len(calls) == count


def test_a_function_is_not_called_for_a_key_that_needs_no_password(pair: Pair) -> None:
    load({**pair.option, "password": lambda: pytest.fail("called")})


def test_comments_in_any_script_between_certificates(pair: Pair, tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_bytes("Schlüssel für läufige Hasen\n".encode() + pair.cert.read_bytes())
    load({"cert": str(cert), "key": str(pair.key)})


def test_a_path_means_the_same_file_wherever_the_process_goes(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair.cert.parent)
    files = CertificateFiles.of({"cert": pair.cert.name, "key": pair.key.name})
    monkeypatch.chdir(tmp_path)
    assert (files.cert, files.key) == (str(pair.cert), str(pair.key))
    files.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_a_password_is_not_shown(pair: Pair) -> None:
    files = CertificateFiles.of({**pair.option, "password": PASSWORD})
    assert PASSWORD not in repr(files)


# Options that make no sense


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "tls lacks 'cert'"),
        ({"key": "key.pem"}, "tls lacks 'cert'"),
        ({"cert": None, "key": "key.pem"}, "tls lacks 'cert'"),
        ({"cert": "a", "keyfile": "b"}, "tls has no key 'keyfile'; it has cert, key, password"),
        ({"cert": 3}, "tls['cert'] is of type int: it is the path of a PEM file"),
        ({"cert": b"cert.pem"}, "tls['cert'] is of type bytes"),
        ({"cert": ""}, "tls['cert'] is '': it is the path"),
        ({"cert": "a\0b"}, r"tls['cert'] is 'a\x00b': it is the path"),
        ({"cert": "a", "key": ["b"]}, "tls['key'] is of type list"),
        ({"cert": "a", "key": ""}, "tls['key'] is ''"),
        ({"cert": "a", "password": 3}, "tls['password'] is of type int: it is a str, bytes, or"),
        ({"cert": "-----BEGIN CERTIFICATE-----\n"}, "tls['cert'] is the text of a PEM file"),
        (
            {"cert": "a", "key": "-----BEGIN PRIVATE KEY-----\nMII"},
            "write it to one and give its path",
        ),
    ],
)
def test_options_that_make_no_sense(value: dict[str, Any], says: str) -> None:
    assert says in refusal(value)


# Files that cannot be used


@pytest.mark.parametrize("name", ["cert", "key"])
def test_a_missing_file(pair: Pair, tmp_path: Path, name: str) -> None:
    missing = tmp_path / "missing.pem"
    message = refusal({**pair.option, name: str(missing)})
    assert message.startswith(
        f"tls['{name}']: {missing} cannot be read (No such file or directory)"
    )
    assert "give a file that this process may read" in message


@pytest.mark.parametrize("name", ["cert", "key"])
def test_a_folder(pair: Pair, tmp_path: Path, name: str) -> None:
    message = refusal({**pair.option, name: str(tmp_path)})
    assert f"tls['{name}']: {tmp_path} cannot be read (Is a directory)" in message


Content = Callable[[Pair], bytes]


def chain(pair: Pair) -> bytes:
    return pair.cert.read_bytes()


def key(pair: Pair) -> bytes:
    return pair.key.read_bytes()


def authority(pair: Pair) -> bytes:
    content: bytes = pair.authority.cert_pem.bytes()
    return content


def damaged(content: bytes) -> bytes:
    result, count = re.subn(rb"-----\nM", b"-----\nA", content, count=1)
    assert count == 1
    return result


NO_CERTIFICATE: dict[str, tuple[Content, str]] = {
    "empty": (lambda pair: b"", "holds no certificate in PEM"),
    "something else": (lambda pair: b"hello\n", "holds no certificate in PEM"),
    "a key": (key, "holds no certificate in PEM"),
    "DER": (lambda pair: pair.der, "is not PEM but perhaps DER: convert it"),
    "half": (lambda pair: chain(pair)[:200], "ends in the middle of a certificate"),
    "without its last line": (
        lambda pair: chain(pair)[: chain(pair).rindex(b"-----END")],
        "ends in the middle of a certificate",
    ),
    "half a chain": (
        lambda pair: (chain(pair) + authority(pair))[:-100],
        "ends in the middle of a certificate",
    ),
    "damaged": (
        lambda pair: damaged(chain(pair)),
        "holds a certificate that is damaged: write the file again",
    ),
    "in a damaged chain": (
        lambda pair: chain(pair) + damaged(authority(pair)),
        "holds a certificate that is damaged",
    ),
    "not ASCII": (
        lambda pair: chain(pair).replace(b"\nMI", b"\n\xff\xff", 1),
        "holds a certificate that is damaged",
    ),
}

NO_KEY: dict[str, tuple[Content, str]] = {
    "empty": (lambda pair: b"", "tls['key']: {} holds no private key in PEM"),
    "a certificate": (chain, "tls['key']: {} holds no private key in PEM"),
    "DER": (lambda pair: b"0\x81", "tls['key']: {} is not PEM but perhaps DER"),
    "half": (lambda pair: key(pair)[:100], "tls['key']: {} ends in the middle of a private key"),
    "damaged": (
        lambda pair: damaged(key(pair)),
        "the private key in {} is damaged: write the file",
    ),
}


@pytest.mark.parametrize("name", NO_CERTIFICATE)
def test_what_is_no_certificate(pair: Pair, tmp_path: Path, name: str) -> None:
    content, says = NO_CERTIFICATE[name]
    file = tmp_path / "cert.pem"
    file.write_bytes(content(pair))
    message = refusal({"cert": str(file), "key": str(pair.key)})
    assert message.startswith(f"tls['cert']: {file} {says}")


@pytest.mark.parametrize("name", NO_KEY)
def test_what_is_no_key(pair: Pair, tmp_path: Path, name: str) -> None:
    content, says = NO_KEY[name]
    file = tmp_path / "key.pem"
    file.write_bytes(content(pair))
    message = refusal({"cert": str(pair.cert), "key": str(file)})
    assert message.startswith(says.format(file))


def test_no_key_in_the_file_of_the_certificate(pair: Pair) -> None:
    message = refusal({"cert": str(pair.cert)})
    assert message.startswith(f"tls['cert']: {pair.cert} holds no private key in PEM")
    assert message.endswith("or give the path of the key as tls['key']")


def test_the_key_of_another_certificate(pair: Pair, other: Pair, rsa: Pair) -> None:
    for stranger in (other, rsa):
        message = refusal({"cert": str(pair.cert), "key": str(stranger.key)})
        assert message.startswith(
            f"the private key in {stranger.key} is not that of the first certificate in {pair.cert}"
        )


def test_a_chain_in_the_wrong_order(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_bytes(authority(pair) + chain(pair))
    message = refusal({"cert": str(file), "key": str(pair.key)})
    assert "the server's own certificate before the rest of its chain" in message


def test_what_openssl_holds_to_be_weak(tmp_path: Path, program: Callable[[str], str]) -> None:
    cert, weak = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = [
        program("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:512",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]
    make += ["-keyout", str(weak), "-out", str(cert)]
    subprocess.run(make, check=True, capture_output=True, timeout=30)
    message = refusal({"cert": str(cert), "key": str(weak)})
    assert message.startswith(f"OpenSSL refuses {cert} with {weak} (ee key too small): make a new")


# Passwords


def test_without_the_password_nobody_is_asked_for_it(pair: Pair) -> None:
    """Not even where there is a terminal: OpenSSL opens it by itself."""
    assert f"the private key in {pair.encrypted_key} is encrypted: give its password" in refusal(
        {"cert": str(pair.cert), "key": str(pair.encrypted_key)}
    )
    script = textwrap.dedent(
        f"""
        import fcntl, termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        open("/dev/tty").close()  # there is a terminal
        from bunpy.errors import ConfigError
        from bunpy.server.tls import TLS
        try:
            TLS.of({ {"cert": str(pair.cert), "key": str(pair.encrypted_key)}!r})
        except ConfigError as exc:
            print("refused:", exc)
        """
    )
    ours, theirs = pty.openpty()
    try:
        run = subprocess.run(
            [sys.executable, "-c", script],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=30,
            start_new_session=True,
        )
        os.set_blocking(ours, False)
        with contextlib.suppress(BlockingIOError):
            pytest.fail(f"it said at the terminal {os.read(ours, 1000)!r}")
    finally:
        os.close(theirs)
        os.close(ours)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("refused: the private key in")


@pytest.mark.parametrize("password", ["wrong", "", b"wrong", lambda: "wrong"])
def test_a_wrong_password(pair: Pair, password: object) -> None:
    value = {"cert": str(pair.cert), "key": str(pair.encrypted_key), "password": password}
    message = refusal(value)
    assert message == (
        f"tls['password'] is not the password of the private key in {pair.encrypted_key}: give the right one"
    )


def test_a_password_that_openssl_cannot_take(pair: Pair) -> None:
    value = {"cert": str(pair.cert), "key": str(pair.encrypted_key)}
    assert "password cannot be longer than 1024 bytes" in refusal({**value, "password": "x" * 2000})
    assert "tls['password'] cannot be used" in refusal({**value, "password": "\udc80"})


def test_a_function_that_fails(pair: Pair) -> None:
    def password() -> str:
        raise LookupError(f"{PASSWORD} is in no vault")

    value = {"cert": str(pair.cert), "key": str(pair.encrypted_key), "password": password}
    message = refusal(value)
    assert f"for the password of the key in {pair.encrypted_key} and raised LookupError" in message
    with pytest.raises(ConfigError) as caught:
        load(value)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_function_that_returns_no_password(pair: Pair) -> None:
    value = {"cert": str(pair.cert), "key": str(pair.encrypted_key), "password": lambda: 3}
    assert "returned a int: it is to return str or bytes" in refusal(value)


def test_files_that_are_mended_meanwhile(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could not be read, and when they are looked at again there is nothing wrong with them."""
    late = tmp_path / "late.pem"

    files = CertificateFiles.of({"cert": str(late), "key": str(pair.key)})
    look = CertificateFiles._fault

    def look_later(self: CertificateFiles) -> str | None:
        late.write_bytes(pair.cert.read_bytes())
        return look(self)

    monkeypatch.setattr(CertificateFiles, "_fault", look_later)
    with pytest.raises(ConfigError, match=r"could not be read \(No such file .*\), but now can be"):
        files.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
