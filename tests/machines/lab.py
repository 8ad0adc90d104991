"""Boots Debian machines on a LAN of their own, with no way out and nothing left behind.

A machine is a systemd-nspawn container over a read-only base tree; all of a lab's mounts, links
and changes live in the mount and network namespace of one process, which ends, and takes the
machines along, when the test run does, however that ends. Two labs run side by side. Root only;
the host's own PID 1 need not be systemd.
"""

import fcntl
import functools
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self, TypeVar

T = TypeVar("T")
U = TypeVar("U")

TOP = Path(__file__).parents[2]
PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "netcat-openbsd", "python3")
# Not installed in the base but offered by its local repository, together with what they depend
# on: a dependency that our package forgets is then missed, as on a user's machine.
OFFERED = ("python3-sdnotify", "python3-pyroute2", "python3-tomli")
TOOLS = ("mmdebstrap", "dpkg-scanpackages", "systemd-nspawn", "unshare", "nsenter", "ip")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK = "10.77.0"  # machine a is .1, b is .2; the LAN's own end, where a client runs, is .254
COMMAND_LIMIT_S = 120
DOWNLOAD_LIMIT_S = 900  # 200 MB of packages from a slow mirror

_numbers = itertools.count(1)

# Run by mmdebstrap with the new tree as $1, while its package lists are still there.
PREPARE = f"""#!/bin/sh
set -e
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
apt-get clean
apt-get install -y --no-install-recommends --download-only {" ".join(OFFERED)}
if [ -e "$0.control" ]; then
    mkdir -p "$0.d/debian"
    cp "$0.control" "$0.d/debian/control"
    apt-get build-dep -y --no-install-recommends -P nocheck --download-only "$0.d"
fi
mkdir -p "$1/srv/repo" "$1/var/log/journal" "$1/etc/systemd/network" "$1/etc/sysctl.d"
mv "$1"/var/cache/apt/archives/*.deb "$1/srv/repo"
(cd "$1/srv/repo" && dpkg-scanpackages -m . > Packages)
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repo ./' > "$1/etc/apt/sources.list"
echo 'APT::Sandbox::User "root";' > "$1/etc/apt/apt.conf.d/99lab"
printf '127.0.0.1 localhost\\n::1 localhost\\n' > "$1/etc/hosts"
# The kernel asks for a neighbour that did not answer once a second. "Frames pass again" (S1, L5)
# must not mean up to a second later than they could.
printf 'net.%s.neigh.host0.retrans_time_ms = 50\\n' ipv4 ipv6 > "$1/etc/sysctl.d/lab.conf"
: > "$1/etc/machine-id"
for unit in console-getty.service apt-daily.timer apt-daily-upgrade.timer; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
chroot "$1" systemctl enable systemd-networkd
"""

# The process that is the lab: $1 names its cgroup, $2 its network. It lives until its stdin ends.
HOLD = """
set -e
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/$1 /run/systemd /run/lab
ip link set lo up
ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
ip link set br0 up
ip address add $2.254/24 dev br0
echo 50 > /proc/sys/net/ipv4/neigh/br0/retrans_time_ms
echo ready
cat > /dev/null || true
echo 1 > /sys/fs/cgroup/$1/cgroup.kill
for try in $(seq 200); do
    find /sys/fs/cgroup/$1 -depth -type d -exec rmdir {} + 2> /dev/null && exit
    sleep 0.05
done
"""

# Becomes machine $2 with number $3. It has a cgroup of its own, or machines share one /payload.
BOOT = """
set -e
mkdir -p /run/lab/$2 /sys/fs/cgroup/$1/$2
cd /run/lab/$2
if [ ! -d root ]; then
    mkdir up work root
    mount -t overlay overlay -o "lowerdir=$5,upperdir=up,workdir=work" root
    tr -d - < /proc/sys/kernel/random/uuid > root/etc/machine-id
    echo $2 > root/etc/hostname
    printf '%s\\n' '[Match]' Name=host0 '[Network]' Address=$4.$3/24 Address=fd77::$3/64 \\
        IPv6AcceptRA=no ConfigureWithoutCarrier=yes > root/etc/systemd/network/10-lab.network
fi
echo 0 > /sys/fs/cgroup/$1/$2/cgroup.procs
# 133: it reboots, and nspawn leaves the second boot to whoever it runs under.
until systemd-nspawn --quiet --boot --directory=root --machine=$2 --settings=no --register=no \\
    --keep-unit --network-bridge=br0 --console=pipe --link-journal=no --resolv-conf=off
do
    [ $? = 133 ] || exit
done
"""


@functools.cache
def missing() -> str:
    """Return why the package cannot be tried on machines here, in one line; "" when it can."""
    if os.geteuid() != 0:
        return "machines boot as root only"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install mmdebstrap dpkg-dev systemd-container"
    probe = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && test -w /sys/fs/cgroup/cgroup.procs"
    if subprocess.run(["unshare", "-n", "-m", "sh", "-c", probe], capture_output=True).returncode:
        return "this root may not make namespaces and mounts (a container without privileges)"
    if subprocess.run(["make", "-q", "deb"], cwd=TOP, capture_output=True).returncode:
        return "no ./chucky.deb of this source: make deb"
    return ""


def until(what: str, probe: Callable[[], T], limit_s: float = 30) -> T:
    """Return the first true answer of the probe; AssertionError when there is none in time."""
    end = time.monotonic() + limit_s
    while not (answer := probe()):
        assert time.monotonic() < end, f"not within {limit_s} s: {what}; last answer: {answer!r}"
        time.sleep(0.02)
    return answer


def at_once(do: Callable[[T], U], these: Iterable[T]) -> list[U]:
    """Do it to all of these at the same time, and return what it gave for each."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(do, these))


def base_tree(suite: str, control: str = "") -> Path:
    """Return the tree that the machines share, made at first use (half a minute, from Debian's
    mirror) and kept under $XDG_CACHE_HOME or /var/tmp. Its local repository offers what a package
    with this debian/control needs to be built."""
    needs = re.findall(r"^Build-Depends:.*\n(?: .*\n)*", control, re.MULTILINE)
    recipe = repr((suite, PACKAGES, OFFERED, PREPARE, needs))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "/var/tmp") / "chucky-machines"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    assert cache.stat().st_uid == 0, f"{cache} belongs to another user: remove it"
    tree = cache / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    with open(f"{tree}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs one makes it
        if not tree.exists():
            _make(tree, suite, control)
    return tree


def _make(tree: Path, suite: str, control: str) -> None:
    with tempfile.TemporaryDirectory(dir=tree.parent) as work:
        made, hook = Path(work, "tree"), Path(work, "prepare")
        hook.write_text(PREPARE)
        hook.chmod(0o700)
        if control:
            Path(work, "prepare.control").write_text(control)
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        options.append(f"--customize-hook={hook}")
        _run(["mmdebstrap", *options, suite, str(made)], 0, DOWNLOAD_LIMIT_S)
        made.rename(tree)


class Machine:
    """A Debian machine. Its disk lasts as long as the lab. A fault has happened when its call
    returns."""

    def __init__(self, lab: "Lab", name: str) -> None:
        """Make the machine; it has no power yet."""
        self.name = name
        self.address = f"{NETWORK}.{ord(name) - 96}"
        self.root = Path()
        self._lab = lab
        self._port = f"vb-{name}"  # the LAN's end of its cable, by nspawn
        self._leader = ""
        self._process: subprocess.Popen[bytes] | None = None

    def power_on(self) -> None:
        """Begin to boot."""
        number = str(ord(self.name) - 96)
        arguments = (self._lab.name, self.name, number, NETWORK, str(self._lab.base))
        self._console: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._lab.command("bash", "-c", BOOT, "boot", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def booted(self) -> None:
        """Wait for the end of the boot."""
        before = self._leader
        until(f"{self.name} boots", lambda: self._leads() not in ("", before))
        self._leader = self._leads()
        self.root = Path(f"/proc/{self._leader}/root")
        state = "systemctl is-system-running"
        until(f"{self.name} is booted", lambda: self.run(state, None) == "running")
        address = "ip address show host0"
        until(f"{self.name} is on the LAN", lambda: self.address in self.run(address))

    def begin_reboot(self) -> None:
        """Begin to reboot, in good order; `booted` waits for the end of that."""
        self.run("systemctl reboot", None)

    def power_cut(self) -> None:
        """End every process at once. No frame leaves: a kernel says goodbye for a process that it
        ends, a machine without power cannot."""
        self.drop()
        self._group("cgroup.kill").write_text("1")
        self.ended()
        self._lab.client(f"ip link delete {self._port} || true")  # else gone when the kernel likes

    def ended(self) -> None:
        """Wait for the end of the machine."""
        if self._process is not None:
            self._process.wait(COMMAND_LIMIT_S)
            self._process = None
            self._console.close()

    @property
    def powered(self) -> bool:
        """Whether the machine has power."""
        return self._process is not None

    def freeze(self) -> None:
        """Stop every process where it is; the kernel still answers for them, and nothing else."""
        self._set_frozen(1)

    def thaw(self) -> None:
        """Let them go on."""
        self._set_frozen(0)

    def unplug(self) -> None:
        """Pull its cable: it loses its carrier."""
        self._lab.client(f"ip link set {self._port} down")

    def plug(self) -> None:
        """Put the cable back."""
        self._lab.client(f"ip link set {self._port} up")

    def drop(self) -> None:
        """Lose every frame from and to it; its carrier stays."""
        self._lab.client(f"ip link set {self._port} nomaster")

    def undrop(self) -> None:
        """Let frames pass again."""
        self._lab.client(f"ip link set {self._port} master br0")

    def pids(self, unit: str) -> list[int]:
        """Return the processes of a unit below system.slice, as this side numbers them."""
        try:
            group = self._group(f"payload/system.slice/{unit}/cgroup.procs")
            return [int(pid) for pid in group.read_text().split()]
        except OSError:  # there is no such unit now
            return []

    def run(self, script: str, want: int | None = 0) -> str:
        """Run a shell script as root and return what it printed, without the last newline.
        AssertionError with all of it when it does not exit with `want`; None: whatever it is."""
        enter = ["nsenter", "-t", self._leader, "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        clean = ["env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        return _run([*enter, *clean, "sh", "-c", script], want)

    def _group(self, path: str) -> Path:
        return self._lab.root / "sys/fs/cgroup" / self._lab.name / self.name / path

    def _leads(self) -> str:
        """Return the process that is the machine's systemd, or "" while there is none."""
        assert self._process is not None
        if self._process.poll() is not None:
            self._console.seek(0)
            raise AssertionError(f"{self.name} did not boot: {self._console.read()}")
        # systemd enters init.scope when it has taken over: until then its process is nspawn's.
        pids = self._group("payload/init.scope/cgroup.procs")
        return pids.read_text().partition("\n")[0] if pids.exists() else ""

    def _set_frozen(self, frozen: int) -> None:
        self._group("cgroup.freeze").write_text(str(frozen))
        events = self._group("cgroup.events")
        until(f"frozen {frozen}", lambda: f"frozen {frozen}\n" in events.read_text())


class Lab:
    """A LAN and its machines, as a context."""

    def __init__(self, suite: str = "bookworm", control: str = "") -> None:
        self.base = base_tree(suite, control)
        self.name = f"chucky-lab-{os.getpid()}-{next(_numbers)}"
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            ["unshare", "-n", "-m", "bash", "-c", HOLD, "lab", self.name, NETWORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the test run, which then ends the lab
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "no lab: see above"
        self.pid = self._holder.pid
        self.root = Path(f"/proc/{self.pid}/root")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate(timeout=COMMAND_LIMIT_S)  # closes its stdin: that ends it
        for machine in self.machines:
            machine.ended()

    def command(self, *words: str) -> list[str]:
        """Return the command that runs these words at the LAN's own end."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *words]

    def boot(self, names: str) -> list[Machine]:
        """Return the machines of these names, of `a` to `z`, booted."""
        machines = [Machine(self, name) for name in names]
        self.machines += machines
        for machine in machines:
            machine.power_on()
        for machine in machines:
            machine.booted()
        return machines

    def client(self, script: str, want: int | None = 0) -> str:
        """Run a bash script as a host of the LAN; else as `Machine.run`."""
        return _run(self.command("bash", "-c", script), want)


def _run(command: list[str], want: int | None, limit_s: int = COMMAND_LIMIT_S) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit_s,
    )
    told = f"{command[-1]!r} exited {done.returncode}, want {want}:\n{done.stdout}"
    assert want is None or done.returncode == want, told
    return done.stdout.removesuffix("\n")
