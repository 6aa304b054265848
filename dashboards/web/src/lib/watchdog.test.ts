import { describe, expect, it } from "vitest";
import { backoffMs, linkState, shouldReopen, staleAfterMs } from "./watchdog";

const facts = { ageMs: 0, connectingMs: 0, intervalMs: 5000, open: true };

describe("the watchdog", () => {
  it("calls data stale after two missed ticks, not before", () => {
    expect(staleAfterMs(5000)).toBe(11_000);
    expect(linkState({ ...facts, ageMs: 9_900 })).toBe("live");
    expect(linkState({ ...facts, ageMs: 11_001 })).toBe("stale");
  });

  it("tells a silent stream from a broken one", () => {
    expect(linkState({ ...facts, ageMs: 30_000, open: false })).toBe("offline");
    expect(linkState({ ...facts, ageMs: 3_000, open: false })).toBe("live");
  });

  it("gives a first connection time before it says offline", () => {
    expect(linkState({ ...facts, ageMs: null, connectingMs: 2_000 })).toBe("connecting");
    expect(linkState({ ...facts, ageMs: null, connectingMs: 20_000 })).toBe("offline");
  });

  it("opens a silent stream anew, but not again while the new one is young", () => {
    expect(shouldReopen({ ...facts, ageMs: 20_000 }, 20_000)).toBe(true);
    expect(shouldReopen({ ...facts, ageMs: 20_000 }, 1_000)).toBe(false);
    expect(shouldReopen({ ...facts, ageMs: 4_000 }, 99_000)).toBe(false);
  });

  it("waits longer after each failure, up to some seconds, and never all at once", () => {
    expect(backoffMs(0, 0.5)).toBe(500);
    expect(backoffMs(99, 1)).toBeLessThanOrEqual(12_500);
    expect(backoffMs(3, 0)).not.toBe(backoffMs(3, 1));
  });
});
