/** A Jaeger trace as rows of a waterfall, with repeated sibling spans folded into one row. */

export interface JaegerTag {
  key: string;
  value: unknown;
}
export interface JaegerSpan {
  traceID: string;
  spanID: string;
  operationName: string;
  references?: { refType: string; spanID: string }[];
  startTime: number;
  duration: number;
  tags?: JaegerTag[];
  logs?: { timestamp: number; fields: JaegerTag[] }[];
  processID: string;
}
export interface JaegerTrace {
  traceID: string;
  spans: JaegerSpan[];
  processes: Record<string, { serviceName: string }>;
}
export interface Row {
  key: string;
  depth: number;
  service: string;
  title: string;
  statement: string;
  /** Microseconds after the trace's start. */
  start: number;
  duration: number;
  error: boolean;
  /** How many spans this row stands for; over one it is a fold. */
  count: number;
  /** Where each of them lies, for drawing. */
  parts: { start: number; duration: number }[];
  /** Time that at least one of them was running. */
  union: number;
  span: JaegerSpan;
  open: boolean;
}
export interface Waterfall {
  rows: Row[];
  duration: number;
  spans: number;
  services: string[];
  hidden: number;
}

/** Repeats below this number are quicker read than unfolded. */
export const FOLD_FROM = 4;
/** More rows are not drawn; the page says how many are missing. */
export const MAX_ROWS = 1500;

const STATEMENT_KEYS = ["db.query.text", "db.statement"];

export function tag(span: JaegerSpan, ...keys: string[]): string {
  for (const key of keys) {
    const found = span.tags?.find((t) => t.key === key);
    if (found !== undefined && found.value !== null && found.value !== "") return String(found.value);
  }
  return "";
}

/** What stays the same when only keys and literals differ. */
export function shape(text: string): string {
  return text
    .replace(/'(?:[^']|'')*'/g, "?")
    .replace(/\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b/gi, "?")
    .replace(/%s|\$\d+|:[a-z_]\w*/gi, "?")
    .replace(/\b\d+(?:\.\d+)?\b/g, "?")
    .replace(/\(\s*\?(?:\s*,\s*\?)*\s*\)/g, "(?)")
    .replace(/\s+/g, " ")
    .trim();
}

function failed(span: JaegerSpan): boolean {
  return tag(span, "error") === "true" || tag(span, "otel.status_code") === "ERROR";
}

/** Time covered by at least one part. */
export function union(parts: readonly { start: number; duration: number }[]): number {
  let covered = 0;
  let end = -Infinity;
  for (const part of [...parts].sort((a, b) => a.start - b.start)) {
    const stop = part.start + part.duration;
    covered += Math.max(0, stop - Math.max(part.start, end));
    end = Math.max(end, stop);
  }
  return covered;
}

interface Tree {
  roots: JaegerSpan[];
  children: Map<string, JaegerSpan[]>;
}

function tree(spans: readonly JaegerSpan[]): Tree {
  const byId = new Map(spans.map((s) => [s.spanID, s]));
  const children = new Map<string, JaegerSpan[]>();
  const roots: JaegerSpan[] = [];
  for (const span of [...byId.values()].sort((a, b) => a.startTime - b.startTime)) {
    const parent = span.references?.find((r) => r.refType === "CHILD_OF")?.spanID;
    if (!parent || parent === span.spanID || !byId.has(parent)) roots.push(span);
    else children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  return { roots, children };
}

function groups(siblings: readonly JaegerSpan[], keyOf: (s: JaegerSpan) => string): JaegerSpan[][] {
  const found = new Map<string, JaegerSpan[]>();
  for (const span of siblings) {
    const key = keyOf(span);
    const group = found.get(key);
    if (group) group.push(span);
    else found.set(key, [span]);
  }
  return [...found.values()].flatMap((g) => (g.length >= FOLD_FROM ? [g] : g.map((s) => [s])));
}

/** Rows to draw. `opened` holds the keys of folds that the reader opened. */
export function waterfall(trace: JaegerTrace, opened: ReadonlySet<string>): Waterfall {
  const { roots, children } = tree(trace.spans);
  const begin = Math.min(...trace.spans.map((s) => s.startTime));
  const end = Math.max(...trace.spans.map((s) => s.startTime + s.duration));
  const rows: Row[] = [];
  let hidden = 0;
  const serviceOf = (s: JaegerSpan) => trace.processes[s.processID]?.serviceName ?? "unknown service";
  const statementOf = (s: JaegerSpan) => tag(s, ...STATEMENT_KEYS);
  const keyOf = (s: JaegerSpan) => `${serviceOf(s)}\n${shape(statementOf(s) || s.operationName)}`;

  function row(spans: JaegerSpan[], depth: number, key: string, open: boolean): Row {
    const span = spans[0]!;
    const parts = spans.map((s) => ({ start: s.startTime - begin, duration: s.duration }));
    const start = Math.min(...parts.map((p) => p.start));
    return {
      key,
      depth,
      service: serviceOf(span),
      title: span.operationName,
      statement: spans.length > 1 ? shape(statementOf(span)) : statementOf(span),
      start,
      duration: Math.max(...parts.map((p) => p.start + p.duration)) - start,
      error: spans.some(failed),
      count: spans.length,
      parts,
      union: union(parts),
      span,
      open,
    };
  }
  // An explicit stack: a trace may nest deeper than the language allows calls.
  const stack: { spans: JaegerSpan[]; depth: number; alone: boolean }[] = [];
  const visit = (siblings: readonly JaegerSpan[], depth: number) => {
    for (const spans of groups(siblings, keyOf).reverse()) stack.push({ spans, depth, alone: false });
  };
  visit(roots, 0);
  const seen = new Set<string>();
  while (stack.length) {
    const { spans, depth, alone } = stack.pop()!;
    if (rows.length >= MAX_ROWS) {
      hidden += spans.length;
      continue;
    }
    const first = spans[0]!;
    if (spans.length === 1) {
      if (seen.has(first.spanID)) continue;
      seen.add(first.spanID);
      rows.push(row(spans, depth, first.spanID, false));
      visit(children.get(first.spanID) ?? [], depth + 1);
      continue;
    }
    const key = `fold ${first.spanID}`;
    const open = opened.has(key);
    if (!alone) rows.push(row(spans, depth, key, open));
    if (open)
      for (const span of [...spans].reverse()) stack.push({ spans: [span], depth: depth + 1, alone: true });
  }
  return {
    rows,
    duration: Math.max(1, end - begin),
    spans: trace.spans.length,
    services: [...new Set(trace.spans.map(serviceOf))],
    hidden,
  };
}
