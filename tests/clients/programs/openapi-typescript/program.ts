// The scenario with openapi-typescript's types and openapi-fetch.

import createClient from "openapi-fetch";

import type { paths } from "./generated/schema";

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
  const client = createClient<paths>({ baseUrl: given.NGT_URL, headers: { "X-API-Key": given.NGT_KEY } });
  const renew = () =>
    client.POST("/vms/{vm_uuid}/ngt/renew", {
      params: { path: { vm_uuid: given.VM }, header: { "Idempotency-Key": given.IDEMPOTENCY_KEY } },
      body: { correlation_id: given.CORRELATION_ID },
    });

  const started = await renew();
  const location = there(started.response.headers.get("Location"));
  say("start", {
    status: started.response.status,
    job_id: there(started.data).id,
    location,
    told_when_to_ask: Number(started.response.headers.get("Retry-After")) >= 1,
  });

  const again = await renew();
  say("repeat", { job_id: there(again.data).id, replayed: again.response.headers.get("Idempotency-Replayed") });

  const job_id = there(location.split("/").pop());
  const read = async () =>
    there((await client.GET("/jobs/{job_id}", { params: { path: { job_id }, query: { wait: LONGEST_WAIT_S } } })).data);
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
    return there((await client.GET("/jobs", { params: { query: { ...query, ...times } } })).data).items;
  };
  const minutesLater = (minutes: number) => new Date(Date.parse(job.created_at) + minutes * 60_000).toISOString();
  const found = await list({ created_after: job.created_at, created_before: minutesLater(1) });
  const earlier = await list({ created_before: minutesLater(-1) });
  say("list", { job_ids: found.map((item) => item.id), earlier: earlier.length });

  const log = await client.GET("/jobs/{job_id}/log", { params: { path: { job_id } }, parseAs: "text" });
  say("log", { has_the_command: there(log.data).includes("create_vm_tools_entity") });

  const events = there((await client.GET("/jobs/{job_id}/events", { params: { path: { job_id } } })).data);
  if (typeof events === "string") throw new Error("it is a stream");
  say("events", {
    versions: events.items.map((event) => event.version),
    outcome: there(events.items.at(-1)).outcome,
  });

  const missing = await client.GET("/jobs/{job_id}", { params: { path: { job_id: given.UNKNOWN_JOB } } });
  const problem = there(missing.error);
  say("missing", { status: missing.response.status, code: problem.code, retryable: problem.retryable });

  const params = { path: { vm_uuid: given.BUSY_VM } };
  const open = there((await client.POST("/vms/{vm_uuid}/ngt/renew", { params })).data);
  const refused = await client.POST("/vms/{vm_uuid}/ngt/renew", { params, body: { on_conflict: "fail" } });
  const busy = there(refused.error);
  if (busy.job_id !== open.id) throw new Error("the problem names another job");
  say("busy", { status: refused.response.status, code: busy.code, job_id: busy.job_id });
}

void main();
