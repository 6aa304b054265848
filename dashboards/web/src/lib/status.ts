/** Every state has a shape, a word and a colour; the colour never stands alone, and no data is never green. */
import type { DataState, PanelBase, Slo, Source, Status } from "./types";

export type Mark = "ok" | "warn" | "crit" | "none" | "muted" | "info";
export interface Judged {
  mark: Mark;
  word: string;
}

const STATUS: Record<Status, Judged> = {
  ok: { mark: "ok", word: "OK" },
  warn: { mark: "warn", word: "Warning" },
  crit: { mark: "crit", word: "Critical" },
  unknown: { mark: "none", word: "Not judged" },
};
const DATA: Record<Exclude<DataState, "ok">, Judged> = {
  no_data: { mark: "none", word: "No data" },
  stale: { mark: "warn", word: "Stale" },
  error: { mark: "crit", word: "Error" },
};

/** A panel's state first, its status only when the data may be trusted. */
export function judge(panel: PanelBase & { status?: Status }): Judged {
  if (panel.state !== "ok") return DATA[panel.state] ?? DATA.no_data;
  return STATUS[panel.status ?? "unknown"] ?? STATUS.unknown;
}
export function judgeStatus(status: Status | undefined): Judged {
  return STATUS[status ?? "unknown"] ?? STATUS.unknown;
}

const SLO: Record<Slo["state"], Judged> = {
  ok: { mark: "ok", word: "OK" },
  burning: { mark: "warn", word: "Burning" },
  exhausted: { mark: "crit", word: "Exhausted" },
  no_data: { mark: "none", word: "No data" },
};
/** A burn that pages is critical, whatever is left of the budget. */
export function judgeSlo(slo: Pick<Slo, "state" | "tiers">): Judged {
  const paging = slo.tiers?.some((tier) => tier.firing && tier.severity === "page");
  if (slo.state === "burning" && paging) return { mark: "crit", word: "Burning fast" };
  return SLO[slo.state] ?? SLO.no_data;
}

const SOURCE: Record<Source["state"], Judged> = {
  ok: { mark: "ok", word: "Fresh" },
  late: { mark: "warn", word: "Late" },
  silent: { mark: "none", word: "Silent" },
  error: { mark: "crit", word: "Error" },
  shedding: { mark: "warn", word: "Shedding" },
};
export function judgeSource(state: string): Judged {
  return SOURCE[state as Source["state"]] ?? { mark: "none", word: state };
}

const SEVERE = new Set(["critical", "page", "p0", "crit", "fatal"]);
const MILD = new Set(["warning", "ticket", "p1", "warn", "error"]);
export function judgeAlert(alert: { severity: string; state: string; silenced?: boolean }): Judged {
  if (alert.silenced) return { mark: "muted", word: "Silenced" };
  if (alert.state === "resolved" || alert.state === "inactive") return { mark: "ok", word: "Resolved" };
  const severity = alert.severity.toLowerCase();
  const mark = SEVERE.has(severity) ? "crit" : MILD.has(severity) ? "warn" : "info";
  const name = mark === "crit" ? "Critical" : mark === "warn" ? "Warning" : "Info";
  return alert.state === "pending" ? { mark, word: `${name}, pending` } : { mark, word: name };
}

export function judgePriority(priority: string, status: string, active = true): Judged {
  if (status === "suppressed") return { mark: "muted", word: "Suppressed" };
  if (status === "fixed") return { mark: "ok", word: "Fixed" };
  if (!active) return { mark: "muted", word: `${priority}, ended` };
  return { mark: priority === "P0" ? "crit" : priority === "P1" ? "warn" : "info", word: priority };
}

export function judgeIncident(incident: { state: string; severity: string }): Judged {
  if (incident.state === "resolved") return { mark: "ok", word: "Resolved" };
  const { mark } = judgeAlert({ severity: incident.severity, state: "firing" });
  return { mark, word: incident.state === "acknowledged" ? "Acknowledged" : "Open" };
}

const RANK: Record<Mark, number> = { crit: 5, warn: 4, none: 3, info: 2, muted: 1, ok: 0 };
export function worst(marks: readonly Mark[]): Mark {
  return marks.reduce<Mark>((a, b) => (RANK[b] > RANK[a] ? b : a), "ok");
}

/** Below, inside or above the expected band, in words. */
export function bandWord(
  value: number | null | undefined,
  band: { low: number | null; high: number | null } | null | undefined,
): string {
  if (typeof value !== "number" || !band) return "";
  if (typeof band.low === "number" && value < band.low) return "below expected";
  if (typeof band.high === "number" && value > band.high) return "above expected";
  return typeof band.low === "number" || typeof band.high === "number" ? "as expected" : "";
}
