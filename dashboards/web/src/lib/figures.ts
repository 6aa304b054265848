/** What a detector measured, as words and units: the names carry their unit at their end. */
import { bytes, duration, number, percent } from "./format";

export interface Figure {
  name: string;
  text: string;
}
const UNITS: [RegExp, (value: number) => string][] = [
  [/_seconds_per_hour$/, (v) => `${duration(v)} an hour`],
  [/_per_second$/, (v) => `${number(v)}/s`],
  [/_per_hour$/, (v) => `${number(v)}/h`],
  [/(?:^|_)(?:ratio|share|hit_rate)$/, percent],
  [/(?:^|_)(?:seconds|s)$/, duration],
  [/_ms$/, (v) => duration(v / 1000)],
  [/_bytes$/, bytes],
];
/** Said elsewhere on the page, or of use to the service alone. */
const HIDDEN = new Set(["impact_level", "needs_traces"]);

/** Where the service's name for it says nothing to its reader. */
const NAMES: Record<string, string> = { union_seconds: "time in these calls" };

/** One figure a line, in the order in which they were measured; what is nested is left out. */
export function figures(detail: Record<string, unknown> | null | undefined): Figure[] {
  return Object.entries(detail ?? {}).flatMap(([key, value]) => {
    if (HIDDEN.has(key) || value === "" || value === null || typeof value === "object") return [];
    const unit = typeof value === "number" ? UNITS.find(([ends]) => ends.test(key)) : undefined;
    const stem = unit ? key.replace(/_(?:seconds|s|ms|bytes|ratio)$/, "") : key;
    const name = NAMES[key] ?? stem.replace(/_per_(?:second|hour)$/, "").replaceAll("_", " ");
    if (typeof value === "number") return [{ name, text: unit ? unit[1](value) : number(value) }];
    return [{ name, text: typeof value === "boolean" ? (value ? "yes" : "no") : String(value) }];
  });
}
