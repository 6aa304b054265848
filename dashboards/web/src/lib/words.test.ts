// @vitest-environment node
import { describe, expect, it } from "vitest";
import { figures } from "./figures";
import { briefly, readable, saleName } from "./words";

const NOW = Date.UTC(2026, 10, 23, 10, 0, 0);

describe("sentences of the server", () => {
  it.each([
    ["since 2026-11-23T09:54:34.813Z (80% sure)", "since 10:54:34 (80% sure)"],
    ["told at 2026-11-22T22:30:00Z", "told at Sun 22 Nov 23:30:00"],
    ["from 2026-11-23T09:54:34+01:00", "from 09:54:34"],
    ["at 2026-99-99T99:99:99Z", "at 2026-99-99T99:99:99Z"],
    ["16590.14 EUR of revenue at risk", "\u20ac16,590 of revenue at risk"],
    ["99.50 JPY", "\u00a599.50"],
    ["2.50 SQL statements, v1.10 GET", "2.50 SQL statements, v1.10 GET"],
    ["version 2026.11.27-2", "version 2026.11.27-2"],
  ])("%s", (text, read) => expect(readable(text, "Europe/Berlin", NOW)).toBe(read));

  it.each([
    ["black-friday 2025", "Black Friday 2025"],
    ["cyber_monday", "Cyber Monday"],
    ["Single\u2019s Day 2025", "Single\u2019s Day 2025"],
    ["11.11", "11.11"],
    ["", ""],
  ])("the sale %s", (name, read) => expect(saleName(name)).toBe(read));
});

describe("a statement within a sentence", () => {
  it("is cut where it is long, and what is said around it stays", () => {
    const long = `views.py:36 repeats \`SELECT ${"a, ".repeat(90)}\` 41 times; likely since deploy v2`;
    const read = briefly(long);
    expect(read).toMatch(/^views\.py:36 repeats `SELECT a, .*\u2026` 41 times; likely since deploy v2$/);
    expect(read.length).toBeLessThan(220);
  });
  it("stays where it is short", () => {
    expect(briefly("waits for `POST /reserve/`, `GET /`")).toBe("waits for `POST /reserve/`, `GET /`");
  });
});

describe("what a detector measured", () => {
  it("has the unit that its name ends with", () => {
    const found = figures({
      error_ratio: 0.2143,
      window_seconds: 30,
      seconds: 0.25,
      extra_misses_per_second: 7.92,
      union_seconds: 0.118,
      within_ms: 1500,
      read_bytes: 2048,
      hit_rate: 0.5556,
      status: "502",
      retried: true,
      requests: 28,
    });
    expect(found.map(({ name, text }) => `${name}: ${text}`)).toEqual([
      "error: 21.4 %",
      "window: 30 s",
      "seconds: 250 ms",
      "extra misses: 7.92/s",
      "time in these calls: 118 ms",
      "within: 1.5 s",
      "read: 2 KiB",
      "hit rate: 55.6 %",
      "status: 502",
      "retried: yes",
      "requests: 28",
    ]);
  });
  it("leaves out what is nested, empty or unknown", () =>
    expect(figures({ a: null, b: "", c: { d: 1 }, e: [1], impact_level: "high" })).toEqual([]));
  it("takes no detail for none", () => expect(figures(null)).toEqual([]));
});
