"""The connection is lost while PostgreSQL is told to commit: what does the gateway say?"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from gateway.consent import Status
from gateway.errors import LedgerUnavailable
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt
from gateway.ledger.tables import opt_outs, receipts
from tests.support.deliveries import ask, make_acceptance
from tests.support.factories import make_opt_out_request
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import found, make_ledger, rows_in
from tests.support.postgres import new_postgres_ledger
from tests.support.proxy import CommitLosingProxy, Mode

RECEIPT = Receipt("key", "body")


@pytest.fixture
def url() -> str:
    return new_postgres_ledger()


@pytest.fixture
def proxy(url: str) -> Iterator[CommitLosingProxy]:
    with CommitLosingProxy(urlsplit(url).port or 0) as running:
        yield running


@pytest.fixture
def direct(url: str) -> Iterator[Ledger]:
    """The ledger without the proxy, to look what is really there."""
    ledger = make_ledger(url)
    yield ledger
    ledger.engine.dispose()


@pytest.fixture
def proxied(url: str, proxy: CommitLosingProxy) -> Iterator[Ledger]:
    port = urlsplit(url).port
    ledger = make_ledger(url.replace(f":{port}/", f":{proxy.port}/"))
    ledger.summary()  # connects
    yield ledger
    ledger.engine.dispose()


@pytest.mark.parametrize("receipt", [None, RECEIPT])
@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_request_whose_commit_was_lost_is_looked_up_and_on_record_once(
    proxy: CommitLosingProxy,
    proxied: Ledger,
    direct: Ledger,
    mode: Mode,
    receipt: Receipt | None,
) -> None:
    proxy.lose_next(mode)

    (recorded,) = proxied.accept([Entry([make_opt_out_request()], receipt)])

    assert proxy.cuts == 1
    assert (recorded.opt_out.status, recorded.is_repeat) == (Status.PENDING, False)
    assert found(direct, recorded.opt_out.id) == recorded.opt_out
    assert (rows_in(direct, opt_outs), rows_in(direct, receipts)) == (1, 1 if receipt else 0)


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_caller_whose_commit_was_lost_is_told_what_is_true(
    proxy: CommitLosingProxy,
    proxied: Ledger,
    direct: Ledger,
    crmtext: FakeCrmText,
    mode: Mode,
) -> None:
    proxy.lose_next(mode)

    recorded = ask(make_acceptance(proxied, crmtext), RECEIPT)

    assert proxy.cuts == 1
    assert found(direct, recorded.opt_out.id).status == recorded.opt_out.status
    assert rows_in(direct, opt_outs) == 1
    assert len(crmtext.calls) == (1 if recorded.opt_out.status == Status.OPTED_OUT else 0)


def test_where_nobody_can_look_the_answer_says_that_it_may_be_on_record(
    proxy: CommitLosingProxy, proxied: Ledger, direct: Ledger, crmtext: FakeCrmText
) -> None:
    proxy.lose_next("after and away")

    with pytest.raises(LedgerUnavailable) as lost:
        ask(make_acceptance(proxied, crmtext), RECEIPT)

    assert "may be on record" in lost.value.detail
    assert "Idempotency-Key" in lost.value.detail
    assert crmtext.calls == []
    assert rows_in(direct, opt_outs) == 1
    (repeat,) = direct.accept([Entry([make_opt_out_request()], RECEIPT)])
    assert repeat.is_repeat
