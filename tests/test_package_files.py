"""The package's files against the program: what is generated of it, and what repeats it."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chucky import __version__, check, cli, config, daemon_options, daemon_reload, errors
from chucky.settings import Settings

TOP = Path(__file__).parents[1]
PARSERS = {"chucky": cli._parser(), "chuckyd": daemon_options._parser()}
PAGES = {"chucky": "chucky.1", "chuckyd": "chuckyd.8"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build generates."""
    found = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, TOP / "docs/generate.py", found], check=True)
    return found


def text(path: Path) -> str:
    """Return a manual page as it reads, without groff."""
    plain = re.sub(r"\\f[BIR]|\\&", "", path.read_text(encoding="utf-8"))
    return plain.replace(r"\-", "-").replace(r"\(ti", "~").replace(r"\e", "\\")


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [a.choices for a in parser._actions if a.dest == "command"]
    return dict(found[0]) if found else {}  # type: ignore[arg-type]


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def test_the_version_is_one() -> None:
    first = (TOP / "debian/changelog").read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"chucky ({__version__}) ")


# -- the manual


@pytest.mark.parametrize("program", PARSERS)
def test_a_page_has_each_option_and_command(made: Path, program: str) -> None:
    page, parser = text(made / PAGES[program]), PARSERS[program]
    for flag in flags(parser):
        assert re.search(rf"^(-h, )?{re.escape(flag)}( [A-Z]+)?$|^-h, --help$", page, re.MULTILINE)
    for name, command in commands(parser).items():
        (shown,) = re.findall(rf"^\.TP\n{name}( .*)?\n", page, re.MULTILINE)
        for flag in flags(command) - {"-h", "--help"}:
            assert flag in shown, f"{program} {name} has {flag}, its page has not"


def test_the_reference_has_each_key_at_its_default(made: Path) -> None:
    page = text(made / "node.toml.5").partition("\n.SH KEYS\n")[2].partition("\n.SH")[0]
    lines = re.findall(r"^(?:\.SS (\[.*\])|\.T[PQ]\n(.*))$", page, re.MULTILINE)
    shown = "\n".join(section or key for section, key in lines)
    assert config.parse(shown) == (Settings(), ())
    for part in fields(Settings):
        section = shown.partition(f"[{part.name}]")[2].partition("\n[")[0]
        for key in fields(getattr(Settings(), part.name)):
            assert f"\n{key.name.removesuffix('_ms')} = " in section


def test_the_reference_says_what_a_reload_takes_over(made: Path) -> None:
    page = text(made / "node.toml.5").partition("\n.SH RELOAD\n")[2]
    for section, key in daemon_reload.RELOADABLE:
        assert f"{section}.{key.removesuffix('_ms')}" in page


@pytest.mark.parametrize(
    ("page", "codes"),
    [
        ("chucky.1", (errors.EXIT_UNAVAILABLE, errors.EXIT_CONFIG)),
        ("chuckyd.8", (errors.EXIT_TEMPORARY, errors.EXIT_CONFIG)),
    ],
)
def test_a_page_has_the_exit_codes(made: Path, page: str, codes: tuple[int, ...]) -> None:
    for code in codes:
        assert f"\n.B {code}\n" in text(made / page)


def test_the_page_of_the_daemon_has_each_field_and_cause(made: Path) -> None:
    page = text(made / "chuckyd.8").partition("\n.SH LOG\n")[2].partition("\n.SH")[0]
    logs = (TOP / "chucky/daemon_log.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"([A-Z]+)"', logs))
    assert len(named) == 6 and all(f"CHUCKY_{field}" in page for field in named)
    core = "".join(path.read_text(encoding="utf-8") for path in (TOP / "chucky/core").glob("*.py"))
    causes = set(re.findall(r'_cause(?:, epoch)? = "(\w+)"', core + logs))
    causes |= set(re.findall(r'"CAUSE"\].*"(\w+)"$', logs, re.MULTILINE))
    causes |= set(re.findall(r'Report\(.*"(\w+)"(?:, [\w.]+)?\)\)', core))
    causes |= set(re.findall(r'Row\([^()]*?Ownership\._\w+,\s*"(\w+)",?\s*\)', core))
    assert {"start", "failover", "takeover", "handover", "up", "cookie", "exit"} <= causes
    explained = page.partition("\n.B CHUCKY_CAUSE\n")[2]
    for cause in causes:
        assert re.search(rf"\b{cause}\b", explained), f"chuckyd(8) lacks the cause {cause}"


@pytest.mark.skipif(shutil.which("man") is None, reason="no man: apt-get install man-db")
@pytest.mark.parametrize("page", ["chucky.1", "chuckyd.8", "node.toml.5"])
def test_a_page_has_no_warnings(made: Path, page: str) -> None:
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", made / page]
    environ = {**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""


# -- completion


def bash_offers(made: Path, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    script = f"""
        compopt() {{ :; }}
        source {made}/bash/{words[0]}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _{words[0]} || true  # compgen's own, when nothing fits
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "-euc", script, "bash", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOP)
    return {line for line in done.stdout.splitlines() if line}


def test_bash_offers_what_the_parser_knows(made: Path) -> None:
    parser = PARSERS["chucky"]
    assert bash_offers(made, "chucky", "") == flags(parser) | set(commands(parser))
    assert bash_offers(made, "chucky", "--n") == {"--node"}
    for name, command in commands(parser).items():
        assert bash_offers(made, "chucky", "--node", "a", name, "-") == flags(command)
    assert bash_offers(made, "chuckyd", "-") == flags(PARSERS["chuckyd"])


def test_bash_breaks_words_at_more_than_blanks(made: Path) -> None:
    status, node = {"status"}, ("chucky", "--node")
    assert bash_offers(made, *node, "=", "a", "stat") == status
    assert bash_offers(made, *node, "one", "@", "192.168.0.100", "stat") == status
    assert bash_offers(made, *node, "=", "one", "@", "[fd00", "::", "1]", "stat") == status
    assert bash_offers(made, "chucky", "--runtime-dir", "=", "ch") == {"chucky"}
    assert bash_offers(made, "chucky", "--runtime-dir", "=") >= {"chucky", "docs"}


def test_bash_offers_files_where_a_file_is_wanted(made: Path) -> None:
    assert bash_offers(made, "chucky", "check", "fac") == {"facts.txt"}
    assert bash_offers(made, "chuckyd", "--config", "fac") == {"facts.txt"}
    assert bash_offers(made, "chucky", "--runtime-dir", "ch") == {"chucky"}


def test_zsh_offers_what_the_parser_knows(made: Path) -> None:
    script = (made / "zsh/_chucky").read_text(encoding="utf-8")
    described = script.partition("commands=(")[2].partition("\n        )")[0]
    assert set(re.findall(r"^ *'(\w+):", described, re.MULTILINE)) == set(
        commands(PARSERS["chucky"])
    )
    daemon, _, rest = script.partition("return\nfi")
    client, _, cases = rest.partition("case $line[1] in")
    offered = r"'(?:\(- \*\))?(--?[a-z-]+)=?\["
    assert set(re.findall(offered, daemon)) == flags(PARSERS["chuckyd"])
    assert set(re.findall(offered, client)) == flags(PARSERS["chucky"])
    for name, command in commands(PARSERS["chucky"]).items():
        (case,) = re.findall(rf"^ *{name}\) (.*) ;;$", cases, re.MULTILINE)
        assert set(re.findall(offered, case)) == flags(command)
    assert "'--node=[" in client and "'--config=[" in daemon  # --node=a as well as --node a


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh: apt-get install zsh")
def test_zsh_understands_its_file(made: Path) -> None:
    done = subprocess.run(["zsh", "-n", made / "zsh/_chucky"], capture_output=True, check=True)
    assert done.stderr == b""


# -- firewalls


def test_the_firewalls_let_the_defaults_pass() -> None:
    settings = Settings()
    links = f"{settings.node.port}-{settings.node.port + config.MORE_PORTS}"
    want = {
        ("tcp", str(settings.facts.port)),
        ("tcp", links),
        ("udp", str(settings.discovery.port)),
    }
    xml = ElementTree.parse(TOP / "debian/firewalld/chucky.xml").getroot()
    assert {(p.attrib["protocol"], p.attrib["port"]) for p in xml.iter("port")} == want
    profile = (TOP / "debian/ufw/chucky").read_text(encoding="utf-8")
    (ports,) = re.findall(r"^ports=(.*)$", profile, re.MULTILINE)
    found = set()
    for group in ports.split("|"):
        numbers, _, protocol = group.partition("/")
        found |= {(protocol, number.replace(":", "-")) for number in numbers.split(",")}
    assert found == want


# -- the unit


def test_a_name_that_begins_with_a_dash_is_a_name_to_the_unit() -> None:
    """It is malformed, and the unit stays down; an unknown option it would try again for ever."""
    unit = (TOP / "systemd/chucky@.service").read_text(encoding="utf-8")
    start, reload = (
        re.findall(rf"^{key}=/usr/bin/{program} (.*)$", unit, re.MULTILINE)[0].split()
        for key, program in (("ExecStart", "chuckyd"), ("ExecReload", "chucky"))
    )
    named = [word.replace("%i", "-x") for word in start]
    assert PARSERS["chuckyd"].parse_args(named).name == "-x"
    named = [word.replace("%i", "-x") for word in reload]
    assert PARSERS["chucky"].parse_args(named).node == "-x"


def test_where_the_unit_sees_no_files_a_check_warns_and_the_config_says_so() -> None:
    unit = (TOP / "systemd/chucky@.service").read_text(encoding="utf-8")
    # Source: systemd.exec(5).
    hides = {"ProtectHome": ["/home", "/root", "/run/user"], "PrivateTmp": ["/tmp", "/var/tmp"]}
    assert all(f"\n{key}=yes\n" in unit for key in hides)
    assert list(check.UNSEEN) == sum(hides.values(), [])
    shown = (TOP / "etc/chucky/node.toml").read_text(encoding="utf-8")
    for key, said in (("cookie_file", check.UNSEEN), ("file", ("/home", "/tmp", "cookie_file"))):
        comment = shown.partition(f"\n{key} = ")[0].rpartition("\n\n")[2]
        assert set(said) <= set(re.findall(r"[\w/]+", comment))


def test_no_step_of_the_package_fails_where_systemd_does_not_answer() -> None:
    lines = [
        line
        for script in ("postinst", "prerm", "postrm")
        for line in (TOP / "debian" / script).read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(systemctl|deb-systemd-invoke) ", line)
    ]
    assert len(lines) == 5 and all(line.endswith(" || true") for line in lines)


def test_a_purge_takes_what_a_killed_cookie_command_left(tmp_path: Path) -> None:
    folder = tmp_path / "etc/chucky"
    folder.mkdir(parents=True)
    code = (
        "import os, signal; from chucky import cookie;"
        " os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        f" cookie.make({str(folder / 'cookie')!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=TOP, check=False).returncode < 0
    assert list(folder.iterdir())
    script = (TOP / "debian/postrm").read_text(encoding="utf-8")
    script = re.sub("/(etc|run)/", rf"{tmp_path}/\1/", script)  # and no systemd runs there
    subprocess.run(["sh", "-c", script, "postrm", "purge"], check=True)
    assert not folder.exists()


# -- autopkgtest


def test_each_test_of_the_package_is_there() -> None:
    control = (TOP / "debian/tests/control").read_text(encoding="utf-8")
    named = set(re.findall(r"^Tests: (\w+)$", control, re.MULTILINE))
    scripts = {path.name for path in (TOP / "debian/tests").iterdir()} - {"control"}
    assert named == scripts
    assert all(os.access(TOP / "debian/tests" / name, os.X_OK) for name in scripts)


def test_each_override_of_lintian_is_explained() -> None:
    (path,) = (TOP / "debian").glob("*lintian-overrides")
    lines = path.read_text(encoding="utf-8").splitlines()
    tags = [number for number, line in enumerate(lines) if line[:1] not in ("", "#")]
    assert tags and all(number and lines[number - 1].startswith("# ") for number in tags)


def test_no_line_of_a_text_is_longer_than_lintian_takes() -> None:
    texts = [TOP / "README.md", TOP / "debian/README.source", *(TOP / "docs").rglob("*.md")]
    lines = [
        (path, line) for path in texts for line in path.read_text(encoding="utf-8").split("\n")
    ]
    assert [(path.name, line) for path, line in lines if len(line.encode()) > 512] == []
