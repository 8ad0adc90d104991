"""Bad input to real daemons: one line that names the thing, the right code, no traceback.

Needs no root. That no log holds an uncaught error is checked by the `bed` fixture for every test.
"""

import os
import re
import resource
import secrets
import socket
import subprocess
import sys
import time

import pytest

from chucky.names import NodeName
from tests.lan.bed import HOST, REPO, Bed, Config, Daemon, merged, now_ms, throughout, until
from tests.lan.cluster import loopback
from tests.lan.stranger import Between


def alone(bed: Bed, *configs: Config) -> Daemon:
    """One daemon on loopback that is looked at until it ends."""
    return loopback(bed, *configs, labels="a")["a"]


def refuses(daemon: Daemon, *words: str, code: int = 78, lines: int = 1) -> list[str]:
    """It ends with this code; each line it logged names a word, and each word is named."""
    daemon.start()
    assert daemon.exit_code() == code
    said = [line.text for line in daemon.log.find("")]
    assert len(said) == lines, said
    for word in words:
        assert any(word in text for text in said), f"{word!r} is not named in {said}"
    assert not daemon.notes.find("READY=1")
    daemon.notes.wait("^STATUS=" + re.escape("; ".join(said)[:100]))  # for systemctl status
    return said


# -- the config


def test_a_config_that_is_not_there(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.config_file.unlink()
    refuses(daemon, str(daemon.config_file))


def test_a_config_that_cannot_be_read(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.config_file.unlink()
    daemon.config_file.mkdir()  # root may read every file, but no directory
    refuses(daemon, str(daemon.config_file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[node\n", ["line 1"]),
        (b"\xff\xfe", ["0xff"]),
        (b"[node]\nprot = 4041\n", ["node.prot", "port"]),
        (b"[nodes]\n", ["nodes", "[node]"]),
        (b"[distributed]\ntimeout = -1\n", ["distributed.timeout: got -1, want"]),
        (b'[distributed]\nnodes = ["a", "a"]\n', ["distributed.nodes"]),
        (b'[distributed]\nnodes = ["a/b"]\n', ["distributed.nodes", "a/b"]),
        # a safety key that is not built is refused, never ignored
        (b'[distributed]\nquorum = "most"\n', ["distributed.quorum", "most"]),
    ],
)
def test_a_config_that_is_broken(bed: Bed, text: bytes, words: list[str]) -> None:
    daemon = alone(bed)
    daemon.config_file.write_bytes(text)
    refuses(daemon, str(daemon.config_file), *words)


def test_all_problems_of_a_config_are_told_each_on_its_line(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.configure(merged(daemon.config, {"node": {"port": 0, "tick": "fast"}}))
    refuses(daemon, "node.port: got 0, want", 'node.tick: got "fast", want', lines=2)


# -- the cookie


@pytest.mark.parametrize(
    ("text", "mode", "way_out"),
    [("x", 0o400, "chucky cookie"), ("", 0o644, "chmod"), ("\n", 0o400, "chucky cookie")],
    ids=["short", "open", "empty"],
)
def test_a_cookie_that_will_not_do(bed: Bed, text: str, mode: int, way_out: str) -> None:
    daemon = alone(bed)
    daemon.cookie = bed.cookie_file("bad", text, mode)
    said = refuses(daemon, str(daemon.cookie), way_out)
    content = daemon.cookie.read_text().strip()
    assert len(content) < 2 or content not in said[0], "a cookie has no place in a log"


def test_a_cookie_that_is_not_there(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.cookie = bed.dir / "nowhere"
    refuses(daemon, str(daemon.cookie), "chucky cookie")


def test_a_cookie_that_is_no_file(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.cookie = bed.dir
    refuses(daemon, str(daemon.cookie))


# -- the name and the directory


@pytest.mark.parametrize(
    "name", ["", "-x", "a b", "a/b", "../a", "a@", "@manticore", "a@b@c", "a@-", "ä", "x" * 300]
)
def test_a_name_that_is_malformed(bed: Bed, name: str) -> None:
    daemon = alone(bed)
    daemon.name = name
    refuses(daemon, "node name")


def test_a_full_name_is_the_node_s_name(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.name = "a@192.168.0.100"
    daemon.start()
    daemon.says("Application is started on a@192.168.0.100")
    assert daemon.control.is_socket()


def test_a_second_one_of_a_name_takes_no_client_of_the_first(bed: Bed) -> None:
    first = alone(bed)
    apart = merged(first.config, {"node": {"port": bed.ports()[0]}})
    second = bed.daemon(str(first), apart, label="second")
    first.start()
    first.reaches("owner")
    refuses(second, str(first), f"TCP port {first.facts_port}", code=75)  # and was never ready
    first.kill()
    first.exit_code()
    second.start(again=True)
    second.reaches("owner")


def test_a_runtime_directory_that_is_none(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.runtime = daemon.config_file
    daemon.start()
    assert daemon.exit_code() in (75, 78)
    assert len(daemon.log.find("")) == 1 and daemon.log.find(str(daemon.runtime))


# -- the facts


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\n", b"a\x1b[2Jb\n"])
def test_a_node_without_facts_stays_a_member_until_it_has_some(
    bed: Bed, content: bytes | None
) -> None:
    cluster = loopback(bed, labels="ab")
    a = cluster["a"]
    a.facts.unlink()
    if content is not None:
        a.facts.write_bytes(content)
    cluster.form("b", owner="b")
    cluster.start("a")
    a.log.wait(str(a.facts))
    cluster.meet("ab")
    cluster.eye.served_everywhere("b", "ab")  # it relays all the same
    a.write_facts()
    cluster.eye.served_everywhere("a", "ab")
    assert not cluster.eye.failed("ab")
    assert cluster.eye.owners() == ["b", "a"]


# -- ports that somebody else has


def taken(bed: Bed, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Take the port as a stranger would, without sharing it."""
    stranger = socket.socket(socket.AF_INET, kind)
    bed.at_end(stranger.close)
    stranger.bind(("127.0.0.1", port))
    if kind is socket.SOCK_STREAM:
        stranger.listen()
    return stranger


def test_a_fact_port_in_use_makes_it_stand_aside_until_it_is_free(bed: Bed) -> None:
    cluster = loopback(bed, labels="ab")
    a, b = cluster["a"], cluster["b"]
    stranger = taken(bed, a.facts_port)
    a.start()
    said = a.log.wait(rf"\b{a.facts_port}\b")
    assert not said.text.startswith("OSError")
    cluster.form("b", owner="b")
    cluster.meet("ab")
    a.reaches("standby")
    throughout(1000, lambda: not a.log.find("Application is started"), "a stands aside")
    stranger.close()
    a.says("Application is started on a@manticore")
    b.says("Application chucky exited: stopped")
    cluster.eye.watch([a])
    cluster.eye.served_everywhere("a", "ab", now_ms())
    assert not cluster.eye.failed("b")
    assert cluster.eye.owners() == ["b", "a"]


def test_a_link_port_in_use_is_passed_over(bed: Bed) -> None:
    cluster = loopback(bed, labels="ab")
    taken(bed, cluster["b"].link_port)
    cluster.form("a")
    cluster.start("b")
    cluster.meet("ab")
    cluster.eye.served_everywhere("a", "ab")


def test_a_beacon_port_in_use_costs_only_the_beacons(bed: Bed) -> None:
    group = {"discovery": {"group": "239.192.64.99", "interfaces": ["lo"]}}
    cluster = loopback(bed, group, labels="ab")
    port = cluster["a"].config["discovery"]["port"]
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bed.at_end(stranger.close)
    stranger.bind(("", port))
    cluster.form("a")
    cluster.start("b")
    cluster.meet("ab")  # by `peers`
    cluster.eye.served_everywhere("a", "ab")
    cluster["a"].log.wait(rf"\b{port}\b")


# -- strangers


def fragments() -> list[bytes]:
    """What a stranger might send first: noise, and beginnings of nearly anything."""
    return [
        b"", b"\n", b"\0", b"\xff" * 64, b"\0\0\0\0", b"\xff\xff\xff\xff" + b"x" * 1000,
        b"\0\x01", b"\0\x05hello", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"{}\n", b"{" * 100_000,
        b'{"verb": null}\n', b"[" * 10_000 + b"\n", b"n" * 2_000_000,
        *(secrets.token_bytes(1 << n) for n in range(12)),
    ]  # fmt: skip


def throw(family: socket.AddressFamily, address: str | tuple[str, int], text: bytes) -> None:
    """Connect, send, and leave without waiting; being shut out is an answer too."""
    with socket.socket(family, socket.SOCK_STREAM) as stranger:
        stranger.settimeout(1)
        try:
            stranger.connect(address)
            stranger.sendall(text)
        except OSError:
            return


@pytest.mark.parametrize("where", ["link", "facts", "control"])
def test_garbage_disturbs_nobody(bed: Bed, where: str) -> None:
    cluster = loopback(bed, labels="ab")
    cluster.form("a")
    cluster.start("b")
    cluster.meet("ab")
    a = cluster["a"]
    before_kib = a.memory_kib()
    family, address = {
        "link": (socket.AF_INET, ("127.0.0.1", a.link_port)),
        "facts": (socket.AF_INET, ("127.0.0.1", a.facts_port)),
        "control": (socket.AF_UNIX, str(a.control)),
    }[where]
    for _ in range(3):
        for text in fragments():
            throw(family, address, text)  # type: ignore[arg-type]
    silent = [socket.socket(family, socket.SOCK_STREAM) for _ in range(50)]
    for stranger in silent:  # connect and say nothing
        bed.at_end(stranger.close)
        stranger.settimeout(1)
        try:
            stranger.connect(address)  # type: ignore[arg-type]
        except OSError:
            continue
    thrown_ms = now_ms()
    cluster.eye.served_everywhere("a", "ab", thrown_ms)
    assert a.memory_kib() < before_kib + 20 * 1024
    assert len(a.log.find("")) < 200, "a line for each stranger would fill the disk"
    for stranger in silent:
        stranger.close()
    until(lambda: a.chucky("status").returncode == 0, "the node answers")
    assert a.nodes() == [f"b@{HOST}"]
    assert not cluster.eye.failed("ab")
    assert cluster.eye.owners() == ["a"]


def test_a_client_that_does_not_read_or_stop_gets_its_fact_and_is_left(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.start()
    daemon.ready()
    with socket.create_connection(("127.0.0.1", daemon.facts_port), 10) as client:
        client.sendall(b"x" * 100_000)
        assert client.recv(100).startswith(b"a: fact ")
        end = time.monotonic() + 10
        with pytest.raises(OSError, match="reset|[Bb]roken pipe"):
            while time.monotonic() < end:
                client.sendall(b"x" * 1000)


@pytest.mark.parametrize(("dials", "other"), ["ab", "ba"])
def test_a_stranger_cannot_put_itself_between_two_nodes(bed: Bed, dials: str, other: str) -> None:
    # A UDP port each, so that a datagram reaches the one that it is for.
    cluster = loopback(bed, labels="ab", each=lambda _: {"discovery": {"port": bed.ports()[10]}})
    cluster.form("ab")
    one = cluster[dials]
    stranger = Between(cluster[other].link_port)
    bed.at_end(stranger.close)
    beacons_port = one.config["discovery"]["port"]
    for number in range(5):
        stranger.claim(NodeName("x", f"h{number}"), beacons_port)
        until(lambda: stranger.dialled > number, "the beacon is believed so far")
    throughout(500, lambda: one.alive and not stranger.proofs, "no handshake goes through it")
    for daemon in (one, cluster[other]):
        assert not daemon.log.find("is down", cluster.eye.since_ms)
    assert cluster.eye.owners() == ["a"]


# -- signals in the first moments


EARLY = """
import os, runpy, signal, sys

class Early:
    def find_spec(self, name, *_):
        if name == "chucky.errors":
            os.kill(os.getpid(), getattr(signal, sys.argv.pop(1)))

signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` has it ignored
sys.meta_path.insert(0, Early())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def signalled_early(number: str, program: str, *words: str) -> "subprocess.Popen[str]":
    """Start what the package installs; the signal comes while its modules load."""
    return subprocess.Popen(
        [sys.executable, "-c", EARLY, program, number, *words], cwd=REPO / "debian/bin",
        env=os.environ | {"PYTHONPATH": str(REPO)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("program", ["chucky", "chuckyd"])
def test_an_interrupt_in_the_first_moments_is_an_end_without_words(program: str) -> None:
    process = signalled_early("SIGINT", program)
    assert process.communicate(timeout=60) == (None, "")
    assert process.returncode == 130


def test_a_reload_signal_in_the_first_moments_waits_for_the_node(bed: Bed) -> None:
    daemon = alone(bed)
    process = signalled_early("SIGHUP", "chuckyd", *daemon.command[3:])
    bed.at_end(process.kill)
    assert process.stderr is not None
    assert any("reloaded the config" in line for line in process.stderr)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


# -- limits of the system


def test_a_name_too_long_for_the_control_socket(bed: Bed) -> None:
    daemon = alone(bed)
    daemon.name = "a" * 60
    refuses(daemon, "control socket", "107 bytes")


def test_clients_leave_descriptors_to_the_node(bed: Bed) -> None:
    daemon = alone(bed, {"distributed": {"sync_nodes_mandatory": ["b"]}})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    daemon.reaches("syncing")
    for _ in range(200):  # nobody owns: each is held
        client = socket.create_connection(("127.0.0.1", daemon.facts_port), 10)
        bed.at_end(client.close)
    daemon.log.wait("cannot accept with 64 connections open")
    throw(socket.AF_INET, ("127.0.0.1", daemon.link_port), b"x" * 100)
    daemon.log.wait("not a node")
    assert daemon.status()["phase"] == "syncing"


@pytest.mark.parametrize("descriptors", [6, 7, 8, 9, 10, 12])
def test_too_few_descriptors_at_a_start_are_no_fault_of_the_config(
    bed: Bed, descriptors: int
) -> None:
    daemon = alone(bed)
    done = subprocess.run(
        ["prlimit", f"--nofile={descriptors}", *daemon.command],
        cwd=REPO, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert done.stderr.endswith("Too many open files; try again\n")
    assert "Traceback" not in done.stderr


def test_a_closed_standby_that_cannot_start_does_not_listen(bed: Bed) -> None:
    everyone = {"sync_nodes_mandatory": ["a", "b"], "nodes": ["a", "b"]}
    cluster = loopback(bed, {"distributed": everyone, "facts": {"standby": "closed"}}, labels="ab")
    a, b = cluster["a"], cluster["b"]
    for daemon in (a, b):
        daemon.start()
    a.reaches("owner")
    cluster.meet("ab")
    b.facts.unlink()
    a.kill()
    b.log.wait(f"{b} cannot run chucky: .*facts.txt")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", b.facts_port), 10).close()


def test_a_closed_standby_whose_port_is_taken_is_not_named(bed: Bed) -> None:
    cluster = loopback(bed, {"facts": {"standby": "closed"}}, labels="ab")
    a, b = cluster["a"], cluster["b"]
    b.start()
    b.reaches("owner")
    with socket.create_server(("127.0.0.1", a.facts_port)):
        a.start()
        a.log.wait(f"{a} cannot run chucky: TCP port {a.facts_port} ")
        cluster.meet("ab")
        assert b.status()["phase"] == "owner"
        assert not b.log.find("hands over")
