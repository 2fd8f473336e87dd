"""The waves: in which weeks how many certificates expire."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.http.cluster_access import allowed_clusters, get_cluster
from app.api.http.dependencies import ServicesDep
from app.api.http.parameters import ClusterText
from app.api.http.problems import problem_responses
from app.api.http.request_guard import GuardedRoute
from app.api.http.responses import json_answer
from app.api.inventory.schemas import Forecast, ForecastCluster, ForecastWeek
from app.ngt.errors import FaultCode as C

router = APIRouter(route_class=GuardedRoute, tags=["vms"])


class ForecastQuery(BaseModel):
    """Of which clusters."""

    model_config = ConfigDict(frozen=True)

    cluster: Annotated[ClusterText | None, Field(description="Only this cluster")] = None


@router.get(
    "/forecast",
    operation_id="getForecast",
    summary="Read how many certificates expire in each week",
    response_model=Forecast,
    responses=problem_responses(C.TARGET_NOT_ALLOWED, C.CLUSTER_NOT_FOUND, C.VALIDATION_FAILED),
)
async def get_forecast(caller: CallerDep, services: ServicesDep, query: Annotated[ForecastQuery, Query()]) -> Response:
    """Of the clusters that the key may use, for the next 1000 days. Weeks begin on Monday, 00:00 UTC.

    Expired and unknown dates are in no week, only in the totals of their cluster.
    """
    clusters = allowed_clusters(services.settings, caller)
    if query.cluster is not None:
        # As with the list of VMs: nothing of a cluster that there is not would read as if nothing expired there.
        get_cluster(services.settings, caller, query.cluster)
        clusters = (query.cluster,)
    forecast = await services.store.vms.forecast(clusters)
    return json_answer(
        Forecast(
            items=[
                ForecastWeek(cluster=week.cluster, week_begins=week.week_begins, expiring=week.expiring)
                for week in forecast.weeks
            ],
            clusters=[
                ForecastCluster(
                    cluster=total.cluster,
                    vms=total.vms,
                    expired=total.expired,
                    unknown=total.unknown,
                    within_1000_days=total.expiring,
                )
                for total in forecast.totals
            ],
        )
    )
