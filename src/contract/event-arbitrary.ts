import fc from "fast-check";

/** An event as a producer would write it, before it is JSON. */
export type WireEvent = Record<string, unknown>;

const text = (charactersMax: number): fc.Arbitrary<string> =>
  fc
    .oneof(
      fc.string({ minLength: 1, maxLength: 24 }),
      fc.string({ minLength: 1, maxLength: 24, unit: "grapheme" }),
      fc.constantFrom(
        "acme",
        "=cmd()",
        "<script>",
        "a\nb\tc",
        '"\\/',
        "é",
        "e\u0301",
        "😀",
        " ",
        "x".repeat(charactersMax),
      ),
    )
    .filter((value) => !value.includes("\u0000"));

const count = fc.oneof(fc.nat({ max: 5000 }), fc.constantFrom(0, 1, 2 ** 31 - 1));

const timestamp = fc
  .tuple(
    fc.date({
      min: new Date("1970-01-02T00:00:00Z"),
      max: new Date("2199-12-30T23:59:59Z"),
      noInvalidDate: true,
    }),
    fc.constantFrom("", ".1", ".123456", ".999999999", ".000001"),
    fc.constantFrom("Z", "z", "+00:00", "-00:00", "+05:45", "-03:30", "+14:00"),
    fc.constantFrom("T", "t"),
  )
  .map(
    ([date, fraction, zone, separator]) =>
      `${date.toISOString().slice(0, 19).replace("T", separator)}${fraction}${zone}`,
  );

/** Values without the keys that are refused; numbers as JavaScript writes them. */
const free = fc
  .jsonValue({ maxDepth: 3, noUnicodeString: false })
  .filter(
    (value) =>
      !/\\u0000|\\ud[89a-f]|"(__proto__|constructor|prototype)"/i.test(JSON.stringify(value)),
  );

const cost = fc.oneof(
  fc.constantFrom(
    "0.0125",
    "1.5e-7",
    "-3",
    "0",
    "-0",
    "9007199",
    "0.000000000123456",
    "1E+2",
    0.1,
    12,
    -0.5,
    1e-7,
    null,
  ),
  fc.double({ min: -9_007_199, max: 9_007_199, noNaN: true }),
);

/** Valid events of every shape the contract allows. */
export const anyWireEvent: fc.Arbitrary<WireEvent> = fc
  .record(
    {
      event_id: fc.oneof(
        fc.uuid(),
        text(128).filter((id) => Buffer.byteLength(id) <= 128),
      ),
      occurred_at: timestamp,
      org_id: text(256).filter((id) => id !== "*"),
      model_id: text(256),
      status: fc.constantFrom("success", "error", "cancelled"),
      actor_id: fc.option(text(256)),
      client_id: fc.option(text(256)),
      requests: fc.integer({ min: 1, max: 1_000_000 }),
      input_tokens: count,
      cache_read_tokens: count,
      cache_write_5m_tokens: count,
      cache_write_1h_tokens: count,
      output_tokens: count,
      reasoning_tokens: count,
      total_tokens: fc.oneof(count, fc.maxSafeNat()),
      latency_ms: fc.option(count),
      ttft_ms: fc.option(count),
      error_code: fc.option(
        fc.oneof(text(256), fc.constantFrom("429", "500", "content_filter", "invalid_request")),
      ),
      error_class: fc.constantFrom("client", "capacity", "upstream", "policy", "internal", null),
      cost_estimate: cost,
      currency: fc.constantFrom("USD", "EUR", "JPY", null),
      usage_source: fc.constantFrom("reported", "estimated", "absent", null),
      metadata: fc.option(
        fc.dictionary(fc.constantFrom("a", "b", "é", "~/"), free, { maxKeys: 4 }),
      ),
      schema_version: fc.constantFrom("1", "1.7", 1, 1.5, null),
      vendor_field: free,
    },
    {
      requiredKeys: ["event_id", "occurred_at", "org_id", "model_id", "status"],
      noNullPrototype: true,
    },
  )
  .map((event) => {
    const { error_class: errorClass, ...rest } = event;
    return event.status === "success" || errorClass === undefined
      ? rest
      : { ...rest, error_class: errorClass };
  });
