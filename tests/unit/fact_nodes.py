"""FactServices with their clock, route and links laid open, for the tests of service and port."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from chucky.messages import Answer, Ask, Epoch, Message
from chucky.names import NodeName
from chucky.net.service import FactService, Nobody, Route, Serve
from chucky.settings import Facts

FOREVER_MS = 1 << 60
EPOCH_4, EPOCH_5, EPOCH_6 = (Epoch(n, NodeName("a", "manticore")) for n in (4, 5, 6))


class Node:
    """A FactService with its clock, route and outbox laid open; not yet bound."""

    def __init__(
        self,
        route: Route = Nobody(),  # noqa: B008 - frozen
        hold_ms: int = 20_000,
        max_connections: int = 100,
        listen: str = "127.0.0.1",
        port: int = 0,
        fact: str = "fact",
    ) -> None:
        self.route = route
        self.ahead_ms = 0  # of the real clock
        self.picked = 0
        self.writers: list[asyncio.StreamWriter] = []  # of clients, closed at the end
        self.fact = fact
        self.sent: list[tuple[int, Message]] = []
        self.send: Callable[[int, Message], None] = lambda link, message: self.sent.append(
            (link, message)
        )
        self.service = FactService(
            Facts(listen=listen, port=port, max_connections=max_connections),
            hold_ms,
            self.clock_ms,
            lambda: self.route,
            self.pick,
            lambda link, message: self.send(link, message),
        )
        self.service.note_epoch(EPOCH_5)  # the core has heard of it

    def clock_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms

    def pick(self) -> bytes:
        self.picked += 1
        return f"{self.fact} {self.picked}\n".encode()

    def becomes(self, route: Route) -> None:
        self.route = route
        self.service.changed()

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.service.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def get(self, sent: bytes = b"") -> bytes:
        reader, writer = await self.connect(sent)
        received = await reader.read()
        writer.close()
        return received

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0)

    async def held(self, count: int) -> None:
        await self.until(lambda: self.service.waiting == count)


def run(check: Callable[..., Awaitable[None]], *nodes: Node, bind: bool = True) -> None:
    async def main() -> None:
        try:
            for node in nodes:
                if bind:
                    node.service.bind()
            async with asyncio.timeout(30):
                await check(*nodes)
        finally:
            for node in nodes:
                node.service.close()
                for writer in node.writers:
                    writer.close()

    asyncio.run(main())


def wire(left: Node, left_link: int, right: Node, right_link: int) -> None:
    """Join two nodes: what is sent on either's link comes out at the other's, in the next turn of
    the loop. Several joints may be made of one node."""

    def join(here: Node, link: int, there: Node, their_link: int) -> None:
        before = here.send

        def send(over: int, message: Message) -> None:
            if over != link:
                before(over, message)
                return
            here.sent.append((over, message))
            loop = asyncio.get_running_loop()
            if isinstance(message, Ask):
                loop.call_soon(there.service.answer_ask, their_link, message)
            elif isinstance(message, Answer):
                loop.call_soon(there.service.on_answer, their_link, message)

        here.send = send

    join(left, left_link, right, right_link)
    join(right, right_link, left, left_link)


def asks(node: Node) -> list[Ask]:
    return [message for _, message in node.sent if isinstance(message, Ask)]


def owner(**changes: object) -> Node:
    return Node(Serve(EPOCH_5, FOREVER_MS), **changes)  # type: ignore[arg-type]
