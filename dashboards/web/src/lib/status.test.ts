import { describe, expect, it } from "vitest";
import { changes } from "./announce";
import { bandWord, judge, judgeAlert, judgePriority, judgeSlo, judgeSource, worst } from "./status";
import type { DataState, Status } from "./types";

describe("states", () => {
  it("zero, no data, stale, error and silenced all look different", () => {
    const looks = [
      judge({ state: "ok", status: "ok" }),
      judge({ state: "no_data", status: "ok" }),
      judge({ state: "stale", status: "ok" }),
      judge({ state: "error", status: "ok" }),
      judgeAlert({ severity: "critical", state: "firing", silenced: true }),
    ].map((j) => `${j.mark} ${j.word}`);
    expect(new Set(looks).size).toBe(looks.length);
  });

  it("is green only for data that is there and judged ok", () => {
    const states: DataState[] = ["ok", "no_data", "stale", "error"];
    const statuses: (Status | undefined)[] = ["ok", "warn", "crit", "unknown", undefined];
    for (const state of states)
      for (const status of statuses) {
        const green = judge({ state, ...(status ? { status } : {}) }).mark === "ok";
        expect(green).toBe(state === "ok" && status === "ok");
      }
    expect(judge({ state: "never heard of" as DataState, status: "ok" }).mark).toBe("none");
    expect(judgeSlo({ state: "no_data", tiers: [] }).mark).toBe("none");
    expect(judgeSource("unheard").mark).toBe("none");
  });

  it("calls a burn that pages critical", () => {
    const tier = { severity: "page", factor: 14.4, long: "1h", short: "5m", firing: true };
    expect(judgeSlo({ state: "burning", tiers: [tier] }).mark).toBe("crit");
    expect(judgeSlo({ state: "burning", tiers: [{ ...tier, severity: "ticket" }] }).mark).toBe("warn");
    expect(judgeSlo({ state: "exhausted", tiers: [] }).mark).toBe("crit");
  });

  it("tells alerts by severity and state", () => {
    expect(judgeAlert({ severity: "critical", state: "firing" })).toEqual({ mark: "crit", word: "Critical" });
    expect(judgeAlert({ severity: "warning", state: "pending" }).word).toBe("Warning, pending");
    expect(judgeAlert({ severity: "critical", state: "resolved" }).mark).toBe("ok");
    expect(judgePriority("P0", "open").mark).toBe("crit");
    expect(judgePriority("P0", "suppressed").mark).toBe("muted");
    expect(judgePriority("P0", "open", false)).toEqual({ mark: "muted", word: "P0, ended" });
  });

  it("names the place in the expected band", () => {
    expect(bandWord(42, { low: 118, high: 141 })).toBe("below expected");
    expect(bandWord(150, { low: 118, high: 141 })).toBe("above expected");
    expect(bandWord(120, { low: 118, high: 141 })).toBe("as expected");
    expect(bandWord(120, { low: null, high: null })).toBe("");
    expect(bandWord(null, { low: 1, high: 2 })).toBe("");
  });

  it("ranks marks with no data above ok", () => {
    expect(worst(["ok", "none", "ok"])).toBe("none");
    expect(worst(["warn", "crit", "ok"])).toBe("crit");
    expect(worst([])).toBe("ok");
  });
});

describe("what a screen reader hears", () => {
  it("is told changes only, and not forty of them", () => {
    const before = new Map([
      ["panel a", "Orders: OK"],
      ["alert x", "Alert Lag: Critical"],
    ]);
    expect(changes(before, before)).toEqual([]);
    expect(changes(before, new Map([["panel a", "Orders: Critical"]]))).toEqual([
      "Orders: Critical",
      "Alert Lag: gone",
    ]);
    const many = new Map(Array.from({ length: 9 }, (_, i) => [`panel ${i}`, `Panel ${i}: Error`]));
    expect(changes(before, many).at(-1)).toBe("and 6 more");
  });
});
