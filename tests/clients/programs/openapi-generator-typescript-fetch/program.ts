// The scenario with the client that openapi-generator makes for fetch.

import {
  Configuration,
  JobsApi,
  ListJobsStatusEnum,
  type Problem,
  ProblemFromJSON,
  RenewalsApi,
  RenewRequestOnConflictEnum,
  ResponseError,
} from "./generated";

const LONGEST_WAIT_S = 20;
const given = process.env as Record<string, string>;

function say(step: string, seen: Record<string, unknown>): void {
  console.log(JSON.stringify({ step, ...seen }));
}

function there<T>(value: T | undefined | null): T {
  if (value === undefined || value === null) throw new Error("it is not there");
  return value;
}

async function refusal(call: Promise<unknown>): Promise<Problem> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ResponseError) return ProblemFromJSON(await error.response.json());
    throw error;
  }
  throw new Error("it was not refused");
}

async function main(): Promise<void> {
  const configuration = new Configuration({ basePath: given.NGT_URL, apiKey: given.NGT_KEY });
  const renewals = new RenewalsApi(configuration);
  const jobs = new JobsApi(configuration);
  const wanted = {
    vmUuid: given.VM,
    idempotencyKey: given.IDEMPOTENCY_KEY,
    renewRequest: { correlationId: given.CORRELATION_ID },
  };

  const started = await renewals.renewVmNgtCertificateRaw(wanted);
  const location = there(started.raw.headers.get("Location"));
  say("start", {
    status: started.raw.status,
    job_id: (await started.value()).id,
    location,
    told_when_to_ask: Number(started.raw.headers.get("Retry-After")) >= 1,
  });

  const again = await renewals.renewVmNgtCertificateRaw(wanted);
  say("repeat", { job_id: (await again.value()).id, replayed: again.raw.headers.get("Idempotency-Replayed") });

  const jobId = there(location.split("/").pop());
  let job = await jobs.getJob({ jobId, wait: LONGEST_WAIT_S });
  while (!job.done) job = await jobs.getJob({ jobId, wait: LONGEST_WAIT_S });
  say("wait", {
    job_id: job.id,
    done: job.done,
    outcome: job.outcome,
    steps: job.steps.map((step) => step.name),
    new_not_after_s: there(job.newNotAfter).getTime() / 1000,
  });

  const filters = { done: true, status: ListJobsStatusEnum.Succeeded, vmUuid: given.VM, cluster: job.cluster, limit: 10 };
  const minutesLater = (minutes: number) => new Date(job.createdAt.getTime() + minutes * 60_000);
  const found = await jobs.listJobs({ ...filters, createdAfter: job.createdAt, createdBefore: minutesLater(1) });
  const earlier = await jobs.listJobs({ ...filters, createdBefore: minutesLater(-1) });
  say("list", { job_ids: found.items.map((item) => item.id), earlier: earlier.items.length });

  const log = await jobs.getJobLog({ jobId });
  say("log", { has_the_command: log.includes("create_vm_tools_entity") });

  const events = (await jobs.listJobEvents({ jobId })).items;
  say("events", { versions: events.map((event) => event.version), outcome: there(events.at(-1)).outcome });

  const missing = await refusal(jobs.getJob({ jobId: given.UNKNOWN_JOB }));
  say("missing", { status: missing.status, code: missing.code, retryable: missing.retryable });

  const open = await renewals.renewVmNgtCertificate({ vmUuid: given.BUSY_VM });
  const busy = await refusal(
    renewals.renewVmNgtCertificate({ vmUuid: given.BUSY_VM, renewRequest: { onConflict: RenewRequestOnConflictEnum.Fail } }),
  );
  if (busy.jobId !== open.id) throw new Error("the problem names another job");
  say("busy", { status: busy.status, code: busy.code, job_id: busy.jobId });
}

void main();
