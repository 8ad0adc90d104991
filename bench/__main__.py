"""The command line: `python -m bench [PART ...]` measures and prints a table for each part."""

import argparse
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from signal import SIGTERM, signal

from bench import alarms, connections, docs, faults, idle, moves, peers, scale, throughput
from bench.plan import SHORT, Plan
from bench.table import CHUCKY, Row, Table, heading

PARTS: dict[str, Callable[[Table, Plan], None]] = {
    "throughput": throughput.measure,
    "idle": idle.measure,
    "moves": moves.measure,
    "kills": faults.measure_kills,
    "silence": faults.measure_silence,
    "connections": connections.measure,
    "alarms": alarms.measure,
    docs.SCALE_PART: scale.measure,
}
DESCRIPTORS = 65536  # of a node and of its clients


def main() -> int:
    """Measure the parts that are asked for, or all; return 1 when one of them broke off."""
    options = _options()
    if not shutil.which("gcc"):
        print("bench: no gcc: sudo apt-get install gcc libc6-dev", file=sys.stderr)
        return 1
    signal(SIGTERM, lambda *_: sys.exit(1))  # so that namespaces and processes go, too
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    plan = SHORT if options.short else Plan()
    command = "make bench PARTS={}"
    if options.minutes is not None:
        plan = replace(plan, alarm_minutes=options.minutes)
        command += f" MINUTES={options.minutes:g}"
    if options.nice is not None:
        plan = replace(plan, busy_nice=options.nice)
        command += f" NICE={options.nice}"
    broken = 0
    for part in options.parts or PARTS:
        table = Table()
        said, good = _measured(part, table, plan)
        broken += not good
        print(f"{command.format(part)}\n\n{said}\n", flush=True)
        if options.write and good:
            docs.write(part, command.format(part), said, table)
    return min(broken, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Chucky beside its peers.")
    parser.add_argument("--short", action="store_true", help="little of everything: no figures")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs, too")
    parser.add_argument("--minutes", type=float, help="of the part alarms")
    parser.add_argument("--nice", type=int, help="of the busy loops of the part alarms")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    if options.short and options.write:
        parser.error("a short run has no figures to write")
    return options


def _measured(part: str, table: Table, plan: Plan) -> tuple[str, bool]:
    """Fill the table; return what is printed of it, and whether the part came to its end."""
    before = heading(f"not installed: {', '.join(peers.missing()) or 'none'}")
    began, good = time.monotonic(), True
    try:
        PARTS[part](table, plan)
    except AssertionError as error:
        table.add(Row(f"{part}: broke off", {CHUCKY: " ".join(str(error).split())}, "", False))
        good = False
    minutes = (time.monotonic() - began) / 60
    return f"{before}\n\n{table.text()}\n\n{heading(f'after {minutes:.1f} minutes')}", good


if __name__ == "__main__":
    sys.exit(main())
