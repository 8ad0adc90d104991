"""Writes what must never disagree with the program from the program: man pages and completion.

    python3 docs/generate.py DIRECTORY

makes chucky.1, chuckyd.8 and node.toml.5 of the templates in docs/man, and bash/ and zsh/. Options
and commands come from the parsers, the config reference from the shipped node.toml.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from chucky import __version__, cli, daemon_options  # noqa: E402
from chucky.daemon_reload import RELOADABLE  # noqa: E402

PARSERS = {"chucky": cli._parser(), "chuckyd": daemon_options._parser()}

# What to offer for a value, by its word in --help: the call of bash's compgen and of zsh. A word
# that is not here stands for something that nobody can guess.
FILES = ("-f", "_files")
VALUES = {
    "F": FILES,
    "FILE": FILES,
    "D": ("-d", "_files -/"),
    "H": ("-A hostname", "_hosts"),
    "NAME": ('-W "$(ls /run/chucky 2>/dev/null)"', "_chucky_nodes"),
}


# -- what a parser has


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return what begins with a dash; SystemExit for one without help."""
    found = [action for action in parser._actions if action.option_strings]
    for action in found:
        if not action.help:
            raise SystemExit(f"{parser.prog} {action.option_strings[-1]} has no help")
    return found


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the positional arguments but for the command."""
    return [a for a in parser._actions if not a.option_strings and a.dest != "command"]


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands; none when it has no commands."""
    for action in parser._actions:
        if action.dest == "command" and action.choices is not None:
            return dict(action.choices)  # type: ignore[call-overload,no-any-return]
    return {}


def flags(parser: argparse.ArgumentParser) -> list[str]:
    """Return every way to write each option."""
    return [flag for action in options(parser) for flag in action.option_strings]


def value(action: argparse.Action) -> str:
    """Return the word for its value in --help, "" when it takes none."""
    return "" if action.nargs == 0 else str(action.metavar or action.dest)


# -- man pages


def roff(text: str) -> str:
    """Return text as groff shows it, at the start of a line too."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def usage(parser: argparse.ArgumentParser) -> str:
    """Return the words after the program or command, options in brackets."""
    words = [
        f"[{a.option_strings[-1]}{' ' * bool(value(a))}{value(a)}]"
        for a in options(parser)
        if a.dest not in ("help", "version")
    ]
    for action in arguments(parser):
        shown = value(action) if action.choices is None else "|".join(map(str, action.choices))
        words.append(f"[{shown}]" if action.nargs == "?" else shown)
    return " ".join(words)


def man_options(parser: argparse.ArgumentParser) -> str:
    lines = []
    for action in options(parser):
        shown = ", ".join(rf"\fB{roff(flag)}\fR" for flag in action.option_strings)
        shown += rf" \fI{roff(value(action))}\fR" if value(action) else ""
        lines += [".TP", shown, roff(sentence(action.help or ""))]
    return "\n".join(lines)


def man_commands(parser: argparse.ArgumentParser) -> str:
    lines = []
    for name, command in commands(parser).items():
        lines += [".TP", rf"\fB{name}\fR {roff(usage(command))}".rstrip()]
        lines.append(roff(sentence(command.description or "")))
        for action in command._actions:
            if action.dest != "help" and action.help:
                shown = (action.option_strings or [value(action)])[-1]
                lines.append(rf"\fI{roff(shown)}\fR: {roff(sentence(action.help, False))}")
    return "\n".join(lines)


def sentence(text: str, capital: bool = True) -> str:
    return (text[:1].upper() + text[1:] if capital else text) + "."


def man_head(text: str) -> str:
    """Return what the config's first comment says, but for its own name."""
    return roff("\n".join(line[2:] for line in text.split("\n\n")[0].splitlines()[2:]))


def man_keys(text: str) -> str:
    """Return the reference that the comments of the shipped config are: what stands before a
    section or a key is about it, and about the keys that follow without a comment of their own."""
    lines, comment = [], []
    for line in text.split("\n\n", 1)[1].splitlines():
        if line.startswith("# "):
            comment.append(line[2:])
        elif line.startswith("["):
            lines += [f".SS {line}", *comment]
            comment = []
        elif line:
            shown = rf"\fB{roff(line)}\fR"
            if comment:
                lines += [".TP", shown, roff("\n".join(comment))]
                comment = []
            else:
                lines[-1:-1] = [".TQ", shown]  # before the text of the key above
    return "\n".join(lines)


def reloadable() -> str:
    keys = sorted(f"{section}.{key.removesuffix('_ms')}" for section, key in RELOADABLE)
    return roff(", ".join(keys))


def man_page(template: str) -> str:
    """Return a page of its template, each @word@ replaced."""
    config = (TOP / "etc/chucky/node.toml").read_text(encoding="utf-8")
    now = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    words = {"version": __version__, "reloadable": reloadable()}
    words |= {"date": time.strftime("%Y-%m-%d", time.gmtime(now))}
    words |= {"head": man_head(config), "keys": man_keys(config)}
    for program, parser in PARSERS.items():
        words[f"{program}-usage"] = roff(usage(parser))
        words[f"{program}-options"] = man_options(parser)
    words["chucky-commands"] = man_commands(PARSERS["chucky"])
    return re.sub("@([a-z-]+)@", lambda found: words[found[1]], template)


# -- bash


def bash_words(parser: argparse.ArgumentParser) -> str:
    """Return the lines that offer what can stand in a place without an option before it."""
    words = [*flags(parser), *commands(parser)]
    found = ""
    for action in arguments(parser):
        words += map(str, action.choices or ())
        if VALUES.get(value(action)) is FILES:
            found = '\ncompopt -o filenames\nmapfile -t COMPREPLY < <(compgen -f -- "$cur")'
    first = "COMPREPLY+=" if found else "COMPREPLY="
    return found.lstrip() + f"\n{first}($(compgen -W '{' '.join(words)}' -- \"$cur\"))"


def bash(program: str) -> str:
    parser = PARSERS[program]
    cases = []
    for command, part in {"": parser, **commands(parser)}.items():
        for action in options(part):
            generate = VALUES.get(value(action), ("",))[0]
            if value(action):
                pattern = " | ".join(f"'{command} {flag}'" for flag in action.option_strings)
                offer = f'COMPREPLY=($(compgen {generate} -- "$cur"))' if generate else ":"
                cases.append(f"{pattern}) {offer} ;;")
    skipped = " | ".join(f for a in options(parser) if value(a) for f in a.option_strings)
    for command, part in commands(parser).items():
        cases.append(f"'{command} '*)\n{indent(bash_words(part).strip(), '    ')}\n    ;;")
    cases.append(f"*)\n{indent(bash_words(parser).strip(), '    ')}\n    ;;")
    return BASH.format(
        program=program, skipped=skipped, cases=indent("\n".join(cases), "        ").lstrip()
    )


BASH = """\
# What bash offers after {program}; made of its parser.
# shellcheck shell=bash disable=SC2207
_{program}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command='' i
    # bash breaks words at each = @ and : too.
    [[ $cur != = ]] || cur=''
    [[ $prev != = ]] || prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {skipped})
                [[ ${{COMP_WORDS[++i]}} != = ]] || ((++i))
                while [[ ${{COMP_WORDS[i + 1]-}} == [@:]* ]]; do ((i += 2)); done
                ;;
            -*) ;;
            *) command=${{COMP_WORDS[i]}} && break ;;
        esac
    done
    COMPREPLY=()
    case "$command $prev" in
        {cases}
    esac
}}
complete -F _{program} {program}
"""


# -- zsh


def zsh_text(text: str) -> str:
    """Return text for inside '...[text]'."""
    return re.sub(r"([][:\\])", r"\\\1", text).replace("'", "'\\''")


def zsh_arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what _arguments takes for a parser."""
    for action in options(parser):
        alone = "(- *)" if action.dest in ("help", "version") else ""
        for flag in action.option_strings:
            either = "=" * bool(value(action) and flag.startswith("--"))  # in two words or in one
            shown = f"{alone}{flag}{either}[{zsh_text(action.help or '')}]"
            if value(action):
                shown += f":{value(action)}:{VALUES.get(value(action), ('', ' '))[1]}"
            yield f"'{shown}'"
    for number, action in enumerate(arguments(parser), 1):
        offer = VALUES.get(value(action), ("", " "))[1] if value(action) != "NAME" else " "
        if action.choices is not None:
            offer = f"({' '.join(map(str, action.choices))})"
        yield f"'{number}{':' * (action.nargs == '?')}:{zsh_text(value(action))}:{offer}'"


def zsh() -> str:
    named = commands(PARSERS["chucky"])
    described = [f"'{name}:{zsh_text(c.description or '')}'" for name, c in named.items()]
    cases = [
        f"{name}) _arguments {' '.join(zsh_arguments(command))} ;;"
        for name, command in named.items()
    ]
    join = " \\\n    "
    return ZSH.format(
        options=join.join(zsh_arguments(PARSERS["chucky"])),
        commands="\n            ".join(described),
        cases="\n            ".join(cases),
        chuckyd=join.join(zsh_arguments(PARSERS["chuckyd"])),
    )


ZSH = """\
#compdef chucky chuckyd
# What zsh offers after chucky and chuckyd; made of their parsers.

_chucky_nodes() {{
    local -a nodes=(/run/chucky/*(N:t))
    compadd -a nodes
}}

if [[ $service == chuckyd ]]; then
    _arguments {chuckyd}
    return
fi

local curcontext=$curcontext state line
_arguments -C {options} \\
    '1:command:->command' '*::argument:->argument'
case $state in
    command)
        local -a commands=(
            {commands}
        )
        _describe command commands
        ;;
    argument)
        case $line[1] in
            {cases}
        esac
        ;;
esac
"""


def main(directory: Path) -> None:
    """Write everything below the directory."""
    for template in sorted((TOP / "docs/man").iterdir()):
        write(directory / template.name, man_page(template.read_text(encoding="utf-8")))
    for program in PARSERS:
        write(directory / "bash" / program, bash(program))
    write(directory / "zsh" / "_chucky", zsh())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: generate.py DIRECTORY")
    main(Path(sys.argv[1]))
