/** What the board's panels draw: the live stream, or one snapshot that stands in for it (a look back, a preview). */
import { live, panelOf } from "./live.svelte";
import type { BoardSpec, Snapshot } from "./types";

let held = $state.raw<Snapshot | null>(null);

/** Draw this instead of the stream; null goes back to it. */
export function hold(snapshot: Snapshot | null): void {
  held = snapshot;
}

export const shown = {
  get live(): boolean {
    return held === null;
  },
  get board(): BoardSpec | null {
    return held ? held.board : live.board;
  },
  get nowMs(): number {
    return held ? held.now_ms : live.nowMs;
  },
  get rangeMs(): number {
    return held ? held.range_ms : live.rangeMs;
  },
};

export function shownPanel<T>(id: string): T | undefined {
  return held ? (held.panels[id] as T | undefined) : panelOf<T>(id);
}
