// The scenario with the client that hey-api makes.

import { getJob, getJobLog, listJobEvents, listJobs, type Problem, renewVmNgtCertificate } from "./generated";
import { client } from "./generated/client.gen";

const LONGEST_WAIT_S = 20;
const given = process.env as Record<string, string>;

function say(step: string, seen: Record<string, unknown>): void {
  console.log(JSON.stringify({ step, ...seen }));
}

function there<T>(value: T | undefined | null): T {
  if (value === undefined || value === null) throw new Error("it is not there");
  return value;
}

async function main(): Promise<void> {
  client.setConfig({
    baseUrl: given.NGT_URL,
    auth: (scheme) => (scheme.type === "apiKey" ? given.NGT_KEY : undefined),
  });
  const renew = () =>
    renewVmNgtCertificate({
      path: { vm_uuid: given.VM },
      headers: { "Idempotency-Key": given.IDEMPOTENCY_KEY },
      body: { correlation_id: given.CORRELATION_ID },
    });

  const started = await renew();
  const headers = there(started.response).headers;
  const location = there(headers.get("Location"));
  say("start", {
    status: there(started.response).status,
    job_id: there(started.data).id,
    location,
    told_when_to_ask: Number(headers.get("Retry-After")) >= 1,
  });

  const again = await renew();
  say("repeat", {
    job_id: there(again.data).id,
    replayed: there(again.response).headers.get("Idempotency-Replayed"),
  });

  const job_id = there(location.split("/").pop());
  const read = async () => there((await getJob({ path: { job_id }, query: { wait: LONGEST_WAIT_S } })).data);
  let job = await read();
  while (!job.done) job = await read();
  say("wait", {
    job_id: job.id,
    done: job.done,
    outcome: job.outcome,
    steps: job.steps.map((step) => step.name),
    new_not_after_s: Date.parse(there(job.new_not_after)) / 1000,
  });

  const list = async (times: { created_after?: string; created_before: string }) => {
    const query = { done: true, status: "succeeded", vm_uuid: given.VM, cluster: job.cluster, limit: 10 } as const;
    return there((await listJobs({ query: { ...query, ...times } })).data).items;
  };
  const minutesLater = (minutes: number) => new Date(Date.parse(job.created_at) + minutes * 60_000).toISOString();
  const found = await list({ created_after: job.created_at, created_before: minutesLater(1) });
  const earlier = await list({ created_before: minutesLater(-1) });
  say("list", { job_ids: found.map((item) => item.id), earlier: earlier.length });

  const log = there((await getJobLog({ path: { job_id } })).data);
  say("log", { has_the_command: log.includes("create_vm_tools_entity") });

  const events = there((await listJobEvents({ path: { job_id } })).data).items;
  say("events", { versions: events.map((event) => event.version), outcome: there(events.at(-1)).outcome });

  const missing = await getJob({ path: { job_id: given.UNKNOWN_JOB } });
  const problem: Problem = there(missing.error);
  say("missing", { status: there(missing.response).status, code: problem.code, retryable: problem.retryable });

  const path = { vm_uuid: given.BUSY_VM };
  const open = there((await renewVmNgtCertificate({ path })).data);
  const refused = await renewVmNgtCertificate({ path, body: { on_conflict: "fail" } });
  const busy: Problem = there(refused.error);
  if (busy.job_id !== open.id) throw new Error("the problem names another job");
  say("busy", { status: there(refused.response).status, code: busy.code, job_id: busy.job_id });
}

void main();
