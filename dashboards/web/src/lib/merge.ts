/** Pure merging of live messages: what the wall shows is a fold over snapshot and deltas, bounded in time and count. */
import type { AnyPanel, Append, Band, Delta, Nullable, Series, Snapshot, Spark } from "./types";

/** More points than a wall has pixels help nobody; older ones go first. */
export const MAX_POINTS = 3600;

/** A delta that does not fit what is held: only a new snapshot can repair it. */
export class OutOfStep extends Error {}

/** Where the kept window starts in an ascending list of times. */
function firstKept(t: readonly number[], rangeMs: number): number {
  const newest = t.at(-1);
  if (newest === undefined) return 0;
  let first = Math.max(0, t.length - MAX_POINTS);
  while (first < t.length && t[first]! < newest - rangeMs) first++;
  return first;
}

/** How many held points stay: points at or after the first new time are written anew. */
function overlap(t: readonly number[], next: readonly number[]): number {
  const start = next[0];
  if (start === undefined) return t.length;
  let keep = t.length;
  while (keep > 0 && t[keep - 1]! >= start) keep--;
  return keep;
}

function joined(
  old: readonly Nullable[],
  keep: number,
  next: readonly Nullable[],
  first: number,
): Nullable[] {
  const all = old.slice(0, keep);
  for (const value of next) all.push(value ?? null);
  return first ? all.slice(first) : all;
}

function ascending(t: readonly number[]): boolean {
  for (let i = 1; i < t.length; i++) if (t[i]! <= t[i - 1]!) return false;
  return t.every(Number.isFinite);
}

function joinedBand(
  old: Band | null | undefined,
  held: number,
  keep: number,
  next: Append,
  first: number,
): Band | null {
  if (!old && !next.band) return null;
  const line = (key: keyof Band) =>
    joined(
      old?.[key] ?? Array<null>(held).fill(null),
      keep,
      next.band?.[key] ?? Array<null>(next.t.length).fill(null),
      first,
    );
  return { expected: line("expected"), low: line("low"), high: line("high") };
}

function checked(append: Append, count: number): void {
  if (append.values.length !== count) throw new OutOfStep(`${append.values.length} series, ${count} held`);
  if (!ascending(append.t)) throw new OutOfStep("times do not ascend");
  for (const values of append.values)
    if (values.length !== append.t.length) throw new OutOfStep("a column has another length than its times");
}

/** Appends points to a time series panel's columns and cuts what is older than the range. */
export function appendColumns(
  panel: { t: number[]; series: Series[]; band?: Band | null },
  append: Append,
  rangeMs: number,
): { t: number[]; series: Series[]; band: Band | null } {
  checked(append, panel.series.length);
  const held = panel.t.length;
  const keep = overlap(panel.t, append.t);
  const t = [...panel.t.slice(0, keep), ...append.t];
  const first = firstKept(t, rangeMs);
  return {
    t: first ? t.slice(first) : t,
    series: panel.series.map((s, i) => ({ ...s, values: joined(s.values, keep, append.values[i]!, first) })),
    band: joinedBand(panel.band, held, keep, append, first),
  };
}

/** The same for the one line of a sparkline. */
export function appendSpark(
  spark: Spark | null | undefined,
  append: Append,
  rangeMs: number,
): { t: number[]; values: Nullable[] } {
  const { t, series } = appendColumns(
    { t: spark?.t ?? [], series: [{ name: "", values: spark?.values ?? [] }] },
    append,
    rangeMs,
  );
  return { t, values: series[0]!.values };
}

function isAppend(value: unknown): value is Append {
  const v = value as Append | null;
  return typeof v === "object" && v !== null && Array.isArray(v.t) && Array.isArray(v.values);
}

function withoutOldError(panel: AnyPanel): AnyPanel {
  if (panel.state === "error") return panel;
  const { error: _error, remedy: _remedy, ...rest } = panel;
  return rest as AnyPanel;
}

/** One panel after one delta: whole, or scalars and appended points over what is held. */
export function mergePanel(
  held: AnyPanel | undefined,
  change: Record<string, unknown>,
  rangeMs: number,
): AnyPanel {
  const { append, ...scalars } = change;
  if (!isAppend(append)) {
    if (typeof scalars.state === "string") return scalars as AnyPanel;
    if (!held) throw new OutOfStep("a change of a panel that is not held");
    return { ...held, ...scalars };
  }
  if (!held) throw new OutOfStep("points for a panel that is not held");
  const merged = withoutOldError({ ...held, ...scalars });
  const columns = held as unknown as { t?: number[]; series?: Series[]; band?: Band | null; spark?: Spark };
  if (Array.isArray(columns.series) && Array.isArray(columns.t))
    return {
      ...merged,
      ...appendColumns({ t: columns.t, series: columns.series, band: columns.band }, append, rangeMs),
    };
  return { ...merged, spark: appendSpark(columns.spark, append, rangeMs) };
}

/** All panels after one delta. Panels that did not change keep their identity, so nothing redraws. */
export function mergeDelta(
  panels: Record<string, AnyPanel>,
  delta: Delta,
  rangeMs: number,
): Record<string, AnyPanel> {
  const next = { ...panels };
  for (const [id, change] of Object.entries(delta.panels)) next[id] = mergePanel(panels[id], change, rangeMs);
  return next;
}

/** Refuses what is not a snapshot before anything is thrown away for it. */
export function isSnapshot(value: unknown): value is Snapshot {
  const v = value as Snapshot | null;
  return (
    typeof v === "object" &&
    v !== null &&
    typeof v.tick === "number" &&
    typeof v.now_ms === "number" &&
    Array.isArray(v.board?.rows) &&
    typeof v.panels === "object"
  );
}
export function isDelta(value: unknown): value is Delta {
  const v = value as Delta | null;
  return typeof v === "object" && v !== null && typeof v.tick === "number" && typeof v.panels === "object";
}
