"""What a reload reads, what it takes over of that, and what waits for a restart."""

import asyncio
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from chucky import config, cookie, facts
from chucky.daemon_options import Options
from chucky.errors import ChuckyError
from chucky.settings import Settings

RELOADABLE = frozenset(
    {
        ("distributed", "takeover"),
        ("distributed", "takeover_delay_ms"),
        ("node", "cookie_file"),
        ("discovery", "interval_ms"),
        ("discovery", "peers"),
        ("facts", "file"),
    }
)

# What the votes of a majority depend on (docs/decisions/0006).
ELECTORAL = ("distributed.nodes", "distributed.timeout", "distributed.quorum")


async def read_files(
    options: Options,
) -> tuple[Settings, tuple[str, ...], bytes, tuple[str, ...]]:
    """Return the config, its warnings, the key and the facts. Raises ChuckyError."""
    settings, warnings = config.load(options.config)
    secret = cookie.read(options.cookie_file or settings.node.cookie_file)
    lines = facts.load(settings.facts.file)
    thread = ThreadPoolExecutor(1)  # not the loop's, whose end takes one more
    try:
        # 50 ms: more than a short tick.
        key = await asyncio.get_running_loop().run_in_executor(thread, cookie.key, secret)
    except RuntimeError as error:  # no process is left, or no memory for its stack
        raise ChuckyError(f"the cookie's key: {error}; try again") from None
    finally:
        thread.shutdown(wait=False)  # who asked may have left: nobody waits for it, then
    return settings, warnings, key, lines


def merge(running: Settings, read: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return the running settings with what may change, and the keys that wait for a restart."""
    taken, kept = running, []
    for section in ("distributed", "node", "discovery", "facts"):
        old, new = getattr(running, section), getattr(read, section)
        for field in dataclasses.fields(old):
            value = getattr(new, field.name)
            if value == getattr(old, field.name):
                continue
            if (section, field.name) in RELOADABLE:
                part = dataclasses.replace(getattr(taken, section), **{field.name: value})
                taken = dataclasses.replace(taken, **{section: part})
            else:
                kept.append(f"{section}.{field.name.removesuffix('_ms')}")
    return taken, tuple(kept)


def waits(
    kept: tuple[str, ...], running: Settings, read: Settings, linked: list[str]
) -> Iterator[str]:
    """Yield a sentence for what waits: on the end of links, on a restart, on one of all nodes.

    `linked`: the peers with which a link is up that was made with another cookie than is read.
    """
    if linked:
        yield (
            f"links made with the old cookie stay until they end, with {', '.join(linked)}: reload"
            " with the new one there, then restart one node after the other"
        )
    if kept:
        yield f"a restart is needed for: {', '.join(kept)}"
    together = [key for key in kept if key in ELECTORAL]
    if together and "majority" in (running.distributed.quorum, read.distributed.quorum):
        yield f'change these with all nodes stopped, for quorum "majority": {", ".join(together)}'
