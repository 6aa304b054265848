/** Alertmanager's alert (labels and annotations) and the live stream's flat alert as one shape. */
import type { Alert, When } from "./types";

export interface RawAlert extends Partial<Omit<Alert, "silenced">> {
  fingerprint: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  status?: { state?: string; silencedBy?: string[]; inhibitedBy?: string[] };
  startsAt?: When;
  endsAt?: When;
  generatorURL?: string;
  silenced?: boolean;
}

export function normalised(raw: RawAlert): Alert & { labels: Record<string, string> } {
  const labels = raw.labels ?? {};
  const notes = raw.annotations ?? {};
  const silenced = raw.silenced ?? Boolean(raw.status?.silencedBy?.length);
  return {
    fingerprint: raw.fingerprint,
    name: raw.name ?? labels.alertname ?? raw.fingerprint,
    severity: raw.severity ?? labels.severity ?? "info",
    state: raw.state ?? (raw.status?.state === "active" ? "firing" : (raw.status?.state ?? "firing")),
    summary: raw.summary ?? notes.summary ?? notes.description ?? "",
    cause: raw.cause ?? notes.cause ?? "",
    since: raw.since ?? raw.startsAt ?? null,
    impact: raw.impact ?? notes.impact ?? "",
    fix: raw.fix ?? notes.fix ?? notes.suggested_fix ?? "",
    evidence_url: safeLink(raw.evidence_url ?? notes.evidence_url ?? notes.evidence ?? raw.generatorURL),
    incident_id: raw.incident_id ?? null,
    acknowledged_by: raw.acknowledged_by ?? null,
    silenced,
    labels,
  };
}

/** Telemetry may carry any text: only a web address or a path of ours becomes a link. */
export function safeLink(text: string | null | undefined): string | null {
  if (!text) return null;
  // A browser drops control characters and reads a backslash as a slash.
  if (/\p{Cc}/u.test(text)) return null;
  if (/^\/(?![/\\])/.test(text)) return text;
  return /^https?:\/\//i.test(text) ? text : null;
}
