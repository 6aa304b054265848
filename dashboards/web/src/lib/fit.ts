/** How much a board is enlarged so that it fills a screen which nobody scrolls: found by trying, a few layouts each time. */

export interface Fitted {
  /** Enlarges what is measured; the layout follows at once. */
  apply: (zoom: number) => void;
  /** Height of everything on the page at the zoom that was applied, in pixels of the screen. */
  height: () => number;
  /** Height of the screen. */
  room: () => number;
}
/** Below this nobody reads it; above it a board of few panels would be a poster. */
export const SMALLEST = 0.4;
export const LARGEST = 4;
const TRIES = 9;

/** The largest zoom at which all fits. Widths wrap, so heights jump: it narrows down from both ends and keeps what fitted. */
export function fit({ apply, height, room }: Fitted): number {
  let low = SMALLEST;
  let high = LARGEST;
  for (let turn = 0; turn < TRIES; turn++) {
    const zoom = Math.sqrt(low * high);
    apply(zoom);
    if (height() <= room()) low = zoom;
    else high = zoom;
  }
  apply(low);
  return low;
}

/** Whether to look again: it does not fit any more, or it became so much lower that it may grow. */
export function outgrown(height: number, fitted: number, room: number): boolean {
  return height > room + 1 || height < fitted * 0.97;
}
