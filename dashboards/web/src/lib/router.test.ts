import { describe, expect, it } from "vitest";
import { normalised, safeLink } from "./alerts";
import { columns } from "./matrix";
import { go, href, match, param, setParam } from "./router.svelte";
import { clock, ms, tick, zoneName } from "./time";

describe("the router", () => {
  it.each([
    ["/", "wall", ""],
    ["/slos", "slos", ""],
    ["/slos/", "slos", ""],
    ["/alerts", "alerts", ""],
    ["/alerts/a%20b", "alert", "a b"],
    ["/findings/%E0%A4%A", "finding", "%E0%A4%A"],
    ["/traces/4bf9", "trace", "4bf9"],
    ["/traces", "traces", ""],
    ["/boards/war-room", "board", "war-room"],
    ["/alerts/a/b", "missing", ""],
    ["/nothing", "missing", ""],
  ])("%s is %s", (path, page, id) => expect(match(path)).toEqual({ page, id }));

  it("carries the view along, and the page's own filters not", () => {
    go("/?tv=1&tz=utc");
    setParam("status", "open");
    expect(param("status")).toBe("open");
    expect(href("/findings")).toBe("/findings?tv=1&tz=utc");
    expect(href("/findings?kind=x")).toBe("/findings?kind=x&tv=1&tz=utc");
    setParam("tv", null);
    setParam("tz", null);
    setParam("status", "");
    expect(href("/slos")).toBe("/slos");
  });
  it("makes a step of what a person chose, and none of what the page writes down", () => {
    go("/explore");
    const before = history.length;
    setParam("expr", "up", false);
    expect(history.length).toBe(before);
    setParam("expr", "up");
    expect(history.length).toBe(before);
    setParam("expr", "count(up)");
    expect(history.length).toBe(before + 1);
    expect(location.search).toBe("?expr=count%28up%29");
  });
});

describe("times", () => {
  it("reads both forms and refuses the rest", () => {
    expect(ms(1_700_000_000_000)).toBe(1_700_000_000_000);
    expect(ms("2026-11-27T10:00:00Z")).toBe(Date.UTC(2026, 10, 27, 10));
    for (const wrong of [null, undefined, "", "soon", NaN]) expect(ms(wrong)).toBeNull();
  });
  it("shows an instant in the store's zone", () => {
    const at = Date.UTC(2026, 10, 27, 23, 30, 5);
    expect(clock(at, zoneName("utc", "Europe/Berlin"))).toBe("23:30:05");
    expect(clock(at, zoneName("store", "Europe/Berlin"))).toBe("00:30:05");
    expect(zoneName("browser", "Europe/Berlin")).toBeUndefined();
    expect(tick(at, 5000, "UTC")).toBe("23:30:05");
    expect(tick(at, 60_000, "UTC")).toBe("23:30");
    expect(tick(at, 86_400_000, "Europe/Berlin")).toBe("28 Nov");
  });
});

describe("alerts from outside", () => {
  it("reads Alertmanager's shape", () => {
    const alert = normalised({
      fingerprint: "f",
      labels: { alertname: "Lag", severity: "warning" },
      annotations: { summary: "behind", cause: "slow disk" },
      status: { state: "active", silencedBy: ["s1"] },
      startsAt: "2026-11-27T10:00:00Z",
    });
    expect(alert).toMatchObject({
      name: "Lag",
      severity: "warning",
      state: "firing",
      silenced: true,
      cause: "slow disk",
    });
  });
  it("makes links of web addresses only", () => {
    expect(safeLink("/traces/1")).toBe("/traces/1");
    expect(safeLink("https://shop.example/x")).toBe("https://shop.example/x");
    for (const bad of [
      "javascript:alert(1)",
      "java\nscript:alert(1)",
      "//evil.example",
      "/\\evil.example",
      "/\t/evil.example",
      "data:text/html,x",
      "",
      null,
    ])
      expect(safeLink(bad)).toBeNull();
  });
});

it("puts a range answer on one grid, with gaps for what is no number", () => {
  const got = columns({
    resultType: "matrix",
    result: [
      {
        metric: { __name__: "up", job: "a" },
        values: [
          [1, "1"],
          [2, "NaN"],
        ],
      },
      {
        metric: {},
        values: [
          [2, "+Inf"],
          [3, "4"],
        ],
      },
    ],
  });
  expect(got.t).toEqual([1000, 2000, 3000]);
  expect(got.series.map((s) => s.name)).toEqual(['up{job="a"}', "value"]);
  expect(got.series.map((s) => s.values)).toEqual([
    [1, null, null],
    [null, null, 4],
  ]);
});
