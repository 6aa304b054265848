/** Decides from ages alone whether what is on the screen may still be called live. Pure: the caller brings the clock. */

export type Link = "connecting" | "live" | "stale" | "offline";

/** Two missed ticks and a little for the network. */
export function staleAfterMs(intervalMs: number): number {
  return intervalMs * 2 + Math.min(1000, intervalMs / 2);
}

export interface LinkFacts {
  /** Since the last tick arrived, by a monotonic clock; null before the first. */
  ageMs: number | null;
  /** Since the connection was asked for. */
  connectingMs: number;
  intervalMs: number;
  open: boolean;
}

export function linkState(facts: LinkFacts): Link {
  const limit = staleAfterMs(facts.intervalMs);
  if (facts.ageMs === null) return facts.connectingMs > limit ? "offline" : "connecting";
  if (facts.ageMs <= limit) return "live";
  return facts.open ? "stale" : "offline";
}

/** A stream that says nothing for this long is opened anew: a dead TCP connection reports no error. */
export function shouldReopen(facts: LinkFacts, sinceOpenMs: number): boolean {
  const limit = staleAfterMs(facts.intervalMs) + facts.intervalMs;
  return (facts.ageMs === null || facts.ageMs > limit) && sinceOpenMs > limit;
}

/** Waits between attempts: quick at first, never longer than ten seconds, spread so that a wall of screens does not knock at once. */
export function backoffMs(attempt: number, random: number): number {
  const base = Math.min(10_000, 500 * 2 ** Math.min(attempt, 5));
  return base * (0.75 + random * 0.5);
}
