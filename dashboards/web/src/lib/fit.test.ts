// @vitest-environment node
import { describe, expect, it } from "vitest";
import { fit, LARGEST, outgrown, SMALLEST } from "./fit";

/** A board whose height at a zoom is told by a function, as wrapping tells it. */
function screen(height: (zoom: number) => number, room: number) {
  let zoom = 1;
  return {
    apply: (wanted: number) => (zoom = wanted),
    height: () => height(zoom),
    room: () => room,
  };
}

describe("a board that fills its screen", () => {
  it.each([
    ["grows on a wall of four times the pixels", 1100, 2160],
    ["shrinks on a small screen", 1400, 768],
  ])("%s", (_, natural, room) => {
    const zoom = fit(screen((z) => natural * z, room));
    expect(natural * zoom).toBeLessThanOrEqual(room);
    expect(natural * zoom).toBeGreaterThan(room * 0.97);
  });
  it("fits also where a line more makes the height jump", () => {
    const jumps = (z: number) => 900 * z + (z > 1.3 ? 600 : 0);
    const zoom = fit(screen(jumps, 1500));
    expect(jumps(zoom)).toBeLessThanOrEqual(1500);
    expect(zoom).toBeGreaterThan(1.2);
  });
  it("stays within what can be read", () => {
    expect(fit(screen(() => 1e6, 700))).toBe(SMALLEST);
    expect(fit(screen(() => 10, 700))).toBeLessThanOrEqual(LARGEST);
  });
  it("looks again when it does not fit or has room, not at every tick", () => {
    expect(outgrown(1081, 1070, 1080)).toBe(false);
    expect(outgrown(1090, 1070, 1080)).toBe(true);
    expect(outgrown(1060, 1070, 1080)).toBe(false);
    expect(outgrown(900, 1070, 1080)).toBe(true);
    expect(outgrown(500, Infinity, 1080)).toBe(true);
  });
});
