"""The command line against a daemon's socket that a test answers itself."""

import configparser
import errno
import json
import os
import pwd
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chucky import check, cli, cookie
from chucky.daemon_options import parse_options


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may be installed here, and its user may read no folder of a test."""
    monkeypatch.setattr(check, "SERVICE_USER", "")


@contextmanager
def daemon(
    runtime_dir: Path, answer: dict[str, object], after_s: float = 0
) -> Iterator[list[bytes]]:
    """A node a that answers one request; yields what it was asked."""
    asked: list[bytes] = []
    (runtime_dir / "a").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / "a" / "a.sock"))
        listener.listen()

        def serve() -> None:
            listener.accept()[0].close()  # who only looks whether somebody listens
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(1000))
                time.sleep(after_s)
                client.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def test_connect_waits_longer_than_a_name_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli._ask, "__defaults__", (0.05,))  # PATIENCE_S
    with daemon(tmp_path, {"connected": False, "sentence": "no answer"}, after_s=0.2):
        code = cli.main(["--runtime-dir", str(tmp_path), "connect", "b@nowhere.example"])
    assert (code, capsys.readouterr().out) == (1, "false\n")


def test_a_node_that_is_called_otherwise_here_is_told_of_those_that_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a" / "a.sock"))
        listener.listen()
        assert cli.main(["--runtime-dir", str(tmp_path), "--node", "a@alpha", "status"]) == 69
    said = "chucky: no node a@alpha runs here, but a; give --node that name, or start a@alpha:"
    assert capsys.readouterr().err == f"{said} systemctl start chucky@a@alpha\n"


def test_where_no_node_runs_it_says_where_to_look_for_one_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--runtime-dir", str(tmp_path), "status"]) == 69
    assert capsys.readouterr().err == (
        "chucky: no node runs here; start one, as systemctl start chucky@a; why one that was"
        " started does not run: systemctl status 'chucky@*'\n"
    )


@pytest.mark.parametrize("command", [["takeover"], ["standby", "on"], ["standby", "off"]])
@pytest.mark.parametrize("granted", [True, False])
def test_a_change_of_owner_ends_with_its_sentence(
    command: list[str], granted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(tmp_path, {"granted": granted, "sentence": "so it is"}) as asked:
        code = cli.main(["--runtime-dir", str(tmp_path), *command])
    request = {"command": command[0]} | ({"to": command[1]} if command[1:] else {})
    assert json.loads(asked[0]) == request
    out, err = ("so it is\n", "") if granted else ("", "chucky: so it is\n")
    assert (code, *capsys.readouterr()) == (0 if granted else 1, out, err)


def write_files(folder: Path) -> str:
    """Write a config and the cookie and the facts that it names; return its path."""
    config, secret, lines = (folder / name for name in ("node.toml", "cookie", "facts"))
    config.write_text(f'[node]\ncookie_file = "{secret}"\n[facts]\nfile = "{lines}"\n')
    lines.write_text("a fact\n")
    cookie.make(str(secret))
    return str(config)


def test_a_check_warns_of_a_cookie_and_facts_that_do_not_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "UNSEEN", ())  # where this test may be
    path, other = write_files(tmp_path), tmp_path / "other"
    good, secret, lines = f"{path}: good\n", tmp_path / "cookie", tmp_path / "facts"
    assert (cli.main(["check", path]), *capsys.readouterr()) == (0, good, "")
    secret.rename(other)
    lines.unlink()
    missing = f'{secret}: no such file; "sudo chucky cookie {secret}" makes one, or copy that of'
    told = [
        f"{path}: warning: {missing} another machine",
        f"{path}: warning: {lines}: No such file or directory; mend it, or name another file under"
        " [facts] file",
    ]
    assert (cli.main(["check", path]), *capsys.readouterr()) == (0, good, "\n".join(told) + "\n")
    with pytest.raises(SystemExit) as ended:
        parse_options(["--check", "--config", path, "--cookie-file", str(other)])
    assert (ended.value.code, *capsys.readouterr()) == (0, good, f"{told[1]}\n")


def test_a_check_warns_of_files_where_the_service_sees_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, secret, lines = write_files(tmp_path), tmp_path / "cookie", tmp_path / "facts"
    unseen = tmp_path / "unseen"
    unseen.mkdir()
    lines.rename(unseen / "facts")
    lines.symlink_to(unseen / "facts")
    monkeypatch.setattr(check, "UNSEEN", (f"{unseen} too", str(unseen)))
    told = f"{unseen}, where chucky@.service sees nothing; keep it elsewhere, as in /etc/chucky"
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().err == f"{path}: warning: {lines}: is below {told}\n"
    (unseen / "facts").rename(tmp_path / "seen")
    (unseen / "facts").symlink_to(tmp_path / "seen")
    lines.unlink()
    lines.symlink_to(unseen / "facts")
    text = Path(path).read_text()
    Path(path).write_text(text.replace(str(lines), str(unseen / "facts")))
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().err == f"{path}: warning: {unseen / 'facts'}: is below {told}\n"
    Path(path).write_text(text)
    monkeypatch.setattr(check, "UNSEEN", (str(tmp_path),))
    assert cli.main(["check", path]) == 0
    told = told.replace(str(unseen), str(tmp_path))
    assert capsys.readouterr().err == "".join(
        f"{path}: warning: {file}: is below {told}\n" for file in (secret, lines)
    )


@pytest.mark.parametrize(
    ("nodes", "host", "warns"),
    [
        (["a@alpha", "b@beta"], "gamma", True),
        (["a@Alpha", "b@beta"], "alpha", True),
        (["a@alpha", "b@beta"], "beta", False),
        (["a@alpha", "b"], "gamma", False),
        (["a@10.0.0.1", "b@beta"], "gamma", False),
        (["a@[fd00::1]", "b@beta"], "gamma", False),
    ],
)
def test_a_check_warns_of_a_list_without_this_machine(
    nodes: list[str], host: str, warns: bool, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "node.toml"
    for own, name in (("", f"{host}.example.org"), (host, "other")):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        path.write_text(f'[distributed]\nnodes = {json.dumps(nodes)}\n[node]\nhost = "{own}"\n')
        assert cli.main(["check", str(path)]) == 0
        found = [line for line in capsys.readouterr().err.splitlines() if "nodes" in line]
        said = (
            f"no entry is for this machine, whose name is {host}: a node here would be an observer"
        )
        wish = "mend the entry, or set node.host"
        assert found == [f"{path}: warning: distributed.nodes: {said}; {wish}"] * warns
    with pytest.raises(SystemExit):  # the host that it would run with
        parse_options(["--check", "--config", str(path), "--host", "beta"])
    assert "nodes" not in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_check_by_root_warns_of_what_the_service_may_not_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    me = os.geteuid(), os.getegid(), os.getgroups()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path, secret, lines = write_files(folder), folder / "cookie", folder / "facts"

        def warned() -> list[str]:
            assert cli.main(["check", path]) == 0
            assert me == (os.geteuid(), os.getegid(), os.getgroups())
            return capsys.readouterr().err.splitlines()

        monkeypatch.setattr(check, "UNSEEN", ())
        secret.chmod(0o400)
        for file in (lines, Path(path)):
            file.chmod(0o600)
        assert warned() == []
        monkeypatch.setattr(check, "SERVICE_USER", "nobody")
        told = f"{path}: warning: as the user nobody: "
        denied, lets = 'Permission denied; "sudo chmod', "lets everyone"
        other = "or name another file under [facts] file"
        assert warned() == [
            f"{told}{secret}: nobody may not read it; run this with sudo",
            f'{told}{lines}: {denied} a+r {lines}" {lets} read it, {other}',
        ]
        monkeypatch.setattr(check, "SERVICE_CONFIG", path)
        assert warned()[2:] == [f'{told}{path}: {denied} a+r {path}" {lets} read it']
        monkeypatch.setattr(cookie, "_service_group", lambda: nobody.pw_gid)
        os.chown(secret, 0, nobody.pw_gid)
        secret.chmod(0o640)
        for file in (lines, Path(path)):
            file.chmod(0o644)
        assert warned() == []
        folder.chmod(0o700)  # to protect the cookie
        way_out = f'"sudo chmod a+x {folder}" {lets} pass'
        assert warned() == [
            f"{told}{secret}: nobody may not read it; {way_out}",
            f"{told}{lines}: Permission denied; {way_out}, {other}",
            f"{told}{path}: Permission denied; {way_out}",
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_check_by_root_that_can_be_nobody_else_checks_as_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(user: str, group: int) -> None:  # in a user namespace where this one has no number
        raise OSError(errno.EINVAL, "Invalid argument")

    path = write_files(tmp_path)
    monkeypatch.setattr(check, "UNSEEN", ())
    monkeypatch.setattr(check, "SERVICE_USER", "nobody")
    monkeypatch.setattr(os, "initgroups", refused)
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("timeout = 5000 # note", "distributed.timeout: an INI reader gets '5000 # note' here"),
        ('application = "x"#', "distributed.application: an INI reader gets '\"x\"#' here"),
        ('"timeout" = 1000', "distributed.timeout: an INI reader gets '' here"),
        (
            'nodes = [\n  "a",\n]',
            "no INI reader takes it: Source contains parsing errors: 'node.toml' [line 4]:",
        ),
        ('application = "x"  \n# note', ""),
        ('nodes = ["a",\n  "b"]\n[discovery]\npeers = ["b", "[fe80::1%eth0]:1"]', ""),
        ('timeout = inf\n[node]\ncookie_file = "/#;%(host)s="', ""),
    ],
)
def test_a_check_warns_of_what_an_ini_reader_takes_otherwise(
    lines: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node.toml").write_text(f"[distributed]\n{lines}\n")
    assert cli.main(["check", str(tmp_path / "node.toml")]) == 0
    found = [x for x in capsys.readouterr().err.splitlines() if "INI" in x]
    assert len(found) == bool(told)
    for line in found:
        assert line.startswith(f"{tmp_path}/node.toml: warning: {told}")
        assert line.endswith("; a value wants one line, and a comment one of its own")


def test_a_check_warns_of_a_byte_order_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[facts]\nport = 99\n", encoding="utf-8-sig")
    with pytest.raises(configparser.Error):
        configparser.ConfigParser().read(path, encoding="utf-8")
    assert cli.main(["check", str(path)]) == 0
    (found,) = [x for x in capsys.readouterr().err.splitlines() if "INI" in x]
    told = "it begins with a byte order mark, at which an INI reader fails; save it without one"
    assert found == f"{path}: warning: {told}"


def run(
    *words: str, stdout: int = subprocess.PIPE, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command, with more in its environment."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[1])
    return subprocess.run(
        words, stdout=stdout, stderr=subprocess.PIPE, env=environment | more, encoding="latin-1",
        timeout=30,
    )  # fmt: skip


CHUCKY = (sys.executable, "-m", "chucky")
CHUCKYD = (sys.executable, "-m", "chucky.daemon")


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*CHUCKY, "cookie", str(tmp_path / "cookie"), stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*CHUCKY, "cookie", str(tmp_path / "cookie"), stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "chucky: standard output: No space left on device\n"


@pytest.mark.parametrize("full", ["2>/dev/full", "2>&-"])
def test_an_error_output_that_is_full_or_closed_changes_no_exit_code(
    full: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text('[distributed]\nnodes = ["a"]\n')  # with warnings: there is no cookie here
    bad.write_text("[node]\nport = 0\n")
    for code, told, *words in (
        (69, "", *CHUCKY, "--runtime-dir", str(tmp_path), "status"),
        (0, f"{good}: good\n", *CHUCKY, "check", str(good)),
        (78, "", *CHUCKY, "check", str(bad)),
        (78, "", *CHUCKYD, "--check", "--config", str(bad)),
        (2, "", *CHUCKY, "nonsense"),
        (2, "", *CHUCKYD),
    ):
        done = run("sh", "-c", f'exec "$@" {full}', "sh", *words)
        assert (done.returncode, done.stdout) == (code, told), words


@pytest.mark.parametrize(
    ("closed", "out", "err"), [("1", "", "chucky: said\n"), ("2", "false\n", "")]
)
def test_what_is_meant_for_a_closed_output_goes_nowhere(
    closed: str, out: str, err: str, tmp_path: Path
) -> None:
    with daemon(tmp_path, {"connected": False, "sentence": "said"}):
        words = (*CHUCKY, "--runtime-dir", str(tmp_path), "connect", "b")
        done = run("sh", "-c", f'exec "$@" {closed}>&-', "sh", *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, out, err)


def test_a_locale_that_lacks_letters_of_a_fact_gets_them_escaped(tmp_path: Path) -> None:
    with daemon(tmp_path, {"fact": "Gödel, Łódź"}):
        words = (*CHUCKY, "--runtime-dir", str(tmp_path), "fact")
        done = run(*words, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Gödel, \\u0141\xf3d\\u017a\n"


def test_a_check_by_the_daemon_is_as_careful_with_what_it_prints(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.toml"
    path.write_text("")
    for words in ((*CHUCKY, "check", str(path)), (*CHUCKYD, "--check", "--config", str(path))):
        done = run(*words, PYTHONIOENCODING="utf-8")
        assert (done.returncode, done.stdout) == (0, f"{tmp_path}/\\udcff.toml: good\n")
        with open("/dev/full", "wb") as full:
            done = run(*words, stdout=full.fileno())
        assert done.returncode == 1
        said = [line for line in done.stderr.splitlines() if "warning" not in line]
        program = "chuckyd" if "--check" in words else "chucky"
        assert said == [f"{program}: standard output: No space left on device"]
        done = run("sh", "-c", 'exec "$@" >&-', "sh", *words)
        assert (done.returncode, done.stdout) == (0, "")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("program", "words"), [("chucky", CHUCKY), ("chuckyd", CHUCKYD)])
def test_help_for_an_output_that_is_full_is_one_line(program: str, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*words, "--help", stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == f"{program}: standard output: No space left on device\n"


def test_help_for_a_reader_that_has_enough_starts_no_node() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*CHUCKYD, "--help", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
