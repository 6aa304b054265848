/** Keyboard shortcuts: pairs of keys, `?` for help. They can be turned off (WCAG 2.1.4). */
import { go, place } from "./router.svelte";
import { view } from "./view.svelte";

export const help = $state({ open: false });

export const JUMPS: Record<string, { path: string; text: string }> = {
  w: { path: "/", text: "War room" },
  a: { path: "/alerts", text: "Alerts" },
  f: { path: "/findings", text: "Findings" },
  s: { path: "/slos", text: "SLOs" },
  b: { path: "/business", text: "Business" },
  e: { path: "/explore", text: "Explore" },
  d: { path: "/sources", text: "Sources (data)" },
};
const PAIR_MS = 1500;

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName))
  );
}

/** Listens until the returned function is called. */
export function listen(): () => void {
  let first = "";
  let at = 0;
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape" && view.tv && !help.open) view.tv = false;
    if (event.ctrlKey || event.metaKey || event.altKey || !view.shortcuts || typing(event.target)) return;
    const pair = event.timeStamp - at < PAIR_MS ? first : "";
    first = event.key;
    at = event.timeStamp;
    if (event.key === "?") help.open = !help.open;
    else if (pair === "g" && JUMPS[event.key]) go(JUMPS[event.key]!.path);
    else if (pair === "d" && event.key === "k" && place.page === "wall") view.tv = !view.tv;
    else return;
    event.preventDefault();
    first = "";
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}
