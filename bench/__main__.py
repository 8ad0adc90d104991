"""The command line: `python -m bench [--short] [PART ...]` measures and prints the table."""

import argparse
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

from bench import alarms, connections, faults, idle, moves, peers, throughput
from bench.plan import SHORT, Plan
from bench.table import Table, heading

PARTS: dict[str, Callable[[Table, Plan], None]] = {
    "throughput": throughput.measure,
    "idle": idle.measure,
    "moves": moves.measure,
    "faults": faults.measure,
    "connections": connections.measure,
    "alarms": alarms.measure,
}
DESCRIPTORS = 65536  # of a node and of its clients, as LimitNOFILE= of the unit


def main() -> int:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure Chucky beside its peers.")
    parser.add_argument("--short", action="store_true", help="little of everything: no figures")
    parser.add_argument("--minutes", type=float, help="of the part alarms")
    parser.add_argument("--nice", type=int, help="of the busy loops of the part alarms")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    if not shutil.which("gcc"):
        print("bench: no gcc: sudo apt-get install gcc libc6-dev", file=sys.stderr)
        return 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    plan = SHORT if options.short else Plan()
    if options.minutes is not None:
        plan = replace(plan, alarm_minutes=options.minutes)
    if options.nice is not None:
        plan = replace(plan, busy_nice=options.nice)
    print(heading(f"not installed: {', '.join(peers.missing()) or 'none'}"), flush=True)
    table = Table()
    for part in options.parts or PARTS:
        PARTS[part](table, plan)
    print(f"\n{table.text()}\n\n{heading('at the end')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
