"""``make-key``."""

import hashlib
import re

import pytest

from gateway.accounts import Right
from tests.support.commands import gateway
from tests.support.factories import make_settings, run


def test_a_made_key_opens_the_gateway() -> None:
    made = gateway("make-key", "cart", "--store", "pizza", "--store", "BURGER", "--right", "desk")
    assert (made.returncode, made.stderr) == (0, "")
    key = re.search(r"^key +(\S+)$", made.stdout, re.M)
    entry = re.search(r"^entry +(\S+)$", made.stdout, re.M)
    assert key
    assert entry
    assert len(key[1]) >= 43  # 32 bytes in base64
    digest = hashlib.sha256(key[1].encode()).hexdigest()
    assert entry[1] == f"cart:{digest}:BURGER,PIZZA:desk"
    [known] = make_settings(GATEWAY_API_KEYS=entry[1]).api_keys
    assert (known.name, known.digest.hex()) == ("cart", digest)
    assert known.stores == frozenset({"PIZZA", "BURGER"})
    assert known.rights == frozenset({Right.DESK})


@pytest.mark.slow
def test_a_key_is_made_without_an_environment_and_never_the_same() -> None:
    made = [run("-m", "gateway", "make-key", "a", environment={}).stdout for _ in range(2)]
    entries = [re.findall(r"^entry +(a:[0-9a-f]{64})$", text, re.M) for text in made]
    assert [len(found) for found in entries] == [1, 1]
    assert entries[0] != entries[1]
