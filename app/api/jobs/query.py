"""The query of a list of jobs."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.http.parameters import JOB_IDS_PATTERN, MOST_IDS, ChangeNumber, ClusterText, CursorInQuery, Note, Timestamp
from app.ngt.vocabulary import VmUuid, parse_vm_uuid
from app.store.jobs.queries import JobFilter
from app.store.records.callers import Caller
from app.store.records.jobs import JobStatus

_MOST_JOBS = 200
_VmUuid = Annotated[str, Field(json_schema_extra={"format": "uuid"}), AfterValidator(parse_vm_uuid)]
_Ids = Annotated[str, Field(pattern=JOB_IDS_PATTERN, max_length=37 * MOST_IDS)]


class JobQuery(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True)

    status: Annotated[JobStatus | None, Field(description="Jobs that stand there")] = None
    done: Annotated[bool | None, Field(description="true: jobs that have ended; false: open ones")] = None
    vm_uuid: Annotated[_VmUuid | None, Field(description="Jobs of this VM")] = None
    cluster: Annotated[ClusterText | None, Field(description="Jobs on this cluster")] = None
    correlation_id: Annotated[Note | None, Field(description="The id that the request gave")] = None
    change_number: Annotated[ChangeNumber | None, Field(description="The change that the request named")] = None
    automatic: Annotated[
        bool | None, Field(description="true: jobs that automatic renewal started; false: jobs that a caller requested")
    ] = None
    created_after: Annotated[Timestamp | None, Field(description="At this time or later")] = None
    created_before: Annotated[Timestamp | None, Field(description="Earlier than this time")] = None
    job_ids: Annotated[
        _Ids | None, Field(description=f"At most {MOST_IDS} ids with commas between: one call polls many jobs")
    ] = None
    limit: Annotated[int, Field(ge=1, le=_MOST_JOBS, description="Jobs on a page")] = 50
    cursor: CursorInQuery = None

    def filter_for(self, caller: Caller) -> JobFilter:
        """Only jobs that the caller may see."""
        return JobFilter(
            status=self.status,
            done=self.done,
            vm_uuid=None if self.vm_uuid is None else VmUuid(self.vm_uuid),
            cluster=self.cluster,
            correlation_id=self.correlation_id,
            change_number=self.change_number,
            automatic=self.automatic,
            created_after=self.created_after,
            created_before=self.created_before,
            job_ids=None if self.job_ids is None else tuple(UUID(job_id) for job_id in self.job_ids.split(",")),
            caller=caller,
        )
