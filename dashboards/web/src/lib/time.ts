/** Instants: unix milliseconds inside, three zones outside. */
import type { When } from "./types";

/** Milliseconds of an RFC 3339 text or a unix time; null for what is neither. */
export function ms(when: When | null | undefined): number | null {
  if (when === null || when === undefined || when === "") return null;
  if (typeof when === "number") return Number.isFinite(when) ? when : null;
  const parsed = Date.parse(when);
  return Number.isNaN(parsed) ? null : parsed;
}

export type ZoneChoice = "store" | "browser" | "utc";

export function zoneName(choice: ZoneChoice, store: string): string | undefined {
  if (choice === "utc") return "UTC";
  return choice === "store" && store ? store : undefined;
}

const formats = new Map<string, Intl.DateTimeFormat>();
function format(zone: string | undefined, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${zone ?? ""} ${JSON.stringify(options)}`;
  let found = formats.get(key);
  if (!found) {
    found = new Intl.DateTimeFormat("en-GB", { ...options, ...(zone ? { timeZone: zone } : {}) });
    formats.set(key, found);
  }
  return found;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;

export function clock(at: number, zone?: string): string {
  return format(zone, CLOCK).format(at);
}
export function minutes(at: number, zone?: string): string {
  return format(zone, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(at);
}
export function full(at: number, zone?: string): string {
  return format(zone, {
    weekday: "short",
    day: "numeric",
    month: "short",
    ...CLOCK,
    timeZoneName: "short",
  }).format(at);
}
/** A time on an axis whose marks are `step` apart: seconds only where they tell marks apart, days where they do. */
export function tick(at: number, step: number, zone?: string): string {
  if (step >= 86_400_000) return format(zone, { day: "numeric", month: "short" }).format(at);
  const text = clock(at, zone);
  if (step >= 3_600_000 && text.startsWith("00:00"))
    return format(zone, { day: "numeric", month: "short" }).format(at);
  return step < 60_000 ? text : text.slice(0, 5);
}
export function day(at: number, zone?: string): string {
  return format(zone, { weekday: "short", day: "numeric", month: "short" }).format(at);
}
