// The scenario with the client that openapi-generator makes for Java's own HTTP client.

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.ApiResponse;
import org.openapitools.client.api.JobsApi;
import org.openapitools.client.api.RenewalsApi;
import org.openapitools.client.model.Job;
import org.openapitools.client.model.JobEvent;
import org.openapitools.client.model.JobList;
import org.openapitools.client.model.Problem;
import org.openapitools.client.model.RenewRequest;
import org.openapitools.client.model.Step;

public final class Program {
  private static final int LONGEST_WAIT_S = 20;
  private static final ObjectMapper MAPPER = ApiClient.createDefaultObjectMapper();

  private Program() {}

  /** A call that is refused. */
  private interface Call {
    void send() throws ApiException;
  }

  private static String given(String name) {
    return System.getenv(name);
  }

  private static String header(ApiResponse<?> answer, String name) {
    for (Map.Entry<String, List<String>> entry : answer.getHeaders().entrySet()) {
      if (entry.getKey().equalsIgnoreCase(name)) {
        return entry.getValue().get(0);
      }
    }
    return null;
  }

  private static void say(String step, Object... namesAndValues) throws Exception {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    for (int i = 0; i < namesAndValues.length; i += 2) {
      line.put((String) namesAndValues[i], namesAndValues[i + 1]);
    }
    System.out.println(MAPPER.writeValueAsString(line));
  }

  private static Problem refusal(Call call) throws Exception {
    try {
      call.send();
    } catch (ApiException refused) {
      return MAPPER.readValue(refused.getResponseBody(), Problem.class);
    }
    throw new IllegalStateException("it was not refused");
  }

  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(given("NGT_URL"));
    client.setRequestInterceptor(request -> request.header("X-API-Key", given("NGT_KEY")));
    RenewalsApi renewals = new RenewalsApi(client);
    JobsApi jobs = new JobsApi(client);

    UUID vm = UUID.fromString(given("VM"));
    RenewRequest wanted = new RenewRequest().correlationId(given("CORRELATION_ID"));
    String key = given("IDEMPOTENCY_KEY");
    ApiResponse<Job> started = renewals.renewVmNgtCertificateWithHttpInfo(vm, null, key, wanted);
    String location = header(started, "Location");
    say(
        "start",
        "status", started.getStatusCode(),
        "job_id", started.getData().getId().toString(),
        "location", location,
        "told_when_to_ask", Integer.parseInt(header(started, "Retry-After")) >= 1);

    ApiResponse<Job> again = renewals.renewVmNgtCertificateWithHttpInfo(vm, null, key, wanted);
    say(
        "repeat",
        "job_id", again.getData().getId().toString(),
        "replayed", header(again, "Idempotency-Replayed"));

    UUID jobId = UUID.fromString(location.substring(location.lastIndexOf('/') + 1));
    Job job = jobs.getJob(jobId, LONGEST_WAIT_S);
    while (!job.getDone()) {
      job = jobs.getJob(jobId, LONGEST_WAIT_S);
    }
    say(
        "wait",
        "job_id", job.getId().toString(),
        "done", job.getDone(),
        "outcome", job.getOutcome(),
        "steps", job.getSteps().stream().map(Step::getName).collect(Collectors.toList()),
        "new_not_after_s", job.getNewNotAfter().toEpochSecond());

    OffsetDateTime createdAt = job.getCreatedAt();
    String cluster = job.getCluster();
    JobList found =
        jobs.listJobs(
            "succeeded", true, vm, cluster, null, null, null, createdAt, createdAt.plusMinutes(1), null, 10, null);
    JobList earlier =
        jobs.listJobs(
            "succeeded", true, vm, cluster, null, null, null, null, createdAt.minusMinutes(1), null, 10, null);
    say(
        "list",
        "job_ids", found.getItems().stream().map(item -> item.getId().toString()).collect(Collectors.toList()),
        "earlier", earlier.getItems().size());

    String log = jobs.getJobLog(jobId);
    say("log", "has_the_command", log.contains("create_vm_tools_entity"));

    List<JobEvent> events = jobs.listJobEvents(jobId, null, null).getItems();
    say(
        "events",
        "versions", events.stream().map(JobEvent::getVersion).collect(Collectors.toList()),
        "outcome", events.get(events.size() - 1).getOutcome());

    UUID unknown = UUID.fromString(given("UNKNOWN_JOB"));
    Problem missing = refusal(() -> jobs.getJob(unknown, null));
    say("missing", "status", missing.getStatus(), "code", missing.getCode(), "retryable", missing.getRetryable());

    UUID busyVm = UUID.fromString(given("BUSY_VM"));
    Job open = renewals.renewVmNgtCertificate(busyVm, null, null, null);
    RenewRequest failing = new RenewRequest().onConflict(RenewRequest.OnConflictEnum.FAIL);
    Problem busy = refusal(() -> renewals.renewVmNgtCertificate(busyVm, null, null, failing));
    if (!open.getId().equals(busy.getJobId())) {
      throw new IllegalStateException("the problem names another job");
    }
    say("busy", "status", busy.getStatus(), "code", busy.getCode(), "job_id", busy.getJobId().toString());
  }
}
