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
  query?: string;
  queries?: { expr: string; name?: string }[];
  options?: Record<string, unknown>;
}
/** The PromQL of a panel. */
export const exprs = (spec: PanelSpec): string[] =>
  spec.query ? [spec.query] : (spec.queries ?? []).map((query) => query.expr);

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
  delta_last_sale?: Nullable;
  last_sale?: string;
  last_sale_at_ms?: Nullable;
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
export interface TablePanel extends PanelBase {
  unit?: string;
  columns: string[];
  values: string[];
  rows: { labels: string[]; values: Nullable[] }[];
  total: number;
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
  /** Of a replay: what is shown of it was last seen after the instant. */
  evidence_known_later?: boolean;
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
    window?: { from: When; to: When } | null;
    /** What the detector measured, by name; the unit is the end of the name. */
    detail?: Record<string, unknown> | null;
  };
  impact?: {
    wasted_seconds_per_request?: Nullable;
    requests_per_second?: Nullable;
    wasted_hours_per_day?: Nullable;
    requests_hit_per_hour?: Nullable;
    users_hit?: Nullable;
    /** The request that suffered most, and what a day of such requests would waste. */
    worst_request?: { repetitions: number; wasted_seconds: number; wasted_hours_per_day: Nullable } | null;
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
  alerts_active?: Nullable;
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
  alerts_active?: Nullable;
  panels: Record<string, Record<string, unknown>>;
}
export interface TraceLine {
  trace_id: string;
  service: string;
  operation: string;
  started_at: When;
  duration_seconds: number;
  spans: number;
  errors: number;
  services: { name: string; spans: number }[];
  complete: boolean;
}
export interface ServiceMap {
  nodes: { name: string; kind: "service" | "store" }[];
  edges: {
    from: string;
    to: string;
    calls: number;
    errors: number;
    error_ratio: number;
    p50_seconds: number;
    p95_seconds: number;
  }[];
  traces: number;
  cut: boolean;
}
export interface StageSlo {
  service: string;
  name: string;
  objective: number;
  error_ratio: Nullable;
  held: boolean | null;
}
export interface LoadTest {
  id: string;
  name: string;
  source: string;
  started_at: When;
  ended_at: When;
  target_multiple: Nullable;
  url?: string | null;
  requests_per_second: Nullable;
  error_ratio: Nullable;
  duration_seconds: { p95?: Nullable } | null;
  stages: {
    multiple: Nullable;
    from: When;
    to: When;
    requests_per_second: Nullable;
    p95_seconds: Nullable;
    slos: StageSlo[];
    held: boolean | null;
  }[];
  held_up_to: Nullable;
}
export interface ResourceHeadroom {
  kind: string;
  name: string;
  verdict: string;
  limit: number;
  used: Nullable;
  used_most: Nullable;
  capacity: Nullable;
  low: Nullable;
  high: Nullable;
  multiple: Nullable;
  far: boolean;
  mend: string;
}
export interface Readiness {
  target_multiple: number;
  ready: boolean;
  load_tests: LoadTest[];
  capacity: {
    method: string;
    throughput: { now: Nullable; usual_peak: Nullable; highest: Nullable };
    resources: ResourceHeadroom[];
    bottleneck: (ResourceHeadroom & { could_also_be: string[] }) | null;
  };
  checklist: { id: string; title: string; state: "ok" | "todo" | "unknown"; fact: string; mend: string }[];
}
export interface Incident {
  id: string;
  title: string;
  severity: string;
  state: string;
  started_at: When;
  detected_at: When;
  acknowledged_at: When | null;
  acknowledged_by: string;
  resolved_at: When | null;
  alerts: {
    fingerprint: string;
    name: string;
    labels: Record<string, string>;
    summary: string;
    fired_at: When;
    resolved_at: When | null;
  }[];
  probable_causes: { kind: string; ref: string; confidence: Nullable; why: string }[];
  revenue_at_risk: { amount: string; currency: string } | null;
  timeline: TimelineEvent[];
}
export interface Comparison {
  verdict: string;
  why: string;
  pivot: { at: When; reason: string; title: string };
  before: { from: When; to: When; requests: Nullable };
  after: { from: When; to: When; requests: Nullable };
  figures: {
    name: string;
    unit: string;
    before: Nullable;
    after: Nullable;
    change: Nullable;
    verdict: string;
    decides: boolean;
  }[];
}
