"""The fact book: reads the facts file, one fact a line, and picks from it."""

import random
import re

from chucky import files
from chucky.errors import FactsError, NotAFile

# A fact is one line on a terminal and one small TCP segment; 1000 bytes is five long lines.
FACT_BYTES = 1000
# The shipped 335 facts are 27 kB; 4 MiB is room for 50,000 and is read in a few milliseconds.
FILE_BYTES = 4 * 1024 * 1024

# What would end a line early or move a terminal's cursor: controls and Unicode's line separators.
# A search in C: a look at each letter costs an owner half a second of standing still (4 MiB of
# French, where a no-break space, which is not printable, stands before "!").
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def parse(text: str) -> tuple[str, ...]:
    """Return the facts of a facts file's text, stripped, without blank lines.

    Raises FactsError: a control character in a line, a line over FACT_BYTES, or no line at all.
    """
    facts = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t\r")
        if found := _CONTROLS.search(line):
            raise FactsError(f"line {number}: got control character {found[0]!r}, want text")
        size = len(line.encode())
        if size > FACT_BYTES:
            raise FactsError(f"line {number}: got {size} bytes, want at most {FACT_BYTES}")
        if line:
            facts.append(line)
    if not facts:
        raise FactsError("got no fact, want at least one line of text")
    return tuple(facts)


def load(path: str) -> tuple[str, ...]:
    """Return the facts in the file. Raises FactsError with the file, the trouble, the way out."""
    mend = "mend it"
    try:
        return parse(_read(path).decode("utf-8-sig"))
    except PermissionError as error:
        trouble, mend = error.strerror, files.way_in(path)
    except OSError as error:
        trouble = error.strerror or str(error)
    except UnicodeDecodeError as error:
        trouble = f"byte {error.start} is not UTF-8"
    except (FactsError, NotAFile) as error:
        trouble = str(error)
    raise FactsError(f"{path}: {trouble}; {mend}, or name another file under [facts] file")


def _read(path: str) -> bytes:
    content = files.read(path, FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise FactsError(f"got more than {FILE_BYTES} bytes")
    return content


class FactBook:
    """All the facts. `rng` is given, so that a seed repeats the picks."""

    def __init__(self, facts: tuple[str, ...], rng: random.Random) -> None:
        self._lines = tuple(f"{fact}\n".encode() for fact in facts)
        self._random = rng.random

    def pick(self) -> bytes:
        """Return one fact as it is sent, as a line; each is as likely as any other."""
        return self._lines[int(self._random() * len(self._lines))]

    def __len__(self) -> int:
        return len(self._lines)
