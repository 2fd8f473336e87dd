import httpx
from tests.api.conftest import RENEW, VM, Service

from app.store.records import Scope


async def test_a_bare_post_starts_a_job_that_can_be_polled(service: Service, caller: httpx.AsyncClient) -> None:
    answer = await caller.post(RENEW)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert (job["vm_uuid"], job["status"], job["done"], job["joined"]) == (VM, "queued", False, False)
    assert None not in job.values()
    polled = await caller.get(answer.headers["location"])
    assert polled.status_code == 200
    assert polled.json() == job
    assert await service.stored() == (1, 0)
