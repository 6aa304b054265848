import { expect, it } from "vitest";
import { COLUMN, layout } from "./layout";

const edge = (from: string, to: string, calls = 1) => ({ from, to, calls });

it("puts callees to the right of whoever calls them, at the longest way", () => {
  const drawn = layout(["a", "b", "c"], [edge("a", "b"), edge("a", "c"), edge("b", "c")]);
  expect([...drawn.nodes.values()].map((n) => [n.name, n.x / COLUMN])).toEqual([
    ["a", 0],
    ["b", 1],
    ["c", 2],
  ]);
});

it("ends where services call each other in a ring, or themselves", () => {
  const drawn = layout(["a", "b"], [edge("a", "b"), edge("b", "a"), edge("b", "b")]);
  expect(drawn.nodes.size).toBe(2);
  expect(layout([], []).nodes.size).toBe(0);
});

it("lays no two nodes on one place", () => {
  const names = Array.from({ length: 30 }, (_, i) => `s${i}`);
  const edges = names.slice(1).map((name, i) => edge(names[Math.floor(i / 3)]!, name));
  const places = [...layout(names, edges).nodes.values()].map((n) => `${n.x},${n.y}`);
  expect(new Set(places).size).toBe(30);
});
