import { describe, expect, it } from "vitest";
import { MAX_ROWS, shape, union, waterfall, type JaegerSpan, type JaegerTrace } from "./waterfall";

const span = (
  id: string,
  parent: string | null,
  name: string,
  start: number,
  duration: number,
  sql = "",
): JaegerSpan => ({
  traceID: "t",
  spanID: id,
  operationName: name,
  references: parent ? [{ refType: "CHILD_OF", spanID: parent }] : [],
  startTime: start,
  duration,
  tags: sql ? [{ key: "db.query.text", value: sql }] : [],
  processID: "p1",
});
const trace = (spans: JaegerSpan[]): JaegerTrace => ({
  traceID: "t",
  spans,
  processes: { p1: { serviceName: "shop" } },
});
const nPlusOne = trace([
  span("root", null, "GET /products/", 0, 1000),
  ...Array.from({ length: 48 }, (_, i) =>
    span(`q${i}`, "root", "SELECT", 10 + i * 20, 10, `SELECT * FROM brand WHERE id = ${i}`),
  ),
]);

describe("a waterfall", () => {
  it("folds repeated siblings of one shape into one row that knows its parts", () => {
    const { rows } = waterfall(nPlusOne, new Set());
    expect(rows.map((r) => [r.depth, r.count])).toEqual([
      [0, 1],
      [1, 48],
    ]);
    expect(rows[1]).toMatchObject({ statement: "SELECT * FROM brand WHERE id = ?", union: 480 });
    expect(rows[1]!.parts).toHaveLength(48);
  });

  it("opens a fold when asked", () => {
    const key = waterfall(nPlusOne, new Set()).rows[1]!.key;
    const { rows } = waterfall(nPlusOne, new Set([key]));
    expect(rows).toHaveLength(50);
    expect(rows[1]).toMatchObject({ count: 48, open: true });
    expect(rows[2]).toMatchObject({ count: 1, depth: 2, statement: "SELECT * FROM brand WHERE id = 0" });
  });

  it("shows spans whose parent is missing as roots", () => {
    expect(waterfall(trace([span("a", "gone", "x", 5, 1)]), new Set()).rows).toHaveLength(1);
  });

  it("draws a bounded number of rows and says how many are missing", () => {
    const spans = Array.from({ length: MAX_ROWS + 200 }, (_, i) =>
      span(`s${i}`, null, `op ${"x".repeat(i % 1700)}`, i, 1),
    );
    const drawn = waterfall(trace(spans), new Set());
    expect(drawn.rows).toHaveLength(MAX_ROWS);
    expect(drawn.hidden).toBe(200);
  });

  it("survives nesting deeper than the call stack and a span that is its own parent", () => {
    const deep = Array.from({ length: 20_000 }, (_, i) => span(`d${i}`, i ? `d${i - 1}` : null, "f", i, 1));
    expect(waterfall(trace(deep), new Set()).rows).toHaveLength(MAX_ROWS);
    expect(waterfall(trace([span("me", "me", "loop", 0, 1)]), new Set()).rows).toHaveLength(1);
  });
});

describe("shapes", () => {
  it.each([
    ["SELECT a FROM b WHERE id = 12", "SELECT a FROM b WHERE id = ?"],
    ["SELECT a FROM b WHERE c = 'it''s'", "SELECT a FROM b WHERE c = ?"],
    ["… WHERE id IN (1, 2,3)", "… WHERE id IN (?)"],
    ["… WHERE id = %s  AND\n x = $2", "… WHERE id = ? AND x = ?"],
    ["GET /items/550e8400-e29b-41d4-a716-446655440000", "GET /items/?"],
  ])("%s", (text, expected) => expect(shape(text)).toBe(expected));
});

it("union counts overlapping time once", () => {
  expect(
    union([
      { start: 0, duration: 10 },
      { start: 5, duration: 10 },
      { start: 30, duration: 1 },
    ]),
  ).toBe(16);
  expect(union([])).toBe(0);
});
