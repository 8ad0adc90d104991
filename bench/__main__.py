"""The command line: `python -m bench [--short] [PART ...]` measures and prints the table."""

import argparse
import resource
import shutil
import sys
from collections.abc import Callable

from bench import connections, gaps, idle, peers, throughput
from bench.plan import SHORT, Plan
from bench.table import Table, heading

PARTS: dict[str, Callable[[Table, Plan], None]] = {
    "throughput": throughput.measure,
    "idle": idle.measure,
    "gaps": gaps.measure,
    "connections": connections.measure,
}
DESCRIPTORS = 65536  # of a node and of its clients, as LimitNOFILE= of the unit


def main() -> int:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure Chucky beside its peers.")
    parser.add_argument("--short", action="store_true", help="little of everything: no figures")
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
    print(heading(f"not installed: {', '.join(peers.missing()) or 'none'}"), flush=True)
    table = Table()
    for part in options.parts or PARTS:
        PARTS[part](table, plan)
    print(f"\n{table.text()}\n\n{heading('at the end')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
