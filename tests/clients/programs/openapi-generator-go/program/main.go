// The scenario with the client that openapi-generator makes for Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	ngt "ngt-renewal.test/clients/go"
)

const longestWaitS = 20

func say(step string, seen map[string]any) {
	seen["step"] = step
	line, err := json.Marshal(seen)
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// refusal is the problem and the status of a call that was refused.
func refusal(answer *http.Response, err error) (ngt.Problem, int) {
	var refused *ngt.GenericOpenAPIError
	if !errors.As(err, &refused) {
		panic("it was not refused")
	}
	problem, typed := refused.Model().(ngt.Problem)
	if !typed {
		panic(err)
	}
	return problem, answer.StatusCode
}

func main() {
	configuration := ngt.NewConfiguration()
	configuration.Servers = ngt.ServerConfigurations{{URL: os.Getenv("NGT_URL")}}
	client := ngt.NewAPIClient(configuration)
	keys := map[string]ngt.APIKey{"apiKey": {Key: os.Getenv("NGT_KEY")}}
	ctx := context.WithValue(context.Background(), ngt.ContextAPIKeys, keys)

	vm := os.Getenv("VM")
	wanted := *ngt.NewRenewRequest()
	wanted.SetCorrelationId(os.Getenv("CORRELATION_ID"))
	renewal := client.RenewalsAPI.RenewVmNgtCertificate(ctx, vm).
		IdempotencyKey(os.Getenv("IDEMPOTENCY_KEY")).RenewRequest(wanted)
	started, answer, err := renewal.Execute()
	must(err)
	location := answer.Header.Get("Location")
	retryAfterS, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	must(err)
	say("start", map[string]any{
		"status": answer.StatusCode, "job_id": started.Id, "location": location, "told_when_to_ask": retryAfterS >= 1,
	})

	again, answer, err := renewal.Execute()
	must(err)
	say("repeat", map[string]any{"job_id": again.Id, "replayed": answer.Header.Get("Idempotency-Replayed")})

	jobId := location[strings.LastIndex(location, "/")+1:]
	job, _, err := client.JobsAPI.GetJob(ctx, jobId).Wait(longestWaitS).Execute()
	must(err)
	for !job.Done {
		job, _, err = client.JobsAPI.GetJob(ctx, jobId).Wait(longestWaitS).Execute()
		must(err)
	}
	steps := []string{}
	for _, step := range job.Steps {
		steps = append(steps, step.Name)
	}
	say("wait", map[string]any{
		"job_id": job.Id, "done": job.Done, "outcome": job.GetOutcome(), "steps": steps,
		"new_not_after_s": job.GetNewNotAfter().Unix(),
	})

	filtered := client.JobsAPI.ListJobs(ctx).Done(true).Status("succeeded").VmUuid(vm).Cluster(job.GetCluster()).Limit(10)
	found, _, err := filtered.CreatedAfter(job.CreatedAt).CreatedBefore(job.CreatedAt.Add(time.Minute)).Execute()
	must(err)
	earlier, _, err := filtered.CreatedBefore(job.CreatedAt.Add(-time.Minute)).Execute()
	must(err)
	jobIds := []string{}
	for _, item := range found.Items {
		jobIds = append(jobIds, item.Id)
	}
	say("list", map[string]any{"job_ids": jobIds, "earlier": len(earlier.Items)})

	log, _, err := client.JobsAPI.GetJobLog(ctx, jobId).Execute()
	must(err)
	say("log", map[string]any{"has_the_command": strings.Contains(log, "create_vm_tools_entity")})

	events, _, err := client.JobsAPI.ListJobEvents(ctx, jobId).Execute()
	must(err)
	versions := []int32{}
	for _, event := range events.Items {
		versions = append(versions, event.Version)
	}
	say("events", map[string]any{"versions": versions, "outcome": events.Items[len(events.Items)-1].GetOutcome()})

	_, answer, err = client.JobsAPI.GetJob(ctx, os.Getenv("UNKNOWN_JOB")).Execute()
	missing, status := refusal(answer, err)
	say("missing", map[string]any{"status": status, "code": missing.Code, "retryable": missing.Retryable})

	open, _, err := client.RenewalsAPI.RenewVmNgtCertificate(ctx, os.Getenv("BUSY_VM")).Execute()
	must(err)
	failing := *ngt.NewRenewRequest()
	failing.SetOnConflict("fail")
	_, answer, err = client.RenewalsAPI.RenewVmNgtCertificate(ctx, os.Getenv("BUSY_VM")).RenewRequest(failing).Execute()
	busy, status := refusal(answer, err)
	if busy.GetJobId() != open.Id {
		panic("the problem names another job")
	}
	say("busy", map[string]any{"status": status, "code": busy.Code, "job_id": busy.GetJobId()})
}
