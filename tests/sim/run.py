"""Runs seeds: `python3 -m tests.sim.run SEED` tells one's story, `--seeds N --first S` runs many.

A seed is one cluster's life: it draws machines, settings, network and faults; in phase one anything
may break and every S-promise is checked at every step; then all heals and every L-promise must come
true in its time.
"""

import argparse
import gc
import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.sim import swarm
from tests.sim.clock import MS
from tests.sim.cluster import Cluster
from tests.sim.drills import Drills
from tests.sim.nemesis import Nemesis
from tests.sim.requests import Asker, Requests
from tests.sim.witness import Witness

LEAST_MS = 61_000  # a seed is a minute at least, and true time begins at 1 s
COUNTS_REFERENCES = sys.implementation.name == "cpython"


def slack_us(options: swarm.Options) -> int:
    """What a handshake, a Status each way and the timers between take beyond a design's bound."""
    return 10 * (options.base_us + options.jitter_us) + 4 * (options.late_us + MS) + options.app_us


def live(seed: int, tell: Callable[[str], None] | None = None) -> Cluster:
    """Live through one seed. Raises AssertionError, or whatever else broke."""
    options = swarm.draw(random.Random(seed))
    cluster = swarm.build(options, seed)
    cluster.telling = tell
    cluster.tell(str(options))
    # S2 asks for one [distributed]; what it really rests on is one electorate and one timeout.
    witness = Witness(cluster, slack_us(options), options.majority and options.one_electorate)
    requests = Requests(cluster)
    Asker(cluster)
    nemesis = Nemesis(cluster, options)
    nemesis.begin()
    cluster.run(options.bad_us // MS)
    Drills(cluster, options, nemesis, requests, witness.administrators, slack_us(options)).run()
    cluster.run(max(0, LEAST_MS - cluster.now_ms))
    return cluster


def digest(seed: int) -> str:
    """Return what all that happens in a seed comes to: its story, its messages, its state."""
    told = hashlib.sha256()
    cluster = live(seed, lambda words: told.update(words.encode()))
    for host in cluster.hosts.values():
        told.update(f"{host.log} {host.answers}".encode())
    told.update(f"{cluster.steps} {cluster.sends} {cluster.rng.random()} {cluster}".encode())
    return told.hexdigest()


class Outcome(NamedTuple):
    """What became of a seed: what broke, or ""; the steps of its nodes, and what they took."""

    seed: int
    broken: str
    steps: int = 0
    cpu_s: float = 0.0


def attempt(seed: int) -> Outcome:
    """Live through a seed."""
    # A seed leaves few cycles, and a look at all it holds, each 700 things, takes a tenth of it:
    # one look at its end will do, and that not at what was there before. (PyPy knows by itself.)
    if COUNTS_REFERENCES:
        gc.disable()
        gc.freeze()
    began_s = time.process_time()
    try:
        steps = live(seed).steps
    except Exception as error:  # noqa: BLE001 - whatever breaks is this seed's failure
        if isinstance(error, AssertionError) and str(error):
            return Outcome(seed, str(error))
        import traceback

        return Outcome(seed, "".join(traceback.format_exception(error)[-6:]))
    finally:
        if COUNTS_REFERENCES:
            gc.collect()
    return Outcome(seed, "", steps, time.process_time() - began_s)


def outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    """Yield each seed's outcome. Raises BrokenProcessPool when a process that runs them dies."""
    if jobs == 1:
        yield from map(attempt, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(attempt, seeds, chunksize=4)


def summary(found: Sequence[Outcome], took_s: float) -> str:
    """Return the lines that a run ends with."""
    failed = sum(o.broken != "" for o in found)
    pace = sum(o.steps for o in found) / (sum(o.cpu_s for o in found) or 1)
    counts = f"{len(found) - failed} passed, {failed} failed, {len(found) / took_s:.2f} seeds/s"
    return f"{pace:.0f} steps/s per core\n{counts}"


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim.run")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--digests", action="store_true", help="print what each seed comes to")
    parser.add_argument("--until", metavar="PATTERN", help="stop at a failure that begins so")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        print(live(arguments.seed, print))
        return 0
    began = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.digests:
        print("\n".join(f"{seed} {digest(seed)}" for seed in seeds))
        return 0
    found = []
    for o in outcomes(seeds, arguments.jobs):
        found.append(o)
        if o.broken:
            print(f"seed {o.seed}: {o.broken}")
            print(f"replay: python3 -m tests.sim.run {o.seed}\n", flush=True)
            if arguments.until and re.match(arguments.until, o.broken):
                break
    print(summary(found, time.monotonic() - began))
    return 1 if any(o.broken for o in found) else 0


if __name__ == "__main__":
    sys.exit(main())
