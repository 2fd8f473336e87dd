// orval writes calls and leaves the sending to a function of ours: there the address and the key are added.
export default {
  ngt: {
    input: process.env.OPENAPI_DOCUMENT,
    output: {
      target: "generated/client.ts",
      client: "fetch",
      headers: true,
      override: { useDates: true, mutator: { path: "./call-service.ts", name: "callService" } },
    },
  },
};
