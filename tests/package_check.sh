#!/bin/bash
# What a sponsor does with the package before an upload, in a clean Debian (SUITE=trixie: another
# one) without network: it is
# built twice, by two users in two places, times, languages and time zones, and compared; then come
# lintian, piuparts, and autopkgtest on a machine booted with systemd. As root, from `make
# package-check`; asks nothing, and ends non-zero at the first failure, with its log.
set -euo pipefail
cd "$(dirname "$0")/.."

export DEBIAN_FRONTEND=noninteractive
suite=${SUITE:-bookworm}
# What a build needs (debian/control says so again, and dpkg-buildpackage compares), and then the
# tools, a machine to boot, and what the package and its tests depend on.
packages=(
    debhelper dh-python python3-all python3-hypothesis python3-pyroute2 python3-pytest
    python3-sdnotify python3-setuptools python3-tomli
    autopkgtest dbus diffoscope-minimal faketime lintian locales man-db netcat-openbsd systemd-sysv
)
# piuparts wants no more than a minimal system; systemd, debsums and python3 leave files behind that
# it would put down to the package whose dependencies pull them in.
minimal=(debsums python3 systemd)

if [ "$(id -u)" != 0 ]; then
    echo "package-check makes chroots and boots a machine: run it as root" >&2
    exit 1
fi
if ! type mmdebstrap systemd-nspawn piuparts debootstrap &>/dev/null; then # all of them
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends mmdebstrap piuparts systemd-container >/dev/null
fi

work=$(mktemp -d /var/tmp/chucky-package-check.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# -- how things are run

# stage NAME COMMAND...: runs it, tells how long it took, or ends with the last that it printed.
stage() {
    local name=$1 began=$SECONDS
    shift
    if ! "$@" >"$work/$name.log" 2>&1 </dev/null; then
        tail -n 200 "$work/$name.log"
        echo "FAILED: $name" >&2
        exit 1
    fi
    printf 'ok %-14s %3d s\n' "$name" $((SECONDS - began))
}

# machine ARGUMENTS...: systemd-nspawn on the tree, whose changes are thrown away, with $work as
# /work and no network but its own loopback. With --boot it is the last word on a control group of
# its own, which the host need not have (cgroup v1) nor its PID 1 know of.
# shellcheck disable=SC2016 # the inner shell expands
machine() {
    unshare --mount bash -c '
        set -e
        mount -t tmpfs tmpfs /run
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir -p /run/systemd "/sys/fs/cgroup/$1"
        echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
        exec systemd-nspawn --quiet --directory="$2" --volatile=overlay --bind="$3:/work" \
            --settings=no --register=no --keep-unit --private-network --link-journal=no \
            --resolv-conf=off --console=pipe "${@:4}"
    ' machine "chucky-package-check-$$" "$tree" "$work" "$@"
}

# -- the clean systems, kept for the next time

recipe=$(printf '%s\n' "$suite" "${packages[@]}" "${minimal[@]}" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-/var/tmp}/chucky-package-check
tree=$cache/$recipe.tree
base=$cache/$recipe.tar.gz
mkdir -p "$cache" && chmod 700 "$cache"

join() { local IFS=,; echo "$*"; }

# shellcheck disable=SC2016 # the hooks expand
make_tree() {
    mmdebstrap --variant=buildd --include="$(join "${packages[@]}")" \
        --customize-hook='chroot "$1" useradd --create-home builder' \
        --customize-hook='chroot "$1" localedef -i tr_TR -f UTF-8 tr_TR.UTF-8' \
        --customize-hook=': >"$1/etc/machine-id"' \
        "$suite" "$tree.new" && mv "$tree.new" "$tree"
}

make_base() {
    mmdebstrap --variant=minbase --include="$(join "${minimal[@]}")" "$suite" "$work/base.tar.gz" &&
        mv "$work/base.tar.gz" "$base"
}

[ -d "$tree" ] || stage tree make_tree
[ -f "$base" ] || stage base make_base

# -- two builds

# A tests, and leaves its tree as it was. B is another user elsewhere, a year later, and has other
# habits; its name for i is not ours.
mkdir -p "$work"/a/chucky "$work/b/another place/chucky"
for place in "$work/a/chucky" "$work/b/another place/chucky"; do
    tar -c --exclude-vcs -X <(sed -n 's/^tar-ignore = //p' debian/source/options) . |
        tar -x -C "$place"
done
chown -R 1000:1000 "$work/a"
cat >"$work/build-a" <<'END'
set -e
cd /work/a/chucky
sums() { find . -type f -exec sha256sum {} + | sort; }
debian/rules clean
sums >../before
dpkg-buildpackage -us -uc
debian/rules clean
sums | diff ../before -
END
cat >"$work/build-b" <<'END'
set -e
cd '/work/b/another place/chucky'
umask 077
export TZ=XYZ-13 LC_ALL=tr_TR.UTF-8 HOME=/nonexistent DEB_BUILD_OPTIONS='nocheck parallel=7'
exec faketime -f +400d dpkg-buildpackage -us -uc -Pnocheck
END

same() {
    local file name
    for file in "$work"/a/*.deb "$work"/a/*.tar.xz; do
        name=${file##*/}
        cmp "$file" "$work/b/another place/$name" || {
            machine --as-pid2 diffoscope "/work/a/$name" "/work/b/another place/$name"
            return 1
        }
    done
}

stage build-once machine --as-pid2 --user=builder bash /work/build-a
stage build-twice machine --as-pid2 bash /work/build-b
stage reproducible same

# -- the checks

# Every tag, down to the pedantic, fails; its exit status would count those with an override too.
# Only where Standards-Version is the suite's own.
lint() {
    machine --as-pid2 --user=builder bash -c 'lintian -EvIL +pedantic /work/a/*.changes' |
        tee "$work/tags"
    [ ! -s "$work/tags" ]
}

[ "$suite" != bookworm ] || stage lintian lint

# Install, remove, install, purge: what is left over is an error, but for debconf's own.
stage piuparts piuparts -d "$suite" -b "$base" --no-eatmydata --install-remove-install \
    --ignore-regex "/var/cache/debconf/.*" "$work"/a/*.deb

# The machine boots for autopkgtest alone, and ends with its result.
cat >"$work/check.service" <<'END'
[Unit]
Requires=multi-user.target
After=multi-user.target
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
WorkingDirectory=/work/a/chucky
Environment=HOME=/root
ExecStart=/bin/sh -c 'exec autopkgtest --user=builder --ignore-restrictions=isolation-container \
    -B /work/a/*.deb ./ -- null >/work/tests.log 2>&1'
END
machine_tests() {
    local rc=0
    machine --boot --bind-ro="$work/check.service:/etc/systemd/system/check.service" \
        -- --unit=check.service || rc=$?
    cat "$work/tests.log"
    return "$rc"
}
stage autopkgtest machine_tests
