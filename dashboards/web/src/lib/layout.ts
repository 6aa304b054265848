/** Places the nodes of a small directed graph in columns: callers left, callees right. */

export interface Placed {
  name: string;
  x: number;
  y: number;
}
export interface Layout {
  nodes: Map<string, Placed>;
  width: number;
  height: number;
}
export const COLUMN = 300;
export const ROW = 96;
export const BOX = { width: 150, height: 44 };

/** A line from box to box. One that skips columns or goes back dips to `floor`, below what lies between. */
export function line(a: Placed, b: Placed, floor: number): { path: string; x: number; y: number } {
  const [x1, y1] = [a.x + BOX.width, a.y + BOX.height / 2];
  const [x2, y2] = [b.x - 8, b.y + BOX.height / 2];
  const direct = Math.round((b.x - a.x) / COLUMN) === 1;
  const bend = Math.max(40, Math.abs(x2 - x1) / (direct ? 2 : 4));
  // The middle of a cubic curve: an eighth of each end, three eighths of each handle.
  const dip = (floor - (y1 + y2) / 8) / 0.75;
  const [h1, h2] = direct ? [y1, y2] : [dip, dip];
  const path = `M${x1},${y1} C${x1 + bend},${h1} ${x2 - bend},${h2} ${x2},${y2}`;
  return { path, x: (x1 + x2) / 2, y: (y1 + y2) / 8 + 0.375 * (h1 + h2) };
}

/** Cycles are cut where they would go back to a node that is being placed. */
function depths(
  names: readonly string[],
  edges: readonly { from: string; to: string }[],
): Map<string, number> {
  const depth = new Map(names.map((name) => [name, 0]));
  const out = new Map<string, string[]>();
  for (const edge of edges)
    if (edge.from !== edge.to) out.set(edge.from, [...(out.get(edge.from) ?? []), edge.to]);
  const called = new Set(edges.filter((e) => e.from !== e.to).map((e) => e.to));
  const roots = names.filter((name) => !called.has(name));
  const stack = (roots.length ? roots : names.slice(0, 1)).map((name) => ({ name, path: new Set([name]) }));
  let turns = 0;
  while (stack.length && turns++ < 20_000) {
    const { name, path } = stack.pop()!;
    for (const next of out.get(name) ?? []) {
      if (path.has(next) || depth.get(next)! > depth.get(name)!) continue;
      depth.set(next, depth.get(name)! + 1);
      stack.push({ name: next, path: new Set([...path, next]) });
    }
  }
  return depth;
}

export function layout(
  names: readonly string[],
  edges: readonly { from: string; to: string; calls: number }[],
): Layout {
  const depth = depths(names, edges);
  const columns: string[][] = [];
  for (const name of names) (columns[depth.get(name)!] ??= []).push(name);
  const nodes = new Map<string, Placed>();
  const tallest = Math.max(1, ...columns.map((column) => column?.length ?? 0));
  columns.forEach((column, x) => {
    // Near who calls it most, so that fewer lines cross.
    const wish = (name: string) => {
      const callers = edges.filter((e) => e.to === name && nodes.has(e.from));
      const main = callers.reduce((a, b) => (b.calls > (a?.calls ?? -1) ? b : a), callers[0]);
      return main ? nodes.get(main.from)!.y : 0;
    };
    const sorted = [...column].sort((a, b) => wish(a) - wish(b) || a.localeCompare(b));
    const top = ((tallest - sorted.length) * ROW) / 2;
    sorted.forEach((name, y) => nodes.set(name, { name, x: x * COLUMN, y: top + y * ROW }));
  });
  return { nodes, width: Math.max(0, columns.length - 1) * COLUMN + BOX.width, height: tallest * ROW };
}
