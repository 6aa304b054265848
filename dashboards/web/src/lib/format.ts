/** Numbers as people read them. Nothing here invents a figure: what is unknown is an en dash. */

export const UNKNOWN = "–";
type Num = number | null | undefined;

const plain = (digits: number) =>
  new Intl.NumberFormat("en-GB", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
const CACHE = [plain(0), plain(1), plain(2), plain(3)];
const fixed = (digits: number) =>
  new Intl.NumberFormat("en-GB", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const FIXED = [fixed(0), fixed(1), fixed(2), fixed(3)];

function known(value: Num): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** The sign as typography knows it. */
function minus(text: string): string {
  return text.replace(/^-/, "\u2212");
}

/** Three significant figures or so, SI letters from ten thousand on: 0.42, 3.1, 128, 9,870, 12.4k, 3.2M. */
export function number(value: Num): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 1e9) return minus(`${CACHE[1]!.format(value / 1e9)}G`);
  if (size >= 1e6) return minus(`${CACHE[1]!.format(value / 1e6)}M`);
  if (size >= 1e4) return minus(`${CACHE[1]!.format(value / 1e3)}k`);
  if (size >= 100 || Number.isInteger(value)) return minus(CACHE[0]!.format(value));
  if (size >= 10) return minus(CACHE[1]!.format(value));
  return minus(CACHE[size >= 0.1 ? 2 : 3]!.format(value));
}

/** A ratio as a percentage; more digits close to 1, where SLOs live. Never rounds 99.996 % up to 100 %. */
export function percent(ratio: Num): string {
  if (!known(ratio)) return UNKNOWN;
  const p = ratio * 100;
  const rest = Math.abs(100 - p);
  const digits = rest > 0 && rest < 0.1 ? 3 : (rest > 0 && rest < 1) || (p > 0 && p < 1) ? 2 : 1;
  const step = 10 ** digits;
  const shown = p < 100 && Math.round(p * step) / step >= 100 ? Math.floor(p * step) / step : p;
  return `${minus(p === 0 || p === 100 ? CACHE[0]!.format(p) : FIXED[digits]!.format(shown))} %`;
}

/** A target as it was written: 99.9 %, not 99.900 %. */
export function objective(ratio: Num): string {
  return known(ratio) ? `${CACHE[3]!.format(ratio * 100)} %` : UNKNOWN;
}

/** How far two ratios are apart, in percentage points: a percentage of a percentage misleads. */
export function points(now: Num, then: Num): string {
  if (!known(now) || !known(then)) return UNKNOWN;
  const difference = (now - then) * 100;
  return `${signed(difference, 1)} pp`;
}

function signed(value: number, digits: number): string {
  const text = FIXED[digits]!.format(Math.abs(value));
  const zero = Number(text.replace(/,/g, "")) === 0;
  return zero ? `±${text}` : `${value > 0 ? "+" : "\u2212"}${text}`;
}

/** A relative change: 0.12 is "+12 %". */
export function relative(change: Num): string {
  if (!known(change)) return UNKNOWN;
  const p = change * 100;
  return `${signed(p, Math.abs(p) < 10 ? 1 : 0)} %`;
}

/** Change against last week: of a ratio the difference, shown in percentage points; of all else relative. */
export function lastWeek(unit: string, change: Num): string {
  if (!known(change)) return UNKNOWN;
  return unit === "ratio" ? points(change, 0) : relative(change);
}

/** Money by ISO code: whole units from a hundred on, and of nothing. */
export function money(amount: Num | string, currency: string): string {
  const value = typeof amount === "string" ? Number(amount) : amount;
  if (!known(value) || amount === "") return UNKNOWN;
  const digits = Math.abs(value) >= 100 || value === 0 ? 0 : 2;
  try {
    return minus(
      new Intl.NumberFormat("en-US", {
        style: "currency",
        currency,
        notation: Math.abs(value) >= 1e6 ? "compact" : "standard",
        maximumFractionDigits: Math.abs(value) >= 1e6 ? 2 : digits,
        minimumFractionDigits: Math.abs(value) >= 1e6 ? 0 : digits,
      }).format(value),
    );
  } catch {
    return `${number(value)} ${currency}`;
  }
}

/** Seconds in the unit that suits them: 850 µs, 12 ms, 1.24 s, 3 min 05 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds: Num): string {
  if (!known(seconds)) return UNKNOWN;
  const s = Math.abs(seconds);
  const sign = seconds < 0 ? "\u2212" : "";
  if (s === 0) return "0 s";
  if (s < 1e-3) return `${sign}${Math.round(s * 1e6)} µs`;
  if (s < 0.9995) return `${sign}${s < 0.01 ? CACHE[1]!.format(s * 1e3) : Math.round(s * 1e3)} ms`;
  if (s < 10) return `${sign}${CACHE[2]!.format(s)} s`;
  if (s < 59.5) return `${sign}${Math.round(s)} s`;
  const whole = Math.round(s);
  const pair = (big: number, bigUnit: string, small: number, smallUnit: string) =>
    `${sign}${big} ${bigUnit}${small ? ` ${small} ${smallUnit}` : ""}`;
  if (whole < 3600) return pair(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return pair(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(s / 3600);
  return pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** A window as people write it: 2592000s is 30d, 3600s is 1h; what is written otherwise stays. */
export function windowText(window: string | number): string {
  const seconds = typeof window === "number" ? window : Number(/^(\d+)s$/.exec(window)?.[1] ?? NaN);
  if (!Number.isFinite(seconds)) return String(window);
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3600],
    ["m", 60],
  ] as const)
    if (seconds >= size && seconds % size === 0) return `${seconds / size}${unit}`;
  return `${seconds}s`;
}

/** One step coarser: what "since" and "ago" need. */
export function age(seconds: Num): string {
  if (!known(seconds)) return UNKNOWN;
  const s = Math.max(0, seconds);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) {
    const minutes = Math.floor((s % 3600) / 60);
    return `${Math.floor(s / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
  }
  return `${Math.floor(s / 86_400)} d`;
}

export function bytes(value: Num): string {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = Math.abs(value);
  let step = 0;
  while (size >= 1024 && step < units.length - 1) {
    size /= 1024;
    step++;
  }
  return `${value < 0 ? "\u2212" : ""}${CACHE[step && size < 100 ? 1 : 0]!.format(size)} ${units[step]}`;
}

const MONEY_UNIT = /^([A-Z]{3})(\/.+)?$/;

/** A figure and its unit apart, so that the unit may be set smaller. */
export function figure(value: Num, unit = ""): { text: string; unit: string } {
  if (!known(value)) return { text: UNKNOWN, unit: "" };
  if (unit === "ratio") return { text: percent(value).replace(" %", ""), unit: "%" };
  if (unit === "s") {
    const [text = "", ...rest] = duration(value).split(" ");
    return { text, unit: rest.join(" ") };
  }
  if (unit === "bytes") {
    const [text = "", ...rest] = bytes(value).split(" ");
    return { text, unit: rest.join(" ") };
  }
  const currency = MONEY_UNIT.exec(unit);
  if (currency) return { text: money(value, currency[1]!), unit: currency[2]?.replace("/", "/ ") ?? "" };
  return { text: number(value), unit: unit.replace("/", " / ") };
}

export function withUnit(value: Num, unit = ""): string {
  const shown = figure(value, unit);
  return shown.unit ? `${shown.text} ${shown.unit}` : shown.text;
}

/** Decimals that a step is written with, three at most: 2.5 has one. */
function digitsOf(step: number): number {
  const whole = [0, 1, 2].find(
    (digits) => Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) < 1e-6,
  );
  return whole ?? 3;
}

/** For chart axes: short; shares `step` apart are told exactly. */
export function axis(value: Num, unit = "", step = 0): string {
  if (!known(value)) return "";
  if (unit === "ratio") {
    const few = Math.abs(value) < 0.05 && value ? 1 : 0;
    const digits = step > 0 ? digitsOf(step * 100) : few;
    return minus(`${FIXED[digits]!.format(value * 100)} %`);
  }
  if (unit === "s") return value === 0 ? "0" : duration(value).replace(/ 0 (s|min)$/, "");
  if (unit === "bytes") return bytes(value);
  return number(value);
}

/** The end of a path, which is what a person looks for: `…/shop/shop/views.py`. */
export function pathEnd(path: string, parts = 3): string {
  const all = path.split("/").filter(Boolean);
  return all.length > parts ? `…/${all.slice(-parts).join("/")}` : path;
}
