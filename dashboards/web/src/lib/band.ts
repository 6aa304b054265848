/** Lines that a board names as its band are drawn as one, under the others. */
import type { Band, Nullable, Series } from "./types";

type Names = Partial<Record<keyof Band, string>>;

/** Takes the named lines out of a chart. Without both edges there is no band, and the lines stay lines. */
export function withoutBand(
  series: readonly Series[],
  names: unknown,
  points: number,
): { series: Series[]; band: Band | null } {
  const wanted = (typeof names === "object" && names !== null ? names : {}) as Names;
  const line = (key: keyof Band) => series.find((s) => wanted[key] !== undefined && s.name === wanted[key]);
  const [low, high, expected] = [line("low"), line("high"), line("expected")];
  if (!low || !high) return { series: [...series], band: null };
  const values = (s: Series | undefined): Nullable[] => s?.values ?? Array<Nullable>(points).fill(null);
  return {
    series: series.filter((s) => s !== low && s !== high && s !== expected),
    band: { low: low.values, high: high.values, expected: values(expected) },
  };
}
