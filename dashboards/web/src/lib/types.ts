/** Shapes of the live stream and of /api/warroom/v1. Times: `*_ms` are unix milliseconds, `at` may be either form. */

export type DataState = "ok" | "no_data" | "stale" | "error";
export type Status = "ok" | "warn" | "crit" | "unknown";
export type When = number | string;
export type Nullable = number | null;

export interface PanelSpec {
  id: string;
  kind: string;
  title: string;
  unit?: string;
  span?: number;
  options?: Record<string, unknown>;
}
export interface BoardSpec {
  name: string;
  title: string;
  rows: { title: string; panels: PanelSpec[] }[];
}
export interface PanelBase {
  state: DataState;
  as_of_ms?: Nullable;
  error?: string;
  remedy?: string;
  note?: string;
}
export interface Spark {
  t: number[];
  values: Nullable[];
}
export interface StatPanel extends PanelBase {
  value: Nullable;
  unit?: string;
  spark?: Spark | null;
  band?: { expected: Nullable; low: Nullable; high: Nullable } | null;
  delta_last_week?: Nullable;
  status?: Status;
  provisional?: boolean;
}
export interface Series {
  name: string;
  labels?: Record<string, string>;
  values: Nullable[];
}
export interface Band {
  expected: Nullable[];
  low: Nullable[];
  high: Nullable[];
}
export interface Annotation {
  at: When;
  kind: string;
  title: string;
}
export interface TimeseriesPanel extends PanelBase {
  t: number[];
  series: Series[];
  band?: Band | null;
  annotations?: Annotation[];
}
export interface Tier {
  severity: string;
  factor: number;
  long: string | number;
  short: string | number;
  firing: boolean;
}
export interface Slo {
  name: string;
  service: string;
  objective: number;
  window: string | number;
  sli: Nullable;
  error_budget_remaining: Nullable;
  burn_rates: Record<string, Nullable>;
  tiers: Tier[];
  state: "ok" | "burning" | "exhausted" | "no_data";
  exhausts_at?: When | null;
  description?: string;
  statement?: string;
  error?: string;
}
export interface ServiceSignals {
  service: string;
  rate: Nullable;
  error_ratio: Nullable;
  p50: Nullable;
  p95: Nullable;
  p99: Nullable;
  status: Status;
  spark?: { t: number[]; rate: Nullable[]; p95: Nullable[] } | null;
}
export interface Alert {
  fingerprint: string;
  name: string;
  severity: string;
  state: string;
  summary: string;
  cause?: string;
  since?: When | null;
  impact?: string;
  fix?: string;
  evidence_url?: string | null;
  incident_id?: string | null;
  acknowledged_by?: string | null;
  silenced?: boolean;
}
export interface Finding {
  id: string;
  fingerprint: string;
  kind: string;
  priority: "P0" | "P1" | "P2";
  status: "open" | "suppressed" | "fixed" | "regressed";
  title: string;
  /** False once it is not seen any more. */
  active?: boolean;
  service: string;
  route?: string | null;
  occurrences: number;
  first_seen: When;
  last_seen: When;
  evidence: {
    trace_id?: string | null;
    parent_span_id?: string | null;
    span_ids?: string[];
    statement?: string | null;
    repetitions?: Nullable;
    code?: { file?: string | null; line?: Nullable; function?: string | null; inferred?: boolean } | null;
    series?: unknown;
    window?: unknown;
  };
  impact?: {
    wasted_seconds_per_request?: Nullable;
    requests_per_second?: Nullable;
    wasted_hours_per_day?: Nullable;
    money_per_hour?: string | number | null;
    currency?: string;
  } | null;
  confidence: number;
  complete: boolean;
  fix: string;
}
export interface TimelineEvent {
  at: When;
  kind: string;
  title: string;
  ref?: string | null;
}
export interface Source {
  name: string;
  kind: string;
  state: "ok" | "late" | "silent" | "error" | "shedding";
  last_success_at?: When | null;
  delay_seconds?: Nullable;
  rate_per_second?: Nullable;
  dropped?: Record<string, number>;
  error?: string | null;
  remedy?: string | null;
}
export type AnyPanel = PanelBase & Record<string, unknown>;

export interface Snapshot {
  board: BoardSpec;
  tick: number;
  now_ms: number;
  interval_ms: number;
  range_ms: number;
  time_zone?: string;
  panels: Record<string, AnyPanel>;
}
export interface Append {
  t: number[];
  values: Nullable[][];
  band?: Partial<Band> | null;
}
export interface Delta {
  tick: number;
  now_ms: number;
  panels: Record<string, Record<string, unknown>>;
}
