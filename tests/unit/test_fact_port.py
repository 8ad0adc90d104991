"""TCP 4040 on real loopback sockets: binding, and clients of every kind."""

import asyncio
import contextlib
import re
import resource
import socket
import struct

import pytest

from chucky.errors import ChuckyError
from chucky.net import fact_port
from chucky.net.service import Nobody, Serve
from tests.unit.fact_nodes import EPOCH_5, FOREVER_MS, Node, owner, run
from tests.unit.test_multicast import needs_ipv6


def ends_in_a_reset(client: socket.socket) -> None:
    """From now on closing it does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# Binding


@needs_ipv6
def test_every_address_by_default_or_the_one_given() -> None:
    async def check(every: Node, six: Node) -> None:
        for node, hosts in ((every, ("127.0.0.1", "::1")), (six, ("::1",))):
            for host in hosts:
                reader, writer = await asyncio.open_connection(host, node.service.port)
                assert await reader.read() == b"fact " + str(node.picked).encode() + b"\n"
                writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", six.service.port)

    run(check, owner(listen=""), owner(listen="::1"))


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    # No such family, as with ipv6.disable=1: asking the kernel for family 255 is refused by the
    # real call with the same errno.
    monkeypatch.setattr(socket, "AF_INET6", 255)

    async def check(node: Node) -> None:
        assert await node.get() == b"fact 1\n"

    run(check, owner(listen=""))


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        async def check(node: Node) -> None:
            with pytest.raises(
                ChuckyError, match=f"TCP port {port} on 127.0.0.1: .*in use.*ss -l"
            ) as e:
                node.service.bind()
            with pytest.raises(ChuckyError, match=re.escape(str(e.value))):
                node.service.check()
            assert not node.service.bound
            assert "\n" not in str(e.value)

        run(check, owner(port=port), bind=False)


def test_the_way_out_is_that_of_the_trouble() -> None:
    # An address of a network for documentation (RFC 5737), which nobody has.
    listen, way_out = "192.0.2.1", "no interface here has that address: set [facts] listen"

    async def check(node: Node) -> None:
        with pytest.raises(ChuckyError) as caught:
            node.service.bind()
        said = f"TCP port 0 on {listen}: Cannot assign requested address; {way_out}"
        assert str(caught.value) == said

    run(check, owner(listen=listen), bind=False)


@pytest.mark.parametrize("free", [0, 1])
def test_no_descriptors_to_listen_with(free: int) -> None:
    # It wants two: for the port, and to watch who waits.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check(node: Node) -> None:
        fill = [socket.socket()]
        resource.setrlimit(resource.RLIMIT_NOFILE, (fill[0].fileno() + 8, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    fill.append(socket.socket())
            for _ in range(free):
                fill.pop().close()
            with pytest.raises(ChuckyError, match="TCP port 0 on 127.0.0.1: Too many open files"):
                node.service.bind()
            assert not node.service.bound
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fill:
                filler.close()
        node.service.bind()
        _, client = await node.connect()
        await node.held(1)
        # It is watched, too.
        ends_in_a_reset(client.get_extra_info("socket"))
        client.close()
        await node.held(0)

    run(check, Node(), bind=False)


@pytest.mark.parametrize("listen", ["203.0.113.7", "localhost", "rubbish"])
def test_an_address_that_is_not_this_machines(listen: str) -> None:
    async def check(node: Node) -> None:
        with pytest.raises(ChuckyError, match=f"TCP port 0 on {listen}"):
            node.service.bind()

    run(check, owner(listen=listen), bind=False)


def test_several_nodes_share_the_port() -> None:
    async def check(first: Node) -> None:
        second = owner(port=first.service.port, fact="other")
        second.service.bind()
        while not (first.picked and second.picked):
            assert (await first.get()).split()[0] in (b"fact", b"other")
        second.service.close()
        assert (await first.get()).startswith(b"fact")

    run(check, owner())


def test_unbind_frees_the_port_and_keeps_who_came_before() -> None:
    async def check(node: Node) -> None:
        port = node.service.port
        held, _ = await node.connect()
        await node.held(1)
        # This one is in the listen queue only: the loop has had no turn to accept it.
        with socket.create_connection(("127.0.0.1", port)) as queued:
            node.service.unbind()
            assert not node.service.bound
            assert node.service.waiting == 2
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            node.becomes(Serve(EPOCH_5, FOREVER_MS))
            assert await held.read() == b"fact 1\n"
            assert queued.recv(100) == b"fact 2\n"
        node.service.bind()
        node.service.bind()  # already bound: nothing happens
        assert await node.get() == b"fact 3\n"

    run(check, Node())


# Clients


def test_a_client_that_sends_much_first_still_gets_its_fact() -> None:
    async def check(node: Node) -> None:
        def send_then_read() -> bytes:
            with socket.create_connection(("127.0.0.1", node.service.port)) as client:
                client.sendall(bytes(1024 * 1024))
                client.shutdown(socket.SHUT_WR)
                received = b""
                while chunk := client.recv(100):
                    received += chunk
                return received

        assert await asyncio.to_thread(send_then_read) == b"fact 1\n"
        # And one that is held meanwhile.
        node.becomes(Nobody())
        getting = asyncio.ensure_future(asyncio.to_thread(send_then_read))
        await node.held(1)
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert await getting == b"fact 2\n"

    run(check, owner())


def test_what_comes_after_the_fact_resets_nothing() -> None:
    async def check(node: Node) -> None:
        reader, writer = await node.connect()
        assert await reader.read() == b"fact 1\n"  # with the server's end of the stream
        for _ in range(50):
            writer.write(bytes(10_000))  # would fail with a reset
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        await node.until(lambda: not node.service._port.open)

    run(check, owner())


@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_closes_after_its_fact_is_gone(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_port, "LINGER_MS", 3_600_000)  # not the way out here

    async def check(node: Node) -> None:
        reader, writer = await node.connect()
        assert await reader.read() == b"fact 1\n"
        if late:
            await node.until(lambda: not node.service._port._answered)
            assert node.service._port._clients
        writer.close()
        await node.until(lambda: not node.service._port.open)

    run(check, owner())


def test_a_half_closed_client_still_gets_its_fact() -> None:
    async def check(node: Node) -> None:
        reader, writer = await node.connect(b"hello\n")
        writer.write_eof()
        await node.held(1)
        (client,) = node.service._port._clients.values()
        await node.until(lambda: client.ended)
        assert node.service.waiting == 1
        node.becomes(Serve(EPOCH_5, FOREVER_MS))
        assert await reader.read() == b"fact 1\n"

    run(check, Node())


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_reset_ends_the_wait(half_closed: bool) -> None:
    async def check(node: Node) -> None:
        client = socket.create_connection(("127.0.0.1", node.service.port))
        await node.held(1)
        if half_closed:
            client.shutdown(socket.SHUT_WR)
            (held,) = node.service._port._clients.values()
            await node.until(lambda: held.ended)
        ends_in_a_reset(client)
        client.close()
        await node.held(0)
        assert not node.service._port.open

    run(check, Node())


def test_a_half_closed_client_costs_no_wakeups() -> None:
    async def check(node: Node) -> None:
        _, writer = await node.connect()
        writer.write_eof()
        await node.held(1)
        (client,) = node.service._port._clients.values()
        await node.until(lambda: client.ended)
        epoll = node.service._port._epoll
        assert epoll is not None
        assert epoll.poll(0) == []

    run(check, Node())


def test_silent_clients_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_port, "LINGER_MS", 20)

    async def check(node: Node) -> None:
        clients = [socket.create_connection(("127.0.0.1", node.service.port)) for _ in range(5)]
        await node.until(lambda: node.picked == 5)  # they neither read nor close
        await node.until(lambda: not node.service._port.open)
        assert all(client.recv(100).startswith(b"fact") for client in clients)
        for client in clients:
            client.close()

    run(check, owner())


def test_lingering_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_port, "LINGERING", 3)

    async def check(node: Node) -> None:
        clients = [socket.create_connection(("127.0.0.1", node.service.port)) for _ in range(8)]
        await node.until(lambda: node.picked == 8)
        await node.until(lambda: not node.service._port._answered)
        assert node.service._port.open == 3
        assert all(client.recv(100).startswith(b"fact") for client in clients)
        for client in clients:
            client.close()

    run(check, owner())


def test_out_of_descriptors_it_rests_says_so_once_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def check(node: Node) -> None:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
        limit = max(client.fileno() for client in clients) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        fill = []
        try:
            while True:
                fill.append(socket.socket())
        except OSError:
            pass
        try:
            for client in clients:
                client.connect_ex(("127.0.0.1", node.service.port))
            loop = asyncio.get_running_loop()
            await node.until(lambda: len(caplog.records) > 0)
            # It has left the loop: nothing spins, and it tries again before long.
            listener = node.service._port._listener
            assert listener is not None
            assert not loop.remove_reader(listener)
            tries = asyncio.Event()
            loop.call_later(0.25, tries.set)
            await tries.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fill:
                filler.close()
        for client in clients:
            assert (await loop.sock_recv(client, 100)).startswith(b"fact")
            client.close()
        (record,) = caplog.records
        assert "Too many open files" in record.getMessage()

    run(check, owner())


def test_at_the_edge_of_its_descriptors_it_says_so_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(node: Node) -> None:
        for ahead_ms, said in (0, 1), (30_000, 1), (60_000, 2):
            node.ahead_ms = ahead_ms
            refused: list[int] = []
            monkeypatch.setattr(fact_port, "_most_clients", lambda: refused.append(1) or 0)
            reader, _ = await node.connect()
            await node.until(lambda: bool(refused))
            monkeypatch.setattr(fact_port, "_most_clients", lambda: 100)
            assert (await reader.read()).startswith(b"fact")
            assert len(caplog.records) == said

    run(check, owner())
