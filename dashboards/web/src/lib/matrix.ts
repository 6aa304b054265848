/** A Prometheus range answer as columns on one time grid. */
import type { Nullable, Series } from "./types";

export interface Matrix {
  resultType: string;
  result: { metric: Record<string, string>; values?: [number, string][]; value?: [number, string] }[];
}
/** Drawn at most; the page says how many there were. */
export const MAX_SERIES = 40;

function name(metric: Record<string, string>): string {
  const { __name__, ...labels } = metric;
  const text = Object.entries(labels)
    .map(([k, v]) => `${k}="${v}"`)
    .join(", ");
  return text ? `${__name__ ?? ""}{${text}}` : (__name__ ?? "value");
}

/** Values that are no finite number (NaN, ±Inf) are gaps. */
function value(text: string): Nullable {
  const parsed = Number(text);
  return Number.isFinite(parsed) ? parsed : null;
}

export function columns(matrix: Matrix): { t: number[]; series: Series[]; total: number } {
  const kept = matrix.result.slice(0, MAX_SERIES);
  const times = new Set<number>();
  for (const row of kept) for (const [at] of row.values ?? []) times.add(Math.round(at * 1000));
  const t = [...times].sort((a, b) => a - b);
  const place = new Map(t.map((at, i) => [at, i]));
  const series = kept.map((row) => {
    const values = Array<Nullable>(t.length).fill(null);
    for (const [at, text] of row.values ?? []) values[place.get(Math.round(at * 1000))!] = value(text);
    return { name: name(row.metric), labels: row.metric, values };
  });
  return { t, series, total: matrix.result.length };
}
