"""Hypothesis strategies for whatever travels between nodes, within the codec's limits."""

from hypothesis import strategies as st

from chucky.messages import (
    Answer,
    Ask,
    Backing,
    Beacon,
    End,
    Epoch,
    Goodbye,
    Heard,
    Hello,
    Holds,
    Member,
    NameTaken,
    Naming,
    Placed,
    Sign,
    Status,
)
from chucky.names import Address, NodeName

numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))
ports = st.integers(0, 65535)
texts = st.text(max_size=40)  # hypothesis leaves surrogates out by itself
digests = st.binary(max_size=8)
node_names = st.builds(
    NodeName,
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,10}", fullmatch=True),
    st.one_of(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True), st.just("[fe80::1]")
    ),
)
addresses = st.builds(Address, texts, ports)
epochs = st.builds(Epoch, numbers, node_names)
signs = st.builds(
    Sign,
    epochs,
    numbers,
    numbers,
    st.sampled_from(End),
    numbers,
    st.none() | node_names,
    numbers,
)
holders = st.builds(Heard, epochs, numbers, st.sampled_from(Holds), digests, numbers, numbers)
namings = st.builds(Naming, epochs, node_names, numbers, numbers)
statuses = st.builds(
    Status,
    numbers,
    numbers,
    digests,
    texts,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | epochs,
    st.none() | epochs,
    st.none() | epochs,
    st.none() | epochs,
    st.none() | namings,
    st.lists(signs, max_size=3).map(tuple),
    st.lists(holders, max_size=3).map(tuple),
    numbers,
    st.none() | st.builds(Backing, node_names, numbers, numbers, numbers),
    st.booleans(),
    st.booleans(),
    st.none() | st.builds(Placed, numbers, numbers),
    numbers,
    numbers,
)
address_lists = st.lists(addresses, max_size=3).map(tuple)
members = st.builds(Member, node_names, address_lists)
hellos = st.builds(
    Hello,
    texts,
    numbers,
    ports,
    address_lists,
    st.lists(st.tuples(texts, texts), max_size=6).map(tuple),
    st.lists(members, max_size=3).map(tuple),
)
answers = st.builds(Answer, numbers, st.none() | epochs, st.lists(texts, max_size=4).map(tuple))
messages = st.one_of(
    statuses,
    hellos,
    st.builds(NameTaken, addresses),
    st.builds(Goodbye, texts),
    st.builds(Ask, numbers, numbers, numbers),
    answers,
)
beacons = st.builds(Beacon, node_names, numbers, ports, st.booleans())
