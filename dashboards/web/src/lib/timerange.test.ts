import { describe, expect, it } from "vitest";
import { parseRange, parseTime, shifted, zoomedOut } from "./timerange";

const at = (text: string) => Date.parse(text);
const NOW = at("2026-11-27T14:35:20.500Z");

describe("Grafana's times", () => {
  it("reads what Grafana writes", () => {
    expect(parseTime("now", NOW)).toBe(NOW);
    expect(parseTime("now-1h", NOW)).toBe(NOW - 3_600_000);
    expect(parseTime("now-90s", NOW)).toBe(NOW - 90_000);
    expect(parseTime("now-h", NOW)).toBe(NOW - 3_600_000);
    expect(parseTime("1795000000000", NOW)).toBe(1795000000000);
    expect(parseTime("2026-11-27T10:00:00Z", NOW)).toBe(at("2026-11-27T10:00:00Z"));
    expect(parseTime("2026-11-27 10:00:00", NOW, "Europe/Berlin")).toBe(at("2026-11-27T09:00:00Z"));
  });
  it("rounds in the zone that is shown, down at the start and up at the end", () => {
    expect(parseTime("now/d", NOW, "Europe/Berlin")).toBe(at("2026-11-26T23:00:00Z"));
    expect(parseTime("now/d", NOW, "Europe/Berlin", true)).toBe(at("2026-11-27T23:00:00Z") - 1);
    expect(parseTime("now-1d/d", NOW, "UTC")).toBe(at("2026-11-26T00:00:00Z"));
    expect(parseTime("now/w", NOW, "UTC")).toBe(at("2026-11-23T00:00:00Z"));
    expect(parseTime("now-1M/M", NOW, "UTC")).toBe(at("2026-10-01T00:00:00Z"));
    expect(parseTime("now/Q", NOW, "UTC")).toBe(at("2026-10-01T00:00:00Z"));
    expect(parseTime("now/y", NOW, "UTC")).toBe(at("2026-01-01T00:00:00Z"));
    expect(parseTime("now/h", NOW, "Asia/Kolkata")).toBe(at("2026-11-27T14:30:00Z"));
    expect(parseTime("now/d+8h", NOW, "UTC")).toBe(at("2026-11-27T08:00:00Z"));
  });
  it("follows the clock on the wall over a change of summer time", () => {
    const after = at("2026-10-25T11:00:00Z"); // 12:00 in Berlin; the clocks went back in the night
    expect(parseTime("now-1d", after, "Europe/Berlin")).toBe(at("2026-10-24T10:00:00Z"));
    const day = parseRange("now/d", "now/d", at("2026-10-25T22:59:59.999Z"), "Europe/Berlin")!;
    expect(day.to + 1 - day.from).toBe(25 * 3_600_000);
  });
  it("keeps to the last day of a shorter month", () => {
    expect(parseTime("now-1M", at("2026-03-31T12:00:00Z"), "UTC")).toBe(at("2026-02-28T12:00:00Z"));
  });
  it.each(["", "yesterday", "now-", "now-1", "now-1x", "now*2", "12", "2026"])("refuses %j", (text) => {
    expect(parseTime(text, NOW)).toBeNull();
  });
  it("is never upside down and never ends in the future", () => {
    expect(parseRange("now", "now-1h", NOW)).toBeNull();
    expect(parseRange("now/d", "now/d", NOW, "UTC")!.to).toBe(NOW);
    const range = { from: NOW - 1000, to: NOW };
    expect(zoomedOut(range, NOW)).toEqual({ from: NOW - 2000, to: NOW });
    expect(shifted(range, 1, NOW)).toEqual(range);
    expect(shifted(range, -1, NOW)).toEqual({ from: NOW - 1500, to: NOW - 500 });
  });
});
