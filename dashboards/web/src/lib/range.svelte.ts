/** The range of time that the address asks for. Without one, a page shows what it shows by itself: the wall is live. */
import { untrack } from "svelte";
import { param, setParams } from "./router.svelte";
import { parseRange, parseTime, shifted, zoomedOut, type Range } from "./timerange";
import { now, view } from "./view.svelte";

export const range = {
  get from(): string {
    return param("from") ?? "";
  },
  get to(): string {
    return param("to") ?? "now";
  },
  /** The address names a range. */
  get chosen(): boolean {
    return param("from") !== null || param("to") !== null;
  },
  /** It does not end now: a look back, at what was known then. */
  get past(): boolean {
    return this.chosen && this.to !== "now";
  },
  /** Both ends in milliseconds; null when the address names no range, or none that can be read. */
  get ends(): Range | null {
    if (!this.chosen) return null;
    const at = now.ms;
    const end = parseTime(this.to, at, view.zone, true);
    return parseRange(this.from || String(Math.round((end ?? at) - 900_000)), this.to, at, view.zone);
  },
};

/** The range as parameters of a request; it changes with the address, not with every second. */
export function rangeQuery(): Record<string, string> {
  void [range.from, range.to, view.zone];
  const ends = untrack(() => range.ends);
  if (!ends) return {};
  const from = String(Math.floor(ends.from / 1000));
  return range.past ? { from, to: String(Math.ceil(ends.to / 1000)) } : { from };
}

export function setRange(from: string, to: string): void {
  setParams({ from: from || null, to: from && to !== "now" ? to : from ? "now" : null });
}
export function setEnds(ends: Range, step = true): void {
  setParams({ from: String(Math.round(ends.from)), to: String(Math.round(ends.to)) }, step);
}
export function clearRange(): void {
  setParams({ from: null, to: null });
}
/** `otherwise` is the width that the page shows without a range. */
export function zoomOut(otherwise: number): void {
  const at = now.ms;
  setEnds(zoomedOut(range.ends ?? { from: at - otherwise, to: at }, at));
}
export function shift(direction: -1 | 1, otherwise: number): void {
  const at = now.ms;
  setEnds(shifted(range.ends ?? { from: at - otherwise, to: at }, direction, at));
}
