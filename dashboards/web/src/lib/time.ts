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
export function day(at: number, zone?: string): string {
  return format(zone, { weekday: "short", day: "numeric", month: "short" }).format(at);
}
