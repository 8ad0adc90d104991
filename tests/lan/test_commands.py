"""The commands against real daemons on loopback: what they print and how they exit."""

import json
import re
import subprocess
import sys
from datetime import datetime

import pytest

from chucky import __version__
from chucky.errors import Unavailable
from chucky.net.control_client import call
from tests.lan.bed import LIMIT_MS, REPO, Bed, Config, Daemon, now_ms, until
from tests.lan.cluster import ALL_MANDATORY, Cluster, loopback

ALONE: Config = {"discovery": {"peers": []}}


def pair(bed: Bed) -> Cluster:
    """a and b, a the owner."""
    cluster = loopback(bed, labels="ab")
    cluster.form("a")
    cluster.form("b")
    cluster.meet("ab")
    return cluster


def test_fact_is_the_owners_on_every_node(bed: Bed) -> None:
    cluster = pair(bed)
    for label in "ab":
        done = cluster[label].chucky("fact")
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.startswith("a: fact ") and done.stdout.count("\n") == 1


def test_fact_without_an_owner_says_why(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, {"facts": {"hold": 500}}, labels="a")
    cluster.start("a")
    done = cluster["a"].chucky("fact")
    assert done.returncode == 69 and done.stdout == "" and done.stderr.count("\n") == 1


def test_nodes_are_the_peers_one_a_line(bed: Bed) -> None:
    cluster = pair(bed)
    assert cluster["a"].chucky("nodes").stdout == "b@manticore\n"
    assert cluster["b"].chucky("nodes").stdout == "a@manticore\n"


def test_applications_run_on_the_owner_only(bed: Bed) -> None:
    cluster = pair(bed)
    assert "chucky" in cluster["a"].chucky("applications").stdout
    assert "chucky" not in cluster["b"].chucky("applications").stdout


def test_status_as_json_has_every_promised_field(bed: Bed) -> None:
    cluster = pair(bed)
    at_owner, at_standby = (
        json.loads(cluster[label].chucky("status", "--json").stdout) for label in "ab"
    )
    assert [at_owner["phase"], at_standby["phase"]] == ["owner", "standby"]
    for status, own in ((at_owner, "a"), (at_standby, "b")):
        assert status["node"] == f"{own}@manticore" and status["owner"] == "a@manticore"
        assert status["application"] == "chucky" and status["synced"] is True
        assert status["epoch"] and "quorum" in status
        assert datetime.fromisoformat(status["since"])
        by_name = {node["name"]: node for node in status["nodes"]}
        a, b = by_name["a@manticore"], by_name["b@manticore"]
        assert [a["tier"], b["tier"], a["owner"], b["owner"]] == [0, 1, True, False]
        assert {a["state"], b["state"]} == {"self", "up"}
        assert by_name[f"{own}@manticore"]["state"] == "self"
        for node in by_name.values():
            assert {"address", "last_heard_ms"} <= node.keys()
            assert node["version"] == (None if node["state"] == "unknown" else __version__)


def test_status_first_line_is_what_systemd_shows(bed: Bed) -> None:
    cluster = pair(bed)
    for label in "ab":
        daemon = cluster[label]
        until(
            lambda: [x.text for x in daemon.notes.find("^STATUS=")][-1] == first_line(daemon),
            "the first line is the last STATUS",
        )


def first_line(daemon: Daemon) -> str:
    """Return the first line of `chucky status` as systemd is told it."""
    done = daemon.chucky("status")
    line = done.stdout.partition("\n")[0]
    assert done.returncode == 0 and line
    return f"STATUS={line}"


def test_who_ended_leaves_its_reason_as_the_status(bed: Bed) -> None:
    soon: Config = {"distributed": {"sync_nodes_timeout": 500}}
    cluster = loopback(bed, ALL_MANDATORY, labels="ab", each=lambda x: soon if x == "a" else {})
    a, b = cluster["a"], cluster["b"]
    b.start()
    b.ready()
    b.stop()
    a.start()
    way_out = "start them, or take them off sync_nodes_mandatory"
    said = f"mandatory nodes are missing: b, c; {way_out}"
    for daemon, code, reason in ((a, 75, said), (b, 0, "stopped")):
        assert daemon.exit_code() == code
        until(
            lambda: [x.text for x in daemon.notes.find("^STATUS=")][-1] == f"STATUS={reason}",
            "the reason is the last STATUS",
        )


def test_takeover_and_standby_say_what_they_did(bed: Bed) -> None:
    cluster = pair(bed)
    a, b = cluster["a"], cluster["b"]
    epoch = a.status()["epoch"]
    for text in (f"b@manticore is the owner, epoch {epoch + 1}, placed here\n",) * 2:
        done = b.chucky("takeover")
        assert (done.returncode, done.stdout, done.stderr) == (0, text, "")
    assert a.status()["placed"] and not a.status()["standby"]
    assert b.chucky("status").stdout.startswith(text)
    done = a.chucky("standby", "on")
    told = f"on standby; b@manticore is the owner, epoch {epoch + 1}, placed there\n"
    assert (done.returncode, done.stdout) == (0, told)
    done = a.chucky("takeover")
    why = "no takeover to a@manticore: a@manticore is on standby; say first: chucky standby off"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"chucky: {why}\n")
    shown = {n["name"]: n for n in b.status()["nodes"]}
    assert shown["a@manticore"]["standby"] and shown["b@manticore"]["placed"]
    assert re.search(r"^  a@manticore +tier 0 +up +on standby,", b.chucky("status").stdout, re.M)
    done = b.chucky("standby", "on")  # nobody else is able: it goes on serving
    assert done.returncode == 1 and "as soon as another node can" in done.stderr
    assert b.status()["phase"] == "owner"
    done = a.chucky("standby", "off")
    assert done.returncode == 0 and done.stdout.startswith("a@manticore may own again; ")
    cluster.eye.served_everywhere("a", "ab", now_ms())
    assert not cluster.eye.failed("ab") and cluster.eye.owners() == ["a", "b", "a"]


def test_who_leaves_before_the_answer_changes_nothing(bed: Bed) -> None:
    cluster = pair(bed)
    cluster["a"].kill()
    asks = call(str(cluster["b"].control), {"command": "takeover"}, 30.0)
    cluster["b"].log.wait("is down")
    asks.close()  # type: ignore[attr-defined]
    cluster["b"].says("Application is started on b@manticore")


def test_why_tells_what_moved_it_and_what_was_known_when(bed: Bed) -> None:
    cluster = pair(bed)
    a, b = cluster["a"], cluster["b"]
    a.kill()
    until(lambda: told(b)[0] == "b@manticore owns chucky, epoch 2", "b owns it")
    assert told(b)[1:] == [
        "a@manticore ended its link: it is down",
        "no owner is heard of here",
        "a@manticore is failing over to b@manticore",
        "Application is started on b@manticore",
    ]
    first = told(b, "1")
    assert first[0] == "a@manticore owned chucky, epoch 1" and first[1] == "this node started"
    done = b.chucky("why", "7")
    assert done.returncode == 1 and done.stderr == (
        "chucky: epoch 7 was not seen by this node since it started: those are 1 to 2;"
        " see journalctl -u 'chucky@*'\n"
    )


def told(daemon: Daemon, *epoch: str) -> list[str]:
    """Return what `chucky why` prints without the times, which are in order."""
    head, *lines = daemon.chucky("why", *epoch).stdout.splitlines()
    what, _, _ = re.split(r", (since|from) ", head)
    times = [line[:27] for line in lines]
    assert sorted(times) == times
    return [what, *(line[27:] for line in lines)]


def test_watch_in_a_pipe_tells_each_change_and_outlasts_a_restart(bed: Bed) -> None:
    a = loopback(bed, ALONE, labels="a")["a"]
    a.start()
    a.reaches("owner")
    command = [sys.executable, "-m", "chucky", "--runtime-dir", str(a.runtime), "watch"]
    watching = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    try:
        lines = iter(watching.stdout.readline, "")
        assert next(lines).startswith("a@manticore is the owner")
        a.kill()
        a.exit_code()
        assert any(line.startswith("no node runs here") for line in lines)
        a.start()
        assert any(line.startswith("a@manticore is the owner") for line in lines)
    finally:
        watching.kill()
        watching.communicate()


def test_connect_dials_the_host_part(bed: Bed) -> None:
    cluster = loopback(bed, ALONE, labels="ab", host="127.0.0.1")
    for label in "ab":
        cluster.start(label)
    b = cluster["b"]
    assert cluster["a"].nodes() == []
    for _ in range(2):  # who is connected stays connected
        done = cluster["a"].chucky("connect", f"{b}:{b.link_port}")
        assert (done.returncode, done.stdout) == (0, "true\n")
    assert cluster["a"].nodes() == ["b@127.0.0.1"]
    cluster.meet("ab")


@pytest.mark.parametrize("peers", [[], ["127.0.0.1"]], ids=["connect", "peers"])
def test_where_no_port_is_given_that_of_the_config_is_tried(bed: Bed, peers: list[str]) -> None:
    first = bed.ports()[0]

    def each(label: str) -> Config:
        """b is first and gets the port, a the one above; no beacon tells them of each other."""
        own = {"peers": peers if label == "a" else [], "port": first + 10 + (label == "a")}
        return {"node": {"port": first}, "discovery": own}

    cluster = loopback(bed, labels="ab", host="127.0.0.1", each=each)
    for label in "ba":
        cluster[label].start()
        cluster[label].ready()
    if not peers:
        done = cluster["a"].chucky("connect", "b@127.0.0.1")
        assert (done.returncode, done.stdout) == (0, "true\n")
    cluster.meet("ab")


def test_connect_to_nobody_is_false(bed: Bed) -> None:
    cluster = loopback(bed, ALONE, labels="ab", host="127.0.0.1")
    cluster.start("a")
    for there, why in (("b", "connection refused"), ("a", "no other node")):
        done = cluster["a"].chucky("connect", f"b@127.0.0.1:{cluster[there].link_port}")
        assert (done.returncode, done.stdout) == (1, "false\n")
        assert why in done.stderr


def test_connect_with_another_cookie_is_false_and_says_so(bed: Bed) -> None:
    cookies = {"b": bed.cookie_file("other")}
    cluster = loopback(bed, ALONE, labels="ab", host="127.0.0.1", cookies=cookies)
    for label in "ab":
        cluster.start(label)
    done = cluster["a"].chucky("connect", f"b@127.0.0.1:{cluster['b'].link_port}")
    assert (done.returncode, done.stdout) == (1, "false\n")
    assert "cookie" in done.stderr
    cluster["b"].says("** Connection attempt from disallowed node a@127.0.0.1 **")
    cluster["a"].log.wait("disallowed by node b@127.0.0.1")
    assert cluster["a"].nodes() == []


def test_without_a_daemon_the_commands_say_how_to_start_it(bed: Bed) -> None:
    daemon = bed.daemon("a", {})
    for command in (["fact"], ["nodes"], ["applications"], ["status"], ["status", "--json"]):
        done = daemon.chucky(*command)
        assert done.returncode == 69, command
        assert "systemctl start chucky@a" in done.stderr and done.stderr.count("\n") == 1


def test_the_python_call(bed: Bed) -> None:
    cluster = loopback(bed, labels="a")
    cluster.form("a")
    call = "import json, sys, chucky; print(json.dumps(chucky.fact(port=int(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-c", call, str(cluster["a"].facts_port)],
        cwd=REPO, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert json.loads(done.stdout).startswith("a: fact ")


def test_status_is_answered_from_the_moment_on_that_its_socket_is_there(bed: Bed) -> None:
    a = loopback(bed, labels="a")["a"]
    a.start()
    path, end_ms = str(a.runtime / "a" / "a.sock"), now_ms() + LIMIT_MS
    while now_ms() < end_ms:  # no pause: the moment is short
        try:
            answers = call(path, {"command": "status"}, 5)
        except Unavailable:
            continue
        assert next(answers)["node"] == str(a)
        break
    assert a.ready()


def test_each_node_says_ready_before_its_sync_is_done(bed: Bed) -> None:
    cluster = loopback(bed, ALL_MANDATORY, labels="ab")
    cluster.start("ab")  # returns on READY=1, and c never comes
    assert [cluster[x].status()["synced"] for x in "ab"] == [False, False]
    cluster["a"].notes.wait(r"^STATUS=.*\bc\b")
    cluster["a"].stop()
    assert cluster["a"].exit_code() == 0
    cluster["a"].notes.wait("^STOPPING=1$")
