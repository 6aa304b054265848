import { describe, expect, it } from "vitest";
import {
  appendColumns,
  appendSpark,
  isDelta,
  isSnapshot,
  MAX_POINTS,
  mergeDelta,
  mergePanel,
  OutOfStep,
} from "./merge";
import type { AnyPanel, TimeseriesPanel } from "./types";

const chart = (t: number[], values: (number | null)[]): AnyPanel => ({
  state: "ok",
  t,
  series: [{ name: "a", values }],
});
const shown = (panel: AnyPanel) => panel as unknown as TimeseriesPanel;

describe("appending points", () => {
  it("adds new points and cuts those older than the range", () => {
    const next = appendColumns(
      { t: [0, 10, 20], series: [{ name: "a", values: [1, 2, 3] }] },
      { t: [30, 40], values: [[4, null]] },
      20,
    );
    expect(next.t).toEqual([20, 30, 40]);
    expect(next.series[0]!.values).toEqual([3, 4, null]);
  });

  it("lets the last write win when a point comes again", () => {
    const next = appendColumns(
      { t: [0, 10], series: [{ name: "a", values: [1, 2] }] },
      { t: [10, 20], values: [[9, 3]] },
      100,
    );
    expect(next.t).toEqual([0, 10, 20]);
    expect(next.series[0]!.values).toEqual([1, 9, 3]);
  });

  it("keeps the band as long as the lines, with gaps where none came", () => {
    const panel = {
      t: [0],
      series: [{ name: "a", values: [1] }],
      band: { expected: [1], low: [0], high: [2] },
    };
    const once = appendColumns(panel, { t: [10], values: [[2]] }, 100);
    expect(once.band).toEqual({ expected: [1, null], low: [0, null], high: [2, null] });
    const first = appendColumns(
      { t: [0], series: [{ name: "a", values: [1] }] },
      { t: [10], values: [[2]], band: { expected: [5], low: [4], high: [6] } },
      100,
    );
    expect(first.band).toEqual({ expected: [null, 5], low: [null, 4], high: [null, 6] });
  });

  it("never holds more points than a screen can show, however long the range", () => {
    let panel = { t: [] as number[], series: [{ name: "a", values: [] as (number | null)[] }] };
    for (let i = 0; i < 5; i++) {
      const t = Array.from({ length: 1000 }, (_, k) => i * 1000 + k);
      panel = appendColumns(panel, { t, values: [t] }, 1e12);
    }
    expect(panel.t.length).toBe(MAX_POINTS);
    expect(panel.series[0]!.values.length).toBe(MAX_POINTS);
    expect(panel.t.at(-1)).toBe(4999);
    expect(panel.series[0]!.values.at(-1)).toBe(4999);
  });

  it("holds a steady number of points over a day of ticks", () => {
    let panel = { t: [] as number[], series: [{ name: "a", values: [] as (number | null)[] }] };
    for (let i = 0; i < 17_280; i++) panel = appendColumns(panel, { t: [i * 5000], values: [[i]] }, 900_000);
    expect(panel.t.length).toBe(181);
  });

  it.each([
    [{ t: [30], values: [[1], [2]] }, "another number of lines"],
    [{ t: [30, 40], values: [[1]] }, "a column shorter than its times"],
    [{ t: [40, 30], values: [[1, 2]] }, "times that go back"],
    [{ t: [NaN], values: [[1]] }, "a time that is no number"],
  ])("refuses %j: %s", (append) => {
    expect(() => appendColumns({ t: [0], series: [{ name: "a", values: [1] }] }, append, 100)).toThrow(
      OutOfStep,
    );
  });

  it("starts a sparkline from nothing", () => {
    expect(appendSpark(null, { t: [5], values: [[1]] }, 100)).toEqual({ t: [5], values: [1] });
  });
});

describe("merging a change of a panel", () => {
  it("takes a whole panel as it comes, dropping what the old one had", () => {
    const old: AnyPanel = { state: "error", error: "broken", remedy: "mend it" };
    expect(mergePanel(old, { state: "ok", value: 4 }, 100)).toEqual({ state: "ok", value: 4 });
  });

  it("lays changed scalars over the held ones beside appended points", () => {
    const next = mergePanel(
      { ...chart([0], [1]), unit: "s", state: "error", error: "slow" },
      { state: "ok", as_of_ms: 7, append: { t: [10], values: [[2]] } },
      100,
    );
    expect(next).toMatchObject({ state: "ok", as_of_ms: 7, unit: "s", t: [0, 10] });
    expect(next.error).toBeUndefined();
  });

  it("appends to the sparkline of a stat", () => {
    const next = mergePanel(
      { state: "ok", value: 1, spark: { t: [0], values: [1] } },
      { value: 2, append: { t: [10], values: [[2]] } },
      100,
    );
    expect(next).toMatchObject({ value: 2, spark: { t: [0, 10], values: [1, 2] } });
  });

  it("asks for a snapshot when points come for a panel it does not hold", () => {
    expect(() => mergePanel(undefined, { append: { t: [1], values: [[1]] } }, 100)).toThrow(OutOfStep);
    expect(() => mergePanel(undefined, { value: 3 }, 100)).toThrow(OutOfStep);
  });

  it("does not touch the panel that was held", () => {
    const held = chart([0], [1]);
    mergePanel(held, { append: { t: [10], values: [[2]] } }, 100);
    expect(shown(held).t).toEqual([0]);
    expect(shown(held).series[0]!.values).toEqual([1]);
  });
});

describe("merging a delta", () => {
  it("keeps the identity of panels that did not change, so that they do not redraw", () => {
    const panels = { a: chart([0], [1]), b: { state: "ok", value: 1 } as AnyPanel };
    const next = mergeDelta(panels, { tick: 2, now_ms: 1, panels: { b: { state: "ok", value: 2 } } }, 100);
    expect(next.a).toBe(panels.a);
    expect(next.b).toEqual({ state: "ok", value: 2 });
  });

  it("knows snapshots and deltas from other things", () => {
    expect(isSnapshot({ board: { rows: [] }, tick: 1, now_ms: 2, panels: {} })).toBe(true);
    for (const wrong of [null, 1, "x", {}, { tick: 1, now_ms: 2, panels: {} }])
      expect(isSnapshot(wrong)).toBe(false);
    expect(isDelta({ tick: 1, panels: {} })).toBe(true);
    for (const wrong of [null, [], { panels: {} }]) expect(isDelta(wrong)).toBe(false);
  });
});
