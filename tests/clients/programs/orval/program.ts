// The scenario with the client that orval makes for fetch.

import { getJob, getJobLog, listJobEvents, listJobs, renewVmNgtCertificate } from "./generated/client";

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
  const renew = async () => {
    const wanted = { correlation_id: given.CORRELATION_ID };
    const headers = { "Idempotency-Key": given.IDEMPOTENCY_KEY };
    const answer = await renewVmNgtCertificate(given.VM, wanted, {}, headers);
    if (answer.status !== 200 && answer.status !== 202) throw new Error(answer.data.title);
    return answer;
  };

  const started = await renew();
  const location = there(started.headers.get("Location"));
  say("start", {
    status: started.status,
    job_id: started.data.id,
    location,
    told_when_to_ask: Number(started.headers.get("Retry-After")) >= 1,
  });

  const again = await renew();
  say("repeat", { job_id: again.data.id, replayed: again.headers.get("Idempotency-Replayed") });

  const job_id = there(location.split("/").pop());
  const read = async () => {
    const answer = await getJob(job_id, { wait: LONGEST_WAIT_S });
    if (answer.status !== 200) throw new Error(`it is ${answer.status}`);
    return answer.data;
  };
  let job = await read();
  while (!job.done) job = await read();
  say("wait", {
    job_id: job.id,
    done: job.done,
    outcome: job.outcome,
    steps: job.steps.map((step) => step.name),
    new_not_after_s: there(job.new_not_after).getTime() / 1000,
  });

  const list = async (times: { created_after?: Date; created_before: Date }) => {
    const query = { done: true, status: "succeeded", vm_uuid: given.VM, cluster: job.cluster, limit: 10 } as const;
    const answer = await listJobs({ ...query, ...times });
    if (answer.status !== 200) throw new Error(answer.data.title);
    return answer.data.items;
  };
  const minutesLater = (minutes: number) => new Date(job.created_at.getTime() + minutes * 60_000);
  const found = await list({ created_after: job.created_at, created_before: minutesLater(1) });
  const earlier = await list({ created_before: minutesLater(-1) });
  say("list", { job_ids: found.map((item) => item.id), earlier: earlier.length });

  const log = await getJobLog(job_id);
  if (log.status !== 200) throw new Error(log.data.title);
  say("log", { has_the_command: log.data.includes("create_vm_tools_entity") });

  const events = await listJobEvents(job_id);
  if (events.status !== 200) throw new Error(events.data.title);
  if (typeof events.data === "string") throw new Error("it is a stream");
  const items = events.data.items;
  say("events", { versions: items.map((event) => event.version), outcome: there(items.at(-1)).outcome });

  const missing = await getJob(given.UNKNOWN_JOB);
  if (missing.status !== 404) throw new Error(`it is ${missing.status}`);
  say("missing", { status: missing.status, code: missing.data.code, retryable: missing.data.retryable });

  const open = await renewVmNgtCertificate(given.BUSY_VM);
  if (open.status !== 202) throw new Error(`it is ${open.status}`);
  const refused = await renewVmNgtCertificate(given.BUSY_VM, { on_conflict: "fail" });
  if (refused.status !== 409) throw new Error(`it is ${refused.status}`);
  if (refused.data.job_id !== open.data.id) throw new Error("the problem names another job");
  say("busy", { status: refused.status, code: refused.data.code, job_id: refused.data.job_id });
}

void main();
