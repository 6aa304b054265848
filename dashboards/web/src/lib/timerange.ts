/** Ranges of time in Grafana's syntax: `now-6h`, `now/d`, `now-1d/d`, `now/d+8h`, epoch milliseconds, ISO texts. */

type Unit = "s" | "m" | "h" | "d" | "w" | "M" | "Q" | "y";
const FIXED_MS: Partial<Record<Unit, number>> = { s: 1000, m: 60_000, h: 3_600_000 };
// As in Grafana a step without a number is one: `now-d/d`.
const STEP = /([+-]\d{0,6}|\/)([smhdwMQy])/y;

interface Wall {
  y: number;
  mo: number;
  d: number;
  h: number;
  mi: number;
  s: number;
}
const formats = new Map<string, Intl.DateTimeFormat>();

function wallOf(at: number, zone: string | undefined): Wall {
  const key = zone ?? "";
  let format = formats.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat("en-GB", {
      ...(zone ? { timeZone: zone } : {}),
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(key, format);
  }
  const got: Record<string, number> = {};
  for (const part of format.formatToParts(at)) got[part.type] = Number(part.value);
  return { y: got.year!, mo: got.month!, d: got.day!, h: got.hour!, mi: got.minute!, s: got.second! };
}

const asUtc = (w: Wall) => Date.UTC(w.y, w.mo - 1, w.d, w.h, w.mi, w.s);

/** The instant at which the zone's clock shows a time; around a change of summer time the earlier reading. */
function instant(w: Wall, zone: string | undefined): number {
  const wanted = asUtc(w);
  let at = wanted;
  for (let turn = 0; turn < 3; turn++) at += wanted - asUtc(wallOf(at, zone));
  return at;
}

const MIDNIGHT = { h: 0, mi: 0, s: 0 };

function added(at: number, count: number, unit: Unit, zone: string | undefined): number {
  const fixed = FIXED_MS[unit];
  if (fixed) return at + count * fixed;
  const wall = wallOf(at, zone);
  const rest = at - Math.floor(at / 1000) * 1000;
  if (unit === "d" || unit === "w") wall.d += count * (unit === "w" ? 7 : 1);
  else {
    // The 31st of a shorter month is its last day.
    const month = wall.mo - 1 + count * { M: 1, Q: 3, y: 12 }[unit as "M" | "Q" | "y"];
    const year = wall.y + Math.floor(month / 12);
    const inYear = ((month % 12) + 12) % 12;
    const last = new Date(Date.UTC(year, inYear + 1, 0)).getUTCDate();
    Object.assign(wall, { y: year, mo: inYear + 1, d: Math.min(wall.d, last) });
  }
  return instant(wallOf(asUtc(wall), "UTC"), zone) + rest;
}

function floored(at: number, unit: Unit, zone: string | undefined): number {
  const wall = wallOf(at, zone);
  if (unit === "s") return Math.floor(at / 1000) * 1000;
  if (unit === "m") return instant({ ...wall, s: 0 }, zone);
  if (unit === "h") return at - (wall.mi * 60 + wall.s) * 1000 - (((at % 1000) + 1000) % 1000);
  Object.assign(wall, MIDNIGHT);
  if (unit === "w") wall.d -= (new Date(asUtc(wall)).getUTCDay() + 6) % 7;
  if (unit === "M") wall.d = 1;
  if (unit === "Q") Object.assign(wall, { d: 1, mo: wall.mo - ((wall.mo - 1) % 3) });
  if (unit === "y") Object.assign(wall, { d: 1, mo: 1 });
  return instant(wallOf(asUtc(wall), "UTC"), zone);
}

/** Milliseconds of one end; null for what is no time. `end` rounds up: `now/d` as an end is the day's last millisecond. */
export function parseTime(text: string, now: number, zone?: string, end = false): number | null {
  const trimmed = text.trim();
  if (/^\d{9,14}$/.test(trimmed)) return Number(trimmed) * (trimmed.length > 11 ? 1 : 1000);
  if (!trimmed.startsWith("now")) return absolute(trimmed, zone);
  let at = now;
  let place = 3;
  while (place < trimmed.length) {
    STEP.lastIndex = place;
    const found = STEP.exec(trimmed);
    if (!found) return null;
    const unit = found[2] as Unit;
    if (found[1] === "/") {
      at = floored(at, unit, zone);
      if (end) at = added(at, 1, unit, zone) - 1;
    } else at = added(at, Number(found[1]!.length > 1 ? found[1] : `${found[1]}1`), unit, zone);
    place = STEP.lastIndex;
  }
  return at;
}

function absolute(text: string, zone: string | undefined): number | null {
  const found = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?$/.exec(text);
  if (found) {
    const [y, mo, d, h = 0, mi = 0, s = 0] = found.slice(1).map((part) => Number(part ?? 0));
    return instant({ y: y!, mo: mo!, d: d!, h, mi, s }, zone);
  }
  const parsed = Date.parse(text);
  return /^\d{4}-/.test(text) && !Number.isNaN(parsed) ? parsed : null;
}

export interface Range {
  from: number;
  to: number;
}
/** Both ends; null when one is no time or they are the wrong way round. */
export function parseRange(from: string, to: string, now: number, zone?: string): Range | null {
  const begin = parseTime(from, now, zone);
  const end = parseTime(to, now, zone, true);
  return begin !== null && end !== null && begin < end ? { from: begin, to: Math.min(end, now) } : null;
}

/** Twice as wide around the same middle, not beyond now. */
export function zoomedOut(range: Range, now: number): Range {
  const width = range.to - range.from;
  const to = Math.min(now, range.to + width / 2);
  return { from: Math.round(to - 2 * width), to: Math.round(to) };
}

/** Half a width earlier or later, not beyond now. */
export function shifted(range: Range, direction: -1 | 1, now: number): Range {
  const width = range.to - range.from;
  const to = Math.min(now, range.to + (direction * width) / 2);
  return { from: Math.round(to - width), to: Math.round(to) };
}

/** How often a range that ends now is worth computing again. */
export function refreshMs(width: number): number {
  if (width <= 900_000) return 10_000;
  if (width <= 3_600_000) return 20_000;
  return width <= 6 * 3_600_000 ? 60_000 : 180_000;
}

export const QUICK: readonly [string, string, string][] = [
  ["now-15m", "now", "Last 15 minutes"],
  ["now-1h", "now", "Last hour"],
  ["now-3h", "now", "Last 3 hours"],
  ["now-6h", "now", "Last 6 hours"],
  ["now-24h", "now", "Last 24 hours"],
  ["now-7d", "now", "Last 7 days"],
  ["now/d", "now", "Today so far"],
  ["now-1d/d", "now-1d/d", "Yesterday"],
  ["now-7d/d", "now-7d/d", "This day last week"],
];
