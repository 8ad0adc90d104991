"""The multicast sockets, on the loopback interface of the machine that runs the tests."""

import errno
import os
import random
import socket
import struct
from contextlib import suppress

import pytest

from chucky.net import multicast
from chucky.net.multicast import LOOPBACK_INDEX, join, leave, receiver, send_to_group, sender

IP_RECVTTL = 12  # linux/in.h; Python 3.11 does not name it
NO_INTERFACE = 2**31 - 1


def random_group() -> str:
    """A group of the organization-local scope that nothing else here uses."""
    return f"239.192.{random.randrange(1, 255)}.{random.randrange(1, 255)}"


def has_ipv6() -> bool:
    """Whether loopback has its IPv6 address, which a container may lack."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def group() -> str:
    return random_group()


@pytest.fixture
def port() -> int:
    return free_port()


def take(sock: socket.socket) -> tuple[bytes, str]:
    """Wait for one datagram; return it and its sender's host."""
    sock.settimeout(5)
    data, source = sock.recvfrom(2048)
    return data, source[0]


def test_two_receivers_of_one_port_both_get_a_copy(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as one, receiver(socket.AF_INET, port) as two:
        with sender(socket.AF_INET) as out:
            assert join(one, group, LOOPBACK_INDEX) and join(two, group, LOOPBACK_INDEX)
            send_to_group(out, group, port, LOOPBACK_INDEX, b"x")
            assert take(one) == take(two) == (b"x", "127.0.0.1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_receivers_of_two_users_share_the_port(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as one:
        os.seteuid(65534)
        try:
            two = receiver(socket.AF_INET, port)
        finally:
            os.seteuid(0)
        with two, sender(socket.AF_INET) as out:
            assert join(one, group, LOOPBACK_INDEX) and join(two, group, LOOPBACK_INDEX)
            send_to_group(out, group, port, LOOPBACK_INDEX, b"x")
            assert take(one) == take(two) == (b"x", "127.0.0.1")


def test_only_a_joined_group_is_heard(group: str, port: int) -> None:
    other = "239.193." + group.partition(".192.")[2]
    with receiver(socket.AF_INET, port) as ours, receiver(socket.AF_INET, port) as another:
        with sender(socket.AF_INET) as out:
            assert join(ours, group, LOOPBACK_INDEX) and join(another, other, LOOPBACK_INDEX)
            send_to_group(out, other, port, LOOPBACK_INDEX, b"theirs")
            send_to_group(out, group, port, LOOPBACK_INDEX, b"ours")
            assert take(another)[0] == b"theirs"
            assert take(ours)[0] == b"ours"


def test_a_datagram_goes_one_hop(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as sock, sender(socket.AF_INET) as out:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        join(sock, group, LOOPBACK_INDEX)
        send_to_group(out, group, port, LOOPBACK_INDEX, b"x")
        sock.settimeout(5)
        _, ancillary, _, _ = sock.recvmsg(16, 64)
        assert [struct.unpack("i", data)[0] for _, _, data in ancillary] == [1]


def test_after_leaving_nothing_is_heard(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as sock, sender(socket.AF_INET) as out:
        join(sock, group, LOOPBACK_INDEX)
        leave(sock, group, LOOPBACK_INDEX)
        send_to_group(out, group, port, LOOPBACK_INDEX, b"group")
        out.sendto(b"unicast", ("127.0.0.1", port))
        assert take(sock)[0] == b"unicast"


@needs_ipv6
def test_each_family_hears_its_own(port: int) -> None:
    with receiver(socket.AF_INET, port) as sock, _ipv6_receiver(port) as sock6:
        assert not sock.getblocking() and not sock6.getblocking()
        with sender(socket.AF_INET) as out, sender(socket.AF_INET6) as out6:
            out.sendto(b"4", ("127.0.0.1", port))
            out6.sendto(b"6", ("::1", port))
        assert take(sock) == (b"4", "127.0.0.1")
        assert take(sock6) == (b"6", "::1")


def test_ipv6_leaves_the_port_to_ipv4(port: int) -> None:
    with _ipv6_receiver(port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
        selfish.bind(("", port))


def test_a_port_that_is_not_shared_is_in_use(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
        selfish.bind(("", port))
        with pytest.raises(OSError) as caught:
            receiver(socket.AF_INET, port)
        assert caught.value.errno == errno.EADDRINUSE


def test_joining_twice_is_being_a_member(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as sock:
        assert join(sock, group, LOOPBACK_INDEX)
        assert join(sock, group, LOOPBACK_INDEX)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_interface_is_a_member_while_one_socket_is(
    family: socket.AddressFamily, group: str, port: int
) -> None:
    if family == socket.AF_INET6:
        _ipv6_receiver(port).close()
        group = f"ff02::6368:{random.randrange(1, 65536):x}"
    with receiver(family, port) as one:
        with receiver(family, port) as two:
            assert multicast.members(family, group) == set()
            assert join(one, group, LOOPBACK_INDEX) and join(two, group, LOOPBACK_INDEX)
            leave(two, group, LOOPBACK_INDEX)
            assert multicast.members(family, group) == {LOOPBACK_INDEX}
        leave(one, group, LOOPBACK_INDEX)
        assert multicast.members(family, group) == set()


def test_an_interface_that_is_not_there(group: str, port: int) -> None:
    with receiver(socket.AF_INET, port) as sock, sender(socket.AF_INET) as out:
        assert not join(sock, group, NO_INTERFACE)
        leave(sock, group, NO_INTERFACE)
        with pytest.raises(OSError) as caught:
            send_to_group(out, group, port, NO_INTERFACE, b"x")
        assert caught.value.errno in multicast.NOT_NOW


def test_an_interface_that_is_not_there_ipv6(port: int) -> None:
    with _ipv6_receiver(port) as sock, sender(socket.AF_INET6) as out:
        assert not join(sock, "ff02::6368:1", NO_INTERFACE)
        leave(sock, "ff02::6368:1", NO_INTERFACE)
        with pytest.raises(OSError) as caught:
            send_to_group(out, "ff02::6368:1", port, NO_INTERFACE, b"x")
        assert caught.value.errno in multicast.NOT_NOW


def test_what_is_no_group_is_an_error(port: int) -> None:
    with receiver(socket.AF_INET, port) as sock, pytest.raises(OSError) as caught:
        join(sock, "10.0.0.1", LOOPBACK_INDEX)
    assert caught.value.errno == errno.EINVAL


def test_too_many_memberships_names_the_way_out(port: int) -> None:
    with open("/proc/sys/net/ipv4/igmp_max_memberships", encoding="ascii") as file:
        limit = int(file.read())
    with receiver(socket.AF_INET, port) as sock:
        groups = [f"239.192.{n // 250}.{n % 250}" for n in range(limit + 1)]
        assert all(join(sock, group, LOOPBACK_INDEX) for group in groups[:-1])
        with pytest.raises(OSError, match=r"raise net\.ipv4\.igmp_max_memberships"):
            join(sock, groups[-1], LOOPBACK_INDEX)


def _ipv6_receiver(port: int) -> socket.socket:
    try:
        return receiver(socket.AF_INET6, port)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            pytest.skip("this kernel has no IPv6")
        raise
