/** The one stream of this tab. Pages read `live`; `follow()` says which board it should carry. */
import { isDelta, isSnapshot, mergeDelta, OutOfStep } from "./merge";
import type { AnyPanel, BoardSpec } from "./types";
import { backoffMs, linkState, shouldReopen, type Link } from "./watchdog";

interface Live {
  link: Link;
  board: BoardSpec | null;
  tick: number;
  /** The server's clock at the last tick. */
  nowMs: number;
  intervalMs: number;
  rangeMs: number;
  timeZone: string;
  ageMs: number | null;
  attempts: number;
  /** Alerts that nobody silenced, whatever the board shows; null where that is not known. */
  alertsActive: number | null;
  /** The server answers, and has no board of this name. */
  unknown: boolean;
}

export const live = $state<Live>({
  link: "connecting",
  board: null,
  tick: 0,
  nowMs: 0,
  intervalMs: 5000,
  rangeMs: 900_000,
  timeZone: "",
  ageMs: null,
  attempts: 0,
  alertsActive: null,
  unknown: false,
});

let panels = $state.raw<Record<string, AnyPanel>>({});

/** One panel's data as a given kind's shape; undefined until the first snapshot. */
export function panelOf<T>(id: string): T | undefined {
  return panels[id] as T | undefined;
}

let source: EventSource | null = null;
let wanted = "";
let lastTickAt: number | null = null;
let openedAt = 0;
let firstTriedAt = 0;
let retryTimer: ReturnType<typeof setTimeout> | undefined;
let watch: ReturnType<typeof setInterval> | undefined;

function accept(kind: "snapshot" | "delta", text: string): void {
  const data: unknown = JSON.parse(text);
  if (kind === "snapshot") {
    if (!isSnapshot(data)) throw new OutOfStep("not a snapshot");
    live.board = data.board;
    live.intervalMs = data.interval_ms || 5000;
    live.rangeMs = data.range_ms || 900_000;
    live.timeZone = data.time_zone ?? "";
    panels = data.panels;
    live.tick = data.tick;
    live.nowMs = data.now_ms;
  } else {
    if (!isDelta(data)) throw new OutOfStep("not a delta");
    panels = mergeDelta(panels, data, live.rangeMs);
    live.tick = data.tick;
    live.nowMs = data.now_ms;
  }
  if (data.alerts_active !== undefined) live.alertsActive = data.alerts_active;
  lastTickAt = performance.now();
  live.attempts = 0;
  live.unknown = false;
  judge();
}

function facts() {
  const now = performance.now();
  return {
    ageMs: lastTickAt === null ? null : now - lastTickAt,
    connectingMs: now - firstTriedAt,
    intervalMs: live.intervalMs,
    open: source?.readyState === EventSource.OPEN,
  };
}

function judge(): void {
  const now = facts();
  live.ageMs = now.ageMs;
  const next = linkState(now);
  if (live.link !== next) live.link = next;
}

function receive(kind: "snapshot" | "delta", from: EventSource) {
  return (event: Event) => {
    if (from !== source) return;
    try {
      accept(kind, (event as MessageEvent<string>).data);
    } catch (reason) {
      // A message that does not fit leaves the screen wrong: ask for a snapshot instead of guessing.
      if (!(reason instanceof OutOfStep || reason instanceof SyntaxError)) throw reason;
      retry();
    }
  };
}

function open(): void {
  clearTimeout(retryTimer);
  retryTimer = undefined;
  source?.close();
  openedAt = performance.now();
  const next = new EventSource(`/api/warroom/v1/live?board=${encodeURIComponent(wanted)}`);
  source = next;
  next.addEventListener("snapshot", receive("snapshot", next));
  next.addEventListener("delta", receive("delta", next));
  next.addEventListener("error", () => {
    // The browser reconnects by itself after a broken stream, but gives up after an HTTP error.
    if (next !== source || next.readyState !== EventSource.CLOSED) return;
    void ask(wanted);
    retry();
  });
}

/** A stream that is refused does not tell why. */
async function ask(board: string): Promise<void> {
  const answer = await fetch(`/api/warroom/v1/boards/${encodeURIComponent(board)}`).catch(() => null);
  if (board === wanted) live.unknown = answer?.status === 404;
}

function retry(): void {
  source?.close();
  if (retryTimer !== undefined) return;
  retryTimer = setTimeout(open, backoffMs(live.attempts++, Math.random()));
}

function tickWatch(): void {
  judge();
  if (retryTimer === undefined && shouldReopen(facts(), performance.now() - openedAt)) {
    live.attempts++;
    open();
  }
}

/** Carries another board over the tab's one stream. */
export function follow(board: string): void {
  if (board === wanted) return;
  wanted = board;
  live.board = null;
  panels = {};
  lastTickAt = null;
  firstTriedAt = performance.now();
  live.link = "connecting";
  live.attempts = 0;
  live.unknown = false;
  open();
  watch ??= setInterval(tickWatch, 500);
}

/** Ends the stream; used when the page goes away. */
export function stop(): void {
  clearInterval(watch);
  clearTimeout(retryTimer);
  watch = retryTimer = undefined;
  source?.close();
  source = null;
  wanted = "";
}
