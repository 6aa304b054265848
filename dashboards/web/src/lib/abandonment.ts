/** Sums of cohorts, and how they differ from those of another time. Matured cohorts count; others only where there are none, and marked. */
import { ms } from "./time";
import type { Nullable, Series, When } from "./types";

export interface Cohort {
  at: When;
  started: number;
  completed: number;
  abandoned: number;
  rate: Nullable;
  provisional: boolean;
}
export interface Abandonment {
  matured_until: When | null;
  timeout_seconds: number;
  series: { labels: Record<string, string>; points: Cohort[] }[];
}
export interface Sum {
  name: string;
  points: Cohort[];
  started: number;
  completed: number;
  abandoned: number;
  rate: Nullable;
  /** No cohort has matured yet: late purchases may still lower the rate. */
  provisional: boolean;
}

export const nameOf = (labels: Record<string, string>) =>
  Object.values(labels).join(" ").replaceAll("_", " ") || "all checkouts";

export function sums(answer: Abandonment | undefined): Sum[] {
  return (answer?.series ?? []).map(({ labels, points }) => {
    const mature = points.filter((p) => !p.provisional);
    const provisional = !mature.some((p) => p.started) && points.some((p) => p.started);
    const counted = provisional ? points : mature;
    const total = (key: "started" | "completed" | "abandoned") => counted.reduce((n, p) => n + p[key], 0);
    const started = total("started");
    const abandoned = total("abandoned");
    return {
      name: nameOf(labels),
      points,
      started,
      abandoned,
      completed: total("completed"),
      rate: started ? abandoned / started : null,
      provisional,
    };
  });
}

/** The rates of one segment then, by name; null where nothing matured or the segment was not there. */
export function ratesThen(answer: Abandonment | undefined): Map<string, Nullable> {
  return new Map(sums(answer).map((sum) => [sum.name, sum.provisional ? null : sum.rate]));
}

/** Lines over one grid of times, for a chart: what is final, or where nothing is, what there is. */
export function lines(all: readonly Sum[], limit = 6): { t: number[]; series: Series[] } {
  const shown = all.slice(0, limit);
  const times = new Set(shown.flatMap((s) => s.points.map((p) => ms(p.at) ?? 0)));
  const t = [...times].sort((a, b) => a - b);
  const series = shown.map((s) => {
    const final = s.points.filter((p) => s.provisional || !p.provisional);
    const at = new Map(final.map((p) => [ms(p.at), p.rate]));
    return { name: s.name, values: t.map((time) => at.get(time) ?? null) };
  });
  return { t, series };
}

/** The line of another time laid over this one, `shiftMs` later, on this one's grid of times. A cohort may begin up to `slackMs` beside: days do, across a change of the clocks. */
export function overlaid(
  t: readonly number[],
  then: Abandonment | undefined,
  shiftMs: number,
  name: string,
  slackMs = 0,
): Series | null {
  const [one] = sums(then);
  if (!one || one.provisional) return null;
  const points = one.points.filter((p) => !p.provisional);
  const values = t.map((time) => {
    const near = points.find((p) => Math.abs((ms(p.at) ?? 0) + shiftMs - time) <= slackMs);
    return near?.rate ?? null;
  });
  return values.some((value) => value !== null) ? { name, values } : null;
}

/** What each cohort counted, as columns over one grid of times, for a file. */
export function columns(all: readonly Sum[]): { t: number[]; series: Series[] } {
  const t = lines(all, all.length).t;
  const keys = ["started", "completed", "abandoned", "rate", "provisional"] as const;
  const series = all.flatMap((s) => {
    const at = new Map(s.points.map((p) => [ms(p.at), p]));
    return keys.map((key) => ({
      name: `${s.name}: ${key}`,
      values: t.map((time) => {
        const value = at.get(time)?.[key] ?? null;
        return typeof value === "boolean" ? Number(value) : value;
      }),
    }));
  });
  return { t, series };
}
