"""The peers: where each is when it is installed, and how its servers are started."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.load import HERE, compiled, pinned
from bench.table import ELIXIR, KEEPALIVED, NGINX, C
from chucky.demo_nodes import dying_with_us
from tests.lan.bed import Bed, until
from tests.lan.eye import ask

KEEPALIVED_PROGRAM = "/usr/sbin/keepalived"
# What each needs; a Makefile target installs them.
NEEDS = {
    C: ["/usr/bin/gcc"],
    NGINX: ["/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_stream_module.so"],
    ELIXIR: ["/usr/bin/elixirc", "/usr/bin/elixir", "/usr/bin/erl"],
    KEEPALIVED: [KEEPALIVED_PROGRAM],
}

_NGINX = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 8192; multi_accept on; }}
stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; return "{fact}\\n"; }} }}
"""

_APPLICATION = """\
{application, chucky, [
  {description, "chucky"}, {vsn, "1"}, {mod, {'Elixir.Chucky', []}}, {registered, []},
  {modules, ['Elixir.Chucky', 'Elixir.Chucky.Server', 'Elixir.Chucky.Listener']},
  {applications, [kernel, stdlib, elixir, logger]}]}.
"""


def missing() -> list[str]:
    """Return the peers that are not installed."""
    return [peer for peer, files in NEEDS.items() if not all(map(os.path.exists, files))]


def started(
    bed: Bed, command: list[str], core: int | None = None, env: Mapping[str, str] | None = None,
    log: str = "peers.log",
) -> "subprocess.Popen[bytes]":  # fmt: skip
    """Start a peer's program; it is killed when the bed closes."""
    with (bed.dir / log).open("a") as out:
        process = subprocess.Popen(
            [*pinned(core), *dying_with_us(), *command],
            cwd=bed.dir, env=os.environ | dict(env or {}),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    bed.at_end(lambda: ended(process))
    return process


def ended(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Kill it if it still runs, and wait for its end."""
    process.kill()
    process.wait()


def servers(bed: Bed, facts: Path, core: int) -> dict[str, int]:
    """Start every installed peer that serves facts on one machine; return their ports."""
    ports = bed.ports()
    there = [peer for peer in (C, NGINX, ELIXIR) if peer not in missing()]
    for peer, port in zip(there, ports, strict=False):
        if peer == C:
            program = compiled("serve.c", bed.dir)
            started(bed, [str(program), "127.0.0.1", str(port), str(facts)], core)
        elif peer == NGINX:
            conf = bed.dir / "nginx.conf"
            fact = facts.read_text().splitlines()[0].replace('"', '\\"')
            conf.write_text(_NGINX.format(dir=bed.dir, port=port, fact=fact))
            log = str(bed.dir / "nginx.log")
            started(bed, [NEEDS[NGINX][0], "-e", log, "-c", str(conf)], core)
        else:
            env = {"CHUCKY_PORT": str(port), "CHUCKY_FACTS": str(facts)}
            started(bed, elixir(bed), core, env)
    return dict(zip(there, ports, strict=False))


def elixir(bed: Bed) -> list[str]:
    """Return the command that runs the chapter's Chucky; it is compiled the first time."""
    beams = bed.dir / "ebin"
    if not beams.exists():
        beams.mkdir()
        subprocess.run([NEEDS[ELIXIR][0], "-o", beams, HERE / "chucky.ex"], check=True)
        (beams / "chucky.app").write_text(_APPLICATION)
    return [NEEDS[ELIXIR][1], "--no-halt", "-pa", str(beams), "--app", "chucky"]


def answers(host: str, port: int) -> None:
    """Wait until something answers there with a fact."""
    until(lambda: ask("", host, port).fact, f"{host}:{port} answers")
