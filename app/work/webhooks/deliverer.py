"""Sends the outbox: every replica claims, sends and records due deliveries.

Each target has its own senders, so a slow target delays no other one. If a process dies between sending and recording,
the delivery is sent once more with the same id.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from app.events import ServiceEventType
from app.ngt.errors import Fault
from app.settings import WebhookTarget
from app.store.webhooks.deliveries import Capacity, ClaimedDelivery, Deliveries
from app.telemetry.metrics import Metrics
from app.work.webhooks.sender import DeliveryResult, Sender

log = structlog.get_logger(__name__)

_AT_ONCE = 4
# Beyond the target's own time limit: for the answer to be written down before another replica sends once more.
_LEASE_MARGIN_S = 15.0
# On stopping, what is on its way may arrive; the rest is left to others, or to the next start.
_GRACE_S = 5.0
_GONE = 410
_WITH_RETRY_AFTER = frozenset({429, 503})
_LONGEST_RETRY_AFTER_S = 86400.0
# Each wait grows by up to this part of it, so that what failed together does not come back together.
_JITTER = 0.1


class Deliverer:
    """Sends for one worker process. `targets` are all that are configured, by name; `retry_delays_s` is the ladder."""

    def __init__(
        self,
        deliveries: Deliveries,
        targets: Mapping[str, WebhookTarget],
        sender: Sender,
        retry_delays_s: Sequence[float],
        metrics: Metrics,
    ) -> None:
        self._deliveries = deliveries
        self._targets = targets
        self._sender = sender
        self._retry_delays_s = retry_delays_s
        self._metrics = metrics
        self._sending: dict[str, set[asyncio.Task[None]]] = {name: set() for name in targets}
        self._stopping = False
        self._is_cut_off = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Running attempts end, or are released, before the context is left."""
        async with self._sender:
            try:
                yield
            finally:
                await self._stop()

    async def send_due(self) -> None:
        """One round: sends the due deliveries of targets that have a free sender."""
        rooms = {
            name: Capacity(_AT_ONCE - len(sending), self._lease_s(name))
            for name, sending in self._sending.items()
            if len(sending) < _AT_ONCE and not self._stopping
        }
        if not rooms:
            return
        for claimed in await self._claim(rooms):
            sending = self._sending[claimed.delivery.target]
            task = asyncio.create_task(self._drain_target(claimed), name="webhook")
            sending.add(task)
            task.add_done_callback(sending.discard)

    async def _claim(self, rooms: Mapping[str, Capacity]) -> tuple[ClaimedDelivery, ...]:
        try:
            claimed = await self._deliveries.claim(rooms)
        except Fault as fault:
            # Once, and not at every poll.
            if not self._is_cut_off:
                log.warning("webhooks wait for the database", error_code=fault.code, error=fault.message)
            self._is_cut_off = True
            return ()
        self._is_cut_off = False
        return claimed

    async def expire_undeliverable(self) -> None:
        """One round: ends the deliveries that no worker can ever send."""
        if ended := await self._deliveries.expire_undeliverable(self._targets):
            log.warning("deliveries ended because their target is disabled or not configured", deliveries=ended)

    async def _drain_target(self, first: ClaimedDelivery) -> None:
        """The delivery, and then one after the other what else is due for its target."""
        name = first.delivery.target
        claimed: ClaimedDelivery | None = first
        try:
            while claimed is not None:
                await self._send(claimed)
                room = {} if self._stopping else {name: Capacity(1, self._lease_s(name))}
                claimed = next(iter(await self._deliveries.claim(room)), None) if room else None
        except Fault as fault:
            # The database went away: the lease runs out, and the delivery is sent once more.
            log.warning("a delivery was left to be sent again", error_code=fault.code, error=fault.message)

    async def _send(self, claimed: ClaimedDelivery) -> None:
        delivery = claimed.delivery
        about = {"job_id": str(delivery.job_id)} if delivery.job_id is not None else {}
        words = {"target": delivery.target, "event_type": delivery.event, "attempt": delivery.attempts, **about}
        with structlog.contextvars.bound_contextvars(webhook_id=str(delivery.id), **words):
            try:
                sent = await self._attempt(claimed)
            except asyncio.CancelledError:
                with suppress(Fault):
                    await self._deliveries.release(claimed)
                raise
            result = await self._write_down(claimed, sent)
            self._metrics.deliveries_total.labels(target=delivery.target, result=result).inc()

    async def _attempt(self, claimed: ClaimedDelivery) -> DeliveryResult:
        target = self._targets[claimed.delivery.target]
        try:
            return await self._sender.send(target, claimed.delivery)
        except Exception:
            # A fault of this service must not stop the other deliveries, nor this one's next attempt.
            log.exception("a webhook could not be sent")
            return DeliveryResult(
                http_status=None, retry_after_s=None, error="the service could not send it; its log says why"
            )

    async def _write_down(self, claimed: ClaimedDelivery, sent: DeliveryResult) -> str:
        """Records the result, and gives its name in the metrics."""
        if is_taken(sent):
            await self._deliveries.delivered(claimed, sent.http_status)
            log.info("the webhook was delivered", http_status=sent.http_status)
            return "delivered"
        error = sent.error or f"the receiver answered {sent.http_status}"
        if sent.http_status == _GONE:
            await self._deliveries.disable(claimed, sent.http_status, error)
            log.error("the webhook's target is disabled: it wants no more events; a test enables it", error=error)
            return "disabled"
        delays_s = () if claimed.delivery.event == ServiceEventType.TEST else self._retry_delays_s
        again_in_s = next_in_s(claimed.delivery.attempts, sent, delays_s, random.random())  # noqa: S311 - no secret
        await self._deliveries.failed(claimed, sent.http_status, error, again_in_s=again_in_s)
        if again_in_s is None:
            log.error("the webhook is exhausted: no attempt is left", http_status=sent.http_status, error=error)
            return "exhausted"
        log.warning("the webhook is sent again", http_status=sent.http_status, error=error, in_s=round(again_in_s, 1))
        return "failed"

    def _lease_s(self, target: str) -> float:
        return self._targets[target].timeout_s + _LEASE_MARGIN_S

    async def _stop(self) -> None:
        self._stopping = True
        tasks = [task for sending in self._sending.values() for task in sending]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def is_taken(sent: DeliveryResult) -> bool:
    """2xx alone is success: a redirect is none, and is not followed."""
    return sent.error is None and sent.http_status is not None and 200 <= sent.http_status < 300  # noqa: PLR2004


def next_in_s(attempts: int, sent: DeliveryResult, delays_s: Sequence[float], jitter: float) -> float | None:
    """Seconds until the next attempt after so many that failed; None when that was the last one.

    `Retry-After` of 429 and 503 makes it later, by a day at most. `jitter` is at least 0 and below 1.
    """
    if attempts > len(delays_s):
        return None
    delay_s = delays_s[attempts - 1]
    if sent.http_status in _WITH_RETRY_AFTER and sent.retry_after_s is not None:
        delay_s = max(delay_s, min(sent.retry_after_s, _LONGEST_RETRY_AFTER_S))
    return delay_s * (1 + _JITTER * jitter)
