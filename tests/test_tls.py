"""TLS: what the context takes and refuses, and a certificate that is changed while connections go on."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from certificates import PASSWORD, Pair

from bunpy.errors import ConfigError
from bunpy.server.residence import new_loop
from bunpy.server.tls import TLS

SOON = 5.0  # seconds: what should come at once has surely come
LOOPS = {"uvloop": new_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("rsa"), "RSA")


@pytest.fixture
def pair(old: Pair, tmp_path: Path) -> Pair:
    """The old certificate in files that a test may write to."""
    return old.copied_to(tmp_path / "pair")


def made(value: object) -> TLS:
    tls = TLS.of(value)  # type: ignore[arg-type]
    assert tls is not None
    return tls


def given(pair: Pair) -> ssl.SSLContext:
    """A context as a user may make it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


def is_served(tls: TLS, *, of: Pair) -> bool:
    """Whether a new client gets to see that certificate."""
    client = of.client()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return handshake(tls.context, client)[1].getpeercert(binary_form=True) == of.der


class End:
    """One end of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, *, is_server: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if is_server else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, is_server, name)

    def shake_hands(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """The server's and the client's end; raises what one of them says of the other."""
    ours, theirs = End(server, is_server=True), End(client, is_server=False)
    if session is not None:
        theirs.tls.session = session
    for _ in range(10):
        done = theirs.shake_hands()
        ours.incoming.write(theirs.outgoing.read())
        done = ours.shake_hands() and done
        theirs.incoming.write(ours.outgoing.read())
        if done:
            return ours.tls, theirs.tls
    raise AssertionError("the handshake does not end")


# What a value becomes


def test_nothing_is_no_tls() -> None:
    assert TLS.of(None) is None


@pytest.mark.parametrize("value", ["cert.pem", ("cert.pem", "key.pem"), True, 3, b"cert.pem"])
def test_another_value_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=rf"tls is of type {type(value).__name__}: it is a dict"):
        TLS.of(value)  # type: ignore[arg-type]


def test_files_that_cannot_be_used_are_refused(pair: Pair, new: Pair) -> None:
    with pytest.raises(ConfigError, match="is not that of the first certificate"):
        TLS.of({"cert": str(pair.cert), "key": str(new.key)})
    with pytest.raises(ConfigError, match="tls has no key 'certfile'"):
        TLS.of({"certfile": str(pair.cert)})


@pytest.mark.parametrize("name", ["cert and key", "both", "encrypted"])
def test_a_dict_of_files_is_a_servers_context(pair: Pair, name: str) -> None:
    value = {
        "cert and key": pair.option,
        "both": {"cert": pair.both},
        "encrypted": {"cert": pair.cert, "key": pair.encrypted_key, "password": PASSWORD},
    }[name]
    assert is_served(made(value), of=pair)


def test_a_context_that_is_given_is_the_one_that_is_used(pair: Pair) -> None:
    context = given(pair)
    options, minimum = context.options, context.minimum_version
    tls = made(context)
    assert tls.context is context
    assert (context.options, context.minimum_version) == (options, minimum)
    assert handshake(context, alpn(pair, "http/1.1"))[1].selected_alpn_protocol() == "http/1.1"


def test_a_context_of_a_client_is_refused(pair: Pair) -> None:
    with pytest.raises(ConfigError, match=r"client's SSLContext: make it with .*CLIENT_AUTH"):
        TLS.of(pair.client())


def test_a_context_of_the_old_kind_for_both_sides_is_taken(pair: Pair) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    context.load_cert_chain(pair.cert, pair.key)
    assert is_served(made(context), of=pair)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "minimum",
    [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.MINIMUM_SUPPORTED],
)
def test_a_context_for_old_versions_is_refused(pair: Pair, minimum: ssl.TLSVersion) -> None:
    context = given(pair)
    context.minimum_version = minimum
    with pytest.raises(ConfigError, match=r"before 1\.2: set its minimum_version to"):
        TLS.of(context)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_may_be_ruled_out_by_options_too(pair: Pair) -> None:
    context = given(pair)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= ssl.OP_NO_TLSv1
    with pytest.raises(ConfigError, match=r"before 1\.2"):
        TLS.of(context)
    context.options |= ssl.OP_NO_TLSv1_1
    assert made(context).context is context


# What clients get


def versions(pair: Pair, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> ssl.SSLContext:
    client = pair.client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version, client.maximum_version = lowest, highest
    client.set_ciphers("DEFAULT:@SECLEVEL=0")  # nothing else allows what is before 1.2
    return client


def alpn(pair: Pair, *protocols: str) -> ssl.SSLContext:
    client = pair.client()
    client.set_alpn_protocols(protocols)
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(pair: Pair, version: ssl.TLSVersion) -> None:
    _, client = handshake(made(pair.option).context, versions(pair, version, version))
    assert client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


def test_the_highest_version_is_taken(pair: Pair) -> None:
    assert handshake(made(pair.option).context, pair.client())[1].version() == "TLSv1.3"


def test_a_client_of_version_1_1_is_refused(pair: Pair) -> None:
    client = versions(pair, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    with pytest.raises(ssl.SSLError) as caught:
        handshake(made(pair.option).context, client)
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_that_client_could_do_it(pair: Pair) -> None:
    """The refusal is ours: a server that allows it is spoken to."""
    lax = given(pair)
    lax.minimum_version = ssl.TLSVersion.TLSv1
    lax.set_ciphers("DEFAULT:@SECLEVEL=0")
    client = versions(pair, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    assert handshake(lax, client)[1].version() == "TLSv1.1"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], "http/1.1"),
        (["http/1.1", "h2"], "http/1.1"),
        (["h2"], None),
        ([], None),
    ],
)
def test_alpn(pair: Pair, offered: list[str], chosen: str | None) -> None:
    client = alpn(pair, *offered) if offered else pair.client()
    ours, theirs = handshake(made(pair.option).context, client)
    assert (ours.selected_alpn_protocol(), theirs.selected_alpn_protocol()) == (chosen, chosen)


def test_the_handshake_is_the_same_for_wrapped_sockets_and_in_memory(pair: Pair) -> None:
    tls = made(pair.option)
    for context in (tls.context, handshake(tls.context, pair.client())[0].context):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_COMPRESSION
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.verify_mode is ssl.CERT_NONE
        assert context.protocol is ssl.PROTOCOL_TLS_SERVER


def test_there_is_no_compression_and_a_strong_cipher(pair: Pair) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        _, client = handshake(made(pair.option).context, versions(pair, version, version))
        cipher = client.cipher()
        assert cipher is not None
        assert client.compression() is None
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_a_client_sees_the_whole_chain_and_trusts_it(pair: Pair, new: Pair) -> None:
    tls = made(pair.option)
    assert handshake(tls.context, pair.client())[1].getpeercert(binary_form=True) == pair.der
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls.context, new.client())


# Another certificate


def test_reload_takes_the_files_that_are_there_now(pair: Pair, old: Pair, new: Pair) -> None:
    tls = made(pair.option)
    context = tls.context
    assert is_served(tls, of=old)
    new.put_at(pair)
    assert is_served(tls, of=old)
    tls.reload()
    assert is_served(tls, of=new)
    assert tls.context is context
    old.put_at(pair)
    tls.reload()
    assert is_served(tls, of=old)


def test_reload_to_another_type_of_key_leaves_nothing_of_the_old_one(
    pair: Pair, old: Pair, rsa: Pair
) -> None:
    """One context can hold a certificate of each type, and offers clients the choice."""
    tls = made(pair.option)
    rsa.put_at(pair)
    tls.reload()
    assert is_served(tls, of=rsa)
    client = versions(old, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("aECDSA")
    with pytest.raises(ssl.SSLError, match=r"(?i)no shared cipher"):
        handshake(tls.context, client)


def test_what_the_context_promises_holds_after_a_reload(pair: Pair) -> None:
    tls = made(pair.option)
    tls.reload()
    client = alpn(pair, "h2", "http/1.1")
    assert handshake(tls.context, client)[1].selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLError):
        handshake(tls.context, versions(pair, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1))


@pytest.mark.parametrize("fault", ["key of another", "half", "missing", "empty", "password"])
def test_a_broken_reload_keeps_the_old_certificate(
    pair: Pair, old: Pair, new: Pair, fault: str
) -> None:
    tls = made(pair.option)
    new.put_at(pair)
    if fault == "key of another":  # one of the two files is written, the other not yet
        pair.key.write_bytes(old.key.read_bytes())
    elif fault == "half":
        pair.cert.write_bytes(new.cert.read_bytes()[:-100])
    elif fault == "missing":
        pair.key.unlink()
    elif fault == "empty":
        pair.cert.write_bytes(b"")
    else:
        pair.key.write_bytes(new.encrypted_key.read_bytes())
    with pytest.raises(ConfigError) as caught:
        tls.reload()
    message = str(caught.value)
    assert message.startswith("the certificate is not reloaded, and the old one stays in effect: ")
    assert str(pair.cert.parent) in message
    assert is_served(tls, of=old)
    new.put_at(pair)
    tls.reload()
    assert is_served(tls, of=new)


def test_a_context_that_was_given_is_not_reloaded_but_can_be_changed(
    pair: Pair, old: Pair, new: Pair
) -> None:
    context = given(pair)
    tls = made(context)
    with pytest.raises(ConfigError, match=r"only a certificate that was given as files .* load_ce"):
        tls.reload()
    assert is_served(tls, of=old)
    context.load_cert_chain(new.cert, new.key)
    assert is_served(tls, of=new)


def test_the_password_is_asked_for_again(pair: Pair, new: Pair) -> None:
    passwords = ["right", PASSWORD, PASSWORD]
    value = {"cert": pair.cert, "key": pair.encrypted_key, "password": lambda: passwords.pop()}
    tls = made(value)
    tls.reload()
    with pytest.raises(ConfigError, match="is not the password"):
        tls.reload()
    assert passwords == []
    assert is_served(tls, of=pair)


def test_sessions_of_the_old_certificate_are_not_resumed(pair: Pair, new: Pair) -> None:
    """A session that is resumed shows no certificate: a client of the old one would never see the new."""
    tls = made(pair.option)
    version = ssl.TLSVersion.TLSv1_2
    client = versions(pair, version, version)
    _, first = handshake(tls.context, client)
    assert resumed(tls, client, first.session)
    new.put_at(pair)
    tls.reload()
    new.authority.configure_trust(client)
    assert not resumed(tls, client, first.session)


def resumed(tls: TLS, client: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    assert session is not None
    return bool(handshake(tls.context, client, session)[1].session_reused)


def test_reload_from_many_threads_during_handshakes(pair: Pair, old: Pair, new: Pair) -> None:
    """Each client gets one of the two, whole."""
    tls = made(pair.option)
    over = threading.Event()
    errors: list[BaseException] = []

    def reload_again_and_again() -> None:
        try:
            while not over.is_set():
                tls.reload()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=reload_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            handshake(tls.context, old.client())
    finally:
        over.set()
        for thread in threads:
            thread.join(SOON)
    assert errors == []


# Over sockets


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def say(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: bytes) -> bytes:
    reader, writer = connection
    writer.write(line)
    return await reader.readline()


def run(loop_name: str, coroutine: Callable[[], Awaitable[None]]) -> None:
    loop = LOOPS[loop_name]()
    try:
        loop.run_until_complete(asyncio.wait_for(coroutine(), SOON))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.mark.parametrize("loop_name", LOOPS)
def test_an_old_connection_goes_on_while_new_ones_get_the_new_certificate(
    pair: Pair, old: Pair, new: Pair, loop_name: str
) -> None:
    async def connections() -> None:
        tls = made(pair.option)
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.context)
        port = server.sockets[0].getsockname()[1]
        before = await asyncio.open_connection("127.0.0.1", port, ssl=old.client())
        assert await say(before, b"one\n") == b"one\n"
        new.put_at(pair)
        await asyncio.to_thread(tls.reload)
        after = await asyncio.open_connection("127.0.0.1", port, ssl=new.client())
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=old.client())
        assert await say(before, b"two\n") == b"two\n"
        assert await say(after, b"three\n") == b"three\n"
        for (_, writer), pair_seen in ((before, old), (after, new)):
            seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert seen == pair_seen.der
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop_name, connections)


def test_a_socket_that_is_wrapped_gets_the_new_certificate_too(pair: Pair, new: Pair) -> None:
    tls = made(pair.option)
    new.put_at(pair)
    tls.reload()
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with tls.context.wrap_socket(ours, server_side=True) as accepted:
            accepted.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with new.client().wrap_socket(theirs, server_hostname="localhost") as client:
        seen = client.getpeercert(binary_form=True)
        client.send(b"x")
    thread.join(SOON)
    assert seen == new.der
