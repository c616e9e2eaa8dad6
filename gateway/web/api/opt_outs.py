"""The callers' addresses under /v1: opt somebody out, and read back what became of it."""

import hashlib
import json
from collections.abc import Sequence
from uuid import UUID

from flask import Blueprint, Response, g, request

from gateway.accounts import ALL_STORES, ApiKey
from gateway.bodies import LARGEST_REQUEST
from gateway.consent import OptOut, OptOutRequest, Order, Status
from gateway.delivery.acceptance import Acceptance
from gateway.errors import ErrorCode, GatewayError
from gateway.ledger.ledger import Ledger
from gateway.ledger.receipts import Receipt
from gateway.ledger.search import Criteria
from gateway.logs import request_id
from gateway.settings import Settings
from gateway.web.answers import json_answer
from gateway.web.callers import caller_of, stores_for, visible_to
from gateway.web.cursors import Cursors
from gateway.web.docs import examples
from gateway.web.docs.description import (
    Content,
    Description,
    Key,
    Success,
    Tag,
    described,
    dumped,
    json_content,
)
from gateway.web.problems import problem
from gateway.web.requests import (
    BODY_PROBLEMS,
    load_fields,
    read_body,
    read_idempotency_key,
    read_object,
    read_prefer,
)
from schemas.opt_out import (
    AttemptListSchema,
    OptOutListSchema,
    OptOutRequestSchema,
    OptOutSchema,
    SearchRequestSchema,
    SearchResultSchema,
)

_DEFAULT_LIMIT = 50

_opt_out_schema = OptOutSchema()
_opt_outs_schema = OptOutListSchema()
_attempts_schema = AttemptListSchema()
_result_schema = SearchResultSchema()

_ANY = (ErrorCode.UNAUTHORIZED, ErrorCode.LEDGER_UNAVAILABLE)
_ONE = (*_ANY, ErrorCode.NOT_FOUND)
_WITH_FIELDS = (*_ANY, *BODY_PROBLEMS, ErrorCode.VALIDATION_FAILED, ErrorCode.FORBIDDEN)
_DONE = 'Done: read `status`; with `"store": "*"`, that of each item.'
_ACCEPTED = "Accepted; delivery continues in the background."
_PENDING = Success(_ACCEPTED, dumped(_opt_out_schema, examples.PENDING), ("Location",))
_CREATED_HEADERS = ("Preference-Applied", "Idempotency-Replayed")


def blueprint(settings: Settings, ledger: Ledger, acceptance: Acceptance) -> Blueprint:
    """All addresses that need an API key."""
    api = Blueprint("opt_outs", __name__, url_prefix="/v1/opt-outs")
    keywords = [store.keyword for store in settings.stores]
    request_schema = OptOutRequestSchema([*keywords, ALL_STORES])
    search_schema = SearchRequestSchema(keywords)
    cursors = Cursors("\n".join(store.auth_string for store in settings.stores).encode())

    @api.before_request
    def authenticate() -> None:
        if request.method != "OPTIONS":
            g.caller = caller_of(settings.api_keys, request.headers.get("Authorization", ""))

    def find(opt_out_id: UUID) -> OptOut:
        opt_out = visible_to(g.caller, ledger.find(str(opt_out_id)))
        g.opt_outs = [opt_out]  # for the log
        return opt_out

    @api.post("")
    @described(
        Description(
            "createOptOut",
            Tag.OPT_OUTS,
            "Opt a customer out",
            {
                200: Success(_DONE, _one_or_all(examples.OPTED_OUT), _CREATED_HEADERS),
                202: Success(
                    _ACCEPTED, _one_or_all(examples.PENDING), ("Location", *_CREATED_HEADERS)
                ),
            },
            (
                *_WITH_FIELDS,
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                ErrorCode.CUSTOMER_NOT_FOUND,
                ErrorCode.CRMTEXT_REJECTED,
            ),
            "The gateway records the opt-out, then asks CRM Text at once. If CRM Text neither "
            "confirms nor refuses it in time, the answer is 202 and the gateway keeps trying. With "
            '`"store": "*"` the answer has an item for every store of the key.',
            json_content(request_schema, examples.OPT_OUT_REQUEST),
            headers=("Prefer", "Idempotency-Key"),
            key=Key.REQUIRED,
        )
    )
    def create() -> Response:
        body = read_body(limit=LARGEST_REQUEST)
        given = read_object(body)
        receipt = _receipt(g.caller, body)
        fields = load_fields(request_schema, given)
        requests = [
            OptOutRequest(
                phone_number=fields["phone_number"],
                store=store,
                source=f"api:{g.caller.name}",
                request_id=request_id.get(),
                reference=fields["reference"],
                reason=fields["reason"],
                means=fields["means"],
                requested_at=fields["requested_at"],
            )
            for store in stores_for(g.caller, fields["store"], keywords)
        ]
        prefer = read_prefer(request.headers.get("Prefer", ""))
        recorded = acceptance.accept(requests, receipt, wait_seconds=prefer.wait_seconds)
        opt_outs = g.opt_outs = [one.opt_out for one in recorded]
        _refuse_other_stores(g.caller, opt_outs)
        is_for_all = fields["store"] == ALL_STORES
        response = _answer_all(opt_outs) if is_for_all else _answer(opt_outs[0])
        if prefer.applied:
            response.headers["Preference-Applied"] = prefer.applied
        if any(one.is_repeat for one in recorded):
            response.headers["Idempotency-Replayed"] = "true"
        return response

    @api.get("/<uuid:opt_out_id>")
    @described(
        Description(
            "getOptOut",
            Tag.OPT_OUTS,
            "Read an opt-out",
            {200: Success("Its current state.", dumped(_opt_out_schema, examples.OPTED_OUT))},
            _ONE,
            key=Key.REQUIRED,
        )
    )
    def show(opt_out_id: UUID) -> Response:
        return json_answer(_opt_out_schema, find(opt_out_id))

    @api.get("/<uuid:opt_out_id>/attempts")
    @described(
        Description(
            "listAttempts",
            Tag.OPT_OUTS,
            "List the calls to CRM Text for an opt-out",
            {
                200: Success(
                    "Oldest first.", dumped(_attempts_schema, {"items": [examples.ATTEMPT]})
                )
            },
            _ONE,
            key=Key.REQUIRED,
        )
    )
    def list_attempts(opt_out_id: UUID) -> Response:
        opt_out = find(opt_out_id)
        return json_answer(_attempts_schema, {"items": ledger.attempts_of(opt_out.id)})

    @api.post("/<uuid:opt_out_id>/retry")
    @described(
        Description(
            "retryOptOut",
            Tag.OPT_OUTS,
            "Retry a failed or rejected opt-out",
            {202: _PENDING},
            (*_ONE, ErrorCode.NOT_RETRYABLE),
            "Makes it pending again, with the full number of days to deliver it.",
            key=Key.REQUIRED,
        )
    )
    def retry(opt_out_id: UUID) -> Response:
        opt_out = ledger.retry(find(opt_out_id).id)
        if opt_out is None:
            what = "Only a failed or rejected opt-out with a usable phone number can be retried."
            raise GatewayError(ErrorCode.NOT_RETRYABLE, what, opt_out_id=str(opt_out_id))
        return _accepted(opt_out)

    @api.post("/search")
    @described(
        Description(
            "searchOptOuts",
            Tag.OPT_OUTS,
            "Search opt-outs",
            {
                200: Success(
                    "A page; its `next_cursor` is the `cursor` of the next.",
                    dumped(_result_schema, {"items": [examples.OPTED_OUT], "next_cursor": None}),
                )
            },
            _WITH_FIELDS,
            "The search is a body, not a query: addresses end up in access logs, and phone "
            "numbers must not.",
            json_content(search_schema, examples.SEARCH_REQUEST),
            key=Key.REQUIRED,
        )
    )
    def search() -> Response:
        fields = load_fields(search_schema, read_object(read_body(limit=LARGEST_REQUEST)))
        limit, cursor = fields.pop("limit") or _DEFAULT_LIMIT, fields.pop("cursor")
        number = fields["phone_number"]
        fields["phone_number"] = number and number.digits
        fields["order"] = Order(fields["order"] or Order.NEWEST)
        if fields["store"]:
            stores_for(g.caller, fields["store"], keywords)
        after = None if cursor is None else cursors.read(cursor, fields)
        criteria = Criteria(stores=g.caller.stores, after=after, **fields)
        found = ledger.search(criteria, limit + 1)
        items = found[:limit]
        next_cursor = cursors.write(items[-1], fields) if len(found) > limit else None
        return json_answer(_result_schema, {"items": items, "next_cursor": next_cursor})

    return api


def _one_or_all(example: OptOut) -> Content:
    """An opt-out; with ``"store": "*"`` a list of them."""
    schema = {"anyOf": [_opt_out_schema, _opt_outs_schema]}
    return {"application/json": {"schema": schema, "example": _opt_out_schema.dump(example)}}


def _receipt(caller: ApiKey, body: bytes) -> Receipt | None:
    key = read_idempotency_key(request.headers.get("Idempotency-Key"))
    if key is None:
        return None
    whose = json.dumps(["api", caller.name, key]).encode()
    return Receipt(hashlib.sha256(whose).hexdigest(), hashlib.sha256(body).hexdigest())


def _refuse_other_stores(caller: ApiKey, opt_outs: Sequence[OptOut]) -> None:
    """Raises GatewayError (not_found) about a repeat of what another key of this name did."""
    if not opt_outs or not all(caller.may_act_on(one.store) for one in opt_outs):
        what = (
            "This Idempotency-Key was already used, by an API key of the same name, for a store "
            "that this API key may not act on. Use a new Idempotency-Key."
        )
        raise GatewayError(ErrorCode.NOT_FOUND, what)


def _answer(opt_out: OptOut) -> Response:
    """202 while the gateway delivers it, a problem if CRM Text refused it, else 200.

    One that was given up while a repeat waited is on record, so it is not a problem either.
    """
    if opt_out.status == Status.PENDING:
        return _accepted(opt_out)
    if opt_out.error and opt_out.status == Status.REJECTED:
        return problem(opt_out.error, opt_out.id)
    return json_answer(_opt_out_schema, opt_out)


def _answer_all(opt_outs: Sequence[OptOut]) -> Response:
    is_pending = any(each.status == Status.PENDING for each in opt_outs)
    return json_answer(_opt_outs_schema, {"items": opt_outs}, 202 if is_pending else 200)


def _accepted(opt_out: OptOut) -> Response:
    response = json_answer(_opt_out_schema, opt_out, 202)
    response.headers["Location"] = f"/v1/opt-outs/{opt_out.id}"
    return response
