"""Style as a test: the floors, what is banned where, and the sizes, read from the source itself.

Each rule takes the path below the package and the text of one module, and returns its problems.
Each has a test of its own that shows it can fail.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "chucky"

# A part is a module or a directory of the package. Imports go down. On floors 1 and 2 the parts
# stand side by side and none imports another; on floor 0 are values made of each other, and floor
# 3 is where they meet: what its jobs share is `report`, and a larger job has several modules, named
# daemon_*, cli_* or demo_*. The version is a value; the rest of __init__ is from below, and
# `files` gives bytes.
FLOORS: dict[int, set[str]] = {
    0: {
        "__version__", "errors", "files", "names", "priority", "settings", "config_checks",
        "messages",
    },
    1: {"config", "cookie", "facts", "client", "wire", "core"},
    2: {"net"},
    3: {"__init__", "__main__", "daemon", "cli", "demo", "report", "check"},
}  # fmt: skip
SIDE_BY_SIDE = {1, 2}
NEVER = {("net", "core")}  # sockets know the wire, not the decisions

PURE = {"core", "wire"}
IMPURE_MODULES = {"asyncio", "socket", "time", "random", "secrets", "os", "logging", "datetime"}
IMPURE_BUILTINS = {"open", "print"}

CATCHES_ALL = {"Exception", "BaseException"}
MAY_CATCH_ALL = {"daemon.py"}
LEFTOVERS = re.compile(r"\b(FIXME|XXX)\b")

FUNCTION_LINES, MODULE_LINES, COLUMNS = 60, 400, 100


def part_of(path: str) -> str:
    """Return the part of the package that a path below it belongs to."""
    return path.partition("/")[0].removesuffix(".py")


def floor_of(part: str) -> int | None:
    """Return the floor of a part, or None when it stands on none."""
    for number, parts in FLOORS.items():
        if part in parts:
            return number
    return 3 if part.startswith(("daemon_", "cli_", "demo_")) else None


def imported(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of everything a module imports, wherever it does."""
    package = ["chucky", *path.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = [*base, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*whole, alias.name])) for alias in node.names)


def part_imported(name: str) -> str:
    """Return the part that a dotted name in chucky belongs to: its own names are __init__'s."""
    below = name.split(".")[1:]
    return below[0] if below and floor_of(below[0]) is not None else "__init__"


# -- the rules


def floors(path: str, text: str) -> list[str]:
    own = part_of(path)
    floor = floor_of(own)
    if floor is None:
        return [f"{path}: {own} stands on no floor"]
    problems = []
    for line, name in imported(path, ast.parse(text)):
        part = part_imported(name)
        below = floor_of(part)
        if name.partition(".")[0] != "chucky" or part == own or below is None:
            continue
        if below > floor:
            problems.append(f"{path}:{line}: imports {part}: up, from floor {floor} to {below}")
        elif (below == floor and floor in SIDE_BY_SIDE) or (own, part) in NEVER:
            problems.append(f"{path}:{line}: {own} must not know {part}")
    return problems


def pure(path: str, text: str) -> list[str]:
    if part_of(path) not in PURE:
        return []
    tree = ast.parse(text)
    problems = [
        f"{path}:{line}: imports {name}"
        for line, name in imported(path, tree)
        if name.partition(".")[0] in IMPURE_MODULES
    ]
    return problems + [
        f"{path}:{node.lineno}: uses {node.id}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in IMPURE_BUILTINS
    ]


def catches(path: str, text: str) -> list[str]:
    problems = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            problems.append(f"{path}:{node.lineno}: bare except")
        elif path not in MAY_CATCH_ALL:
            named = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            problems += [f"{path}:{node.lineno}: except {x}" for x in sorted(named & CATCHES_ALL)]
    return problems


def leftovers(path: str, text: str) -> list[str]:
    return [
        f"{path}:{number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := LEFTOVERS.search(line))
    ]


def sizes(path: str, text: str) -> list[str]:
    lines = text.splitlines()
    problems = [
        f"{path}:{number}: {len(line)} columns, want {COLUMNS} at most"
        for number, line in enumerate(lines, 1)
        if len(line) > COLUMNS
    ]
    if len(lines) > MODULE_LINES:
        problems.append(f"{path}: {len(lines)} lines, want {MODULE_LINES} at most")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                problems.append(
                    f"{path}:{node.lineno}: {node.name} has {size} lines,"
                    f" want {FUNCTION_LINES} at most"
                )
    return problems


def docstring(path: str, text: str) -> list[str]:
    return [] if ast.get_docstring(ast.parse(text)) else [f"{path}: no module docstring"]


RULES: list[Callable[[str, str], list[str]]] = [
    floors, pure, catches, leftovers, sizes, docstring,
]  # fmt: skip


# -- what they say of the package


def modules() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def test_the_package_is_there() -> None:
    assert {"errors.py", "core/events.py", "wire/__init__.py"} <= set(modules())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_tidy(rule: Callable[[str, str], list[str]]) -> None:
    problems = [
        problem
        for path in modules()
        for problem in rule(path, (PACKAGE / path).read_text(encoding="utf-8"))
    ]
    assert not problems, "\n" + "\n".join(problems)


# -- what they say of what is wrong, and of what only looks so


@pytest.mark.parametrize(
    ("rule", "path", "text", "problem"),
    [
        (floors, "names.py", "import chucky.config", "names.py:1: imports config: up"),
        (floors, "wire/codec.py", "from chucky import core", "wire must not know core"),
        (floors, "wire/codec.py", "from ..core.events import Wake", "wire must not know core"),
        (floors, "facts.py", "from chucky.config import parse", "facts must not know config"),
        (floors, "facts.py", "def f():\n    import chucky.net", "facts.py:2: imports net: up"),
        (floors, "core/node.py", "from chucky.daemon import main", "imports daemon: up"),
        (floors, "core/node.py", "from chucky import fact", "imports __init__: up"),
        (floors, "net/links.py", "import chucky.core.node as n", "net must not know core"),
        (floors, "net/links.py", "from chucky.daemon_clock import now", "imports daemon_clock: up"),
        (floors, "util.py", "", "util stands on no floor"),
        (pure, "core/node.py", "import time", "core/node.py:1: imports time"),
        (pure, "wire/codec.py", "from os.path import join", "imports os.path.join"),
        (pure, "wire/codec.py", "def f():\n    print(1)", "wire/codec.py:2: uses print"),
        (pure, "core/node.py", "x = open", "uses open"),
        (catches, "cli.py", "try: 1\nexcept: 2", "cli.py:2: bare except"),
        (catches, "daemon.py", "try: 1\nexcept: 2", "daemon.py:2: bare except"),
        (catches, "cli.py", "try: 1\nexcept Exception: 2", "cli.py:2: except Exception"),
        (catches, "cli.py", "try: 1\nexcept (OSError, BaseException): 2", "except BaseException"),
        (catches, "net/daemon.py", "try: 1\nexcept Exception: 2", "except Exception"),
        (leftovers, "cli.py", "x = 1\n# FIXME: later", "cli.py:2: FIXME"),
        (leftovers, "cli.py", "# XXX", "cli.py:1: XXX"),
        (sizes, "cli.py", "x = 1\n#" + 100 * " ", "cli.py:2: 101 columns"),
        (sizes, "cli.py", 401 * "x = 1\n", "cli.py: 401 lines"),
        (sizes, "cli.py", "def f():\n" + 60 * "    1\n", "cli.py:1: f has 61 lines"),
        (sizes, "cli.py", "class A:\n  async def g(self):\n" + 60 * "    1\n", "g has 61 lines"),
        (docstring, "cli.py", "# a comment\nx = 'text'", "cli.py: no module docstring"),
        (docstring, "wire/__init__.py", "", "wire/__init__.py: no module docstring"),
    ],
)
def test_a_rule_finds(
    rule: Callable[[str, str], list[str]], path: str, text: str, problem: str
) -> None:
    problems = rule(path, text)
    assert len(problems) == 1 and problem in problems[0], problems


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (floors, "settings.py", "from chucky.names import NodeName"),
        (floors, "net/links.py", "from chucky.wire.framing import frame\nimport socket"),
        (floors, "core/node.py", "from chucky.core.events import Wake\nfrom .events import Wake"),
        (floors, "cli.py", "from chucky import fact, demo, daemon_clock"),
        (floors, "core/node.py", "from chucky import __version__"),
        (floors, "wire/codec.py", "import chucky_tools.core"),
        (pure, "net/links.py", "import socket, os\nprint(open)"),
        (pure, "core/node.py", "from timeit import timeit\nself.open()\nimport operator"),
        (catches, "daemon.py", "try: 1\nexcept Exception: 2"),
        (catches, "cli.py", "try: 1\nexcept (OSError, ValueError): 2"),
        (leftovers, "cli.py", "FIXMES = 'XXXL'"),
        (sizes, "cli.py", "#" * 100 + "\n" + "def f():\n" + 59 * "    1\n" + 339 * "\n"),
        (docstring, "cli.py", '"""Does one thing."""'),
    ],
)
def test_a_rule_lets_pass(rule: Callable[[str, str], list[str]], path: str, text: str) -> None:
    assert rule(path, text) == []
