"""The webhook targets of the configuration, their deliveries, and the replay. No secret is shown."""

from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.http.cursor import cut_page, link_to_next, read_cursor
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.parameters import CursorInQuery
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer, or_missing
from app.api.webhooks.schemas import Delivery, DeliveryList, Webhook, WebhookList
from app.field_types import from_record
from app.ngt.errors import Fault
from app.ngt.errors import FaultCode as C
from app.settings import WebhookTarget
from app.store.records.callers import Caller
from app.store.records.webhooks import DeliveryRecord, DeliveryStatus
from app.store.webhooks.deliveries import TargetState

router = APIRouter(route_class=GuardedRoute, tags=["webhooks"])

WebhookName = Annotated[
    str,
    Path(
        description="As in the configuration",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        max_length=63,
        examples=["snow-prod"],
    ),
]
DeliveryId = Annotated[UUID, Path(description="The `webhook-id`", examples=["0199c1f2-9a01-7c11-8f00-6b1f0c9a0b6e"])]
_ONE_WEBHOOK = problem_responses(C.WEBHOOK_NOT_FOUND, C.VALIDATION_FAILED)


class DeliveryQuery(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True)

    status: Annotated[DeliveryStatus | None, Field(description="Where the delivery stands")] = None
    limit: Annotated[int, Field(ge=1, le=200, description="How many to list at most")] = 50
    cursor: CursorInQuery = None


@router.get("/webhooks", operation_id="listWebhooks", summary="List the webhook targets", response_model=WebhookList)
async def list_webhooks(caller: CallerDep, services: ServicesDep) -> Response:
    """The configured targets by name, without those that are only for clusters that the key may not use."""
    states = await services.store.deliveries.target_states()
    targets = [services.settings.webhooks[name] for name in sorted(services.settings.webhooks)]
    items = [_target_response(target, states.get(target.name)) for target in targets if _is_visible(target, caller)]
    return json_answer(WebhookList(items=items))


@router.get(
    "/webhooks/{webhook}/deliveries",
    operation_id="listDeliveries",
    summary="List what was and will be sent to a webhook target, newest first",
    response_model=DeliveryList,
    responses=_ONE_WEBHOOK,
)
async def list_deliveries(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    webhook: WebhookName,
    query: Annotated[DeliveryQuery, Query()],
) -> Response:
    """Those of the clusters that the key may use. Ended ones are kept for 14 days unless configured otherwise."""
    after = None if query.cursor is None else read_cursor(query.cursor)
    found = await services.store.deliveries.list(
        webhook, caller, status=query.status, limit=query.limit + 1, after=after
    )
    if not found:
        # The deliveries of a removed target can still be read.
        _get_target(services, webhook, caller)
    page, next_cursor = cut_page(found, query.limit)
    body = DeliveryList(items=[_delivery_response(delivery) for delivery in page], next_cursor=or_missing(next_cursor))
    return json_answer(body, headers=link_to_next(request, next_cursor))


@router.post(
    "/webhooks/{webhook}/test",
    operation_id="testWebhook",
    summary="Send a test to a webhook target",
    status_code=202,
    response_model=Delivery,
    response_description="The test is on its way: the list of deliveries shows what became of it",
    responses=_ONE_WEBHOOK,
)
async def test_webhook(caller: CallerDep, services: ServicesDep, webhook: WebhookName) -> Response:
    """A `webhook.test`, once. A target that answered 410 is enabled again when it takes the test."""
    _get_target(services, webhook, caller)
    return json_answer(_delivery_response(await services.store.deliveries.begin_test(webhook)), 202)


@router.post(
    "/deliveries/{delivery_id}/replay",
    operation_id="replayDelivery",
    summary="Send a delivery once more",
    status_code=202,
    response_model=Delivery,
    response_description="The delivery is pending again, with all its attempts",
    responses=problem_responses(C.DELIVERY_NOT_FOUND, C.DELIVERY_NOT_REPLAYABLE, C.VALIDATION_FAILED),
)
async def replay_delivery(caller: CallerDep, services: ServicesDep, delivery_id: DeliveryId) -> Response:
    """Whatever became of it, with the same `webhook-id` and the same facts. A pending one is answered with 409."""
    delivery = await services.store.deliveries.find(delivery_id)
    if delivery is None or not _may_see(caller, delivery):
        raise Fault(C.DELIVERY_NOT_FOUND, f"There is no delivery {delivery_id}.")
    return json_answer(
        _delivery_response(await services.store.deliveries.replay(delivery_id, services.settings.webhooks)), 202
    )


def _get_target(services: Services, name: str, caller: Caller) -> WebhookTarget:
    target = services.settings.webhooks.get(name)
    if target is None or not _is_visible(target, caller):
        raise Fault(C.WEBHOOK_NOT_FOUND, f"There is no webhook target {name!r}.")
    return target


def _is_visible(target: WebhookTarget, caller: Caller) -> bool:
    return not target.clusters or any(caller.may_use(cluster) for cluster in target.clusters)


def _may_see(caller: Caller, delivery: DeliveryRecord) -> bool:
    return caller.clusters is None or (delivery.cluster is not None and caller.may_use(delivery.cluster))


def _target_response(target: WebhookTarget, state: TargetState | None) -> Webhook:
    return from_record(
        Webhook,
        target,
        host=urlsplit(target.url).hostname or "",
        events=target.events or ["*"],
        disabled=state is not None and state.disabled_at is not None,
        disabled_at=None if state is None else state.disabled_at,
        disabled_because=None if state is None else state.disabled_because,
    )


def _delivery_response(delivery: DeliveryRecord) -> Delivery:
    return from_record(Delivery, delivery)
