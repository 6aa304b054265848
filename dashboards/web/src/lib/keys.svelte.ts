/** Keyboard shortcuts: pairs of keys, `?` for help. They can be turned off (WCAG 2.1.4). */
import { go, place } from "./router.svelte";
import { clearRange, shift, zoomOut } from "./range.svelte";
import { shown } from "./shown.svelte";
import { view } from "./view.svelte";

export const help = $state({ open: false });

export const JUMPS: Record<string, { path: string; text: string }> = {
  w: { path: "/", text: "War room" },
  a: { path: "/alerts", text: "Alerts" },
  f: { path: "/findings", text: "Findings" },
  s: { path: "/slos", text: "SLOs" },
  i: { path: "/incidents", text: "Incidents" },
  b: { path: "/business", text: "Business" },
  t: { path: "/traces", text: "Traces" },
  m: { path: "/service-map", text: "Service map" },
  e: { path: "/explore", text: "Explore" },
  d: { path: "/sources", text: "Sources (data)" },
  r: { path: "/readiness", text: "Readiness" },
  o: { path: "/boards", text: "Boards" },
};
const PAIR_MS = 1500;

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName))
  );
}

const RANGED = ["wall", "explore", "traces", "map"];
const ranged = (event: KeyboardEvent) =>
  view.shortcuts && RANGED.includes(place.page) && !typing(event.target);

/** Listens until the returned function is called. */
export function listen(): () => void {
  let first = "";
  let at = 0;
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape" && view.tv && !help.open) view.tv = false;
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.shiftKey && ranged(event)) {
      zoomOut(shown.rangeMs);
      event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !view.shortcuts || typing(event.target)) return;
    const pair = event.timeStamp - at < PAIR_MS ? first : "";
    first = event.key;
    at = event.timeStamp;
    if (event.key === "?") help.open = !help.open;
    else if (pair === "g" && JUMPS[event.key]) go(JUMPS[event.key]!.path);
    else if (pair === "d" && event.key === "k" && place.page === "wall") view.tv = !view.tv;
    else if (pair === "t" && event.key === "z") zoomOut(shown.rangeMs);
    else if (pair === "t" && event.key === "ArrowLeft") shift(-1, shown.rangeMs);
    else if (pair === "t" && event.key === "ArrowRight") shift(1, shown.rangeMs);
    else if (pair === "t" && event.key === "l") clearRange();
    else return;
    event.preventDefault();
    first = "";
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
