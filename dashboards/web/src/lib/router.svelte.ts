/** Paths of the pages. The server knows the same list and answers 404 to all others. */

export const PAGES = {
  wall: "/",
  boards: "/boards",
  board: "/boards/:id",
  incidents: "/incidents",
  incident: "/incidents/:id",
  slos: "/slos",
  alerts: "/alerts",
  alert: "/alerts/:id",
  findings: "/findings",
  finding: "/findings/:id",
  business: "/business",
  traces: "/traces",
  trace: "/traces/:id",
  map: "/service-map",
  explore: "/explore",
  sources: "/sources",
  readiness: "/readiness",
} as const;
export type Page = keyof typeof PAGES;
export interface Place {
  page: Page | "missing";
  id: string;
}

/** Which page a path is. */
export function match(pathname: string): Place {
  const path = pathname.length > 1 ? pathname.replace(/\/$/, "") : pathname;
  for (const [page, pattern] of Object.entries(PAGES) as [Page, string][]) {
    if (pattern === path) return { page, id: "" };
    if (!pattern.endsWith("/:id")) continue;
    const prefix = pattern.slice(0, -3);
    const rest = path.slice(prefix.length);
    if (path.startsWith(prefix) && rest && !rest.includes("/")) return { page, id: decoded(rest) };
  }
  return { page: "missing", id: "" };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const place = $state({ ...match(location.pathname), search: location.search });

function read(): void {
  Object.assign(place, match(location.pathname), { search: location.search });
}

/** View settings that stay when another page is opened. */
const KEPT = ["tv", "tz", "theme", "board", "playlist", "every", "from", "to"];
/** Of those, what only the wall's own address carries. */
const OF_THE_WALL = new Set(["board", "playlist", "every"]);
/** Pages that show a range of time. */
const RANGED = ["/", "/traces", "/service-map", "/explore"];
const carries = (key: string, base: string) =>
  OF_THE_WALL.has(key) ? base === "/" : key === "from" || key === "to" ? RANGED.includes(base) : true;

/** The address of a page with the view's settings carried over. */
export function href(path: string): string {
  const [base = "/", query = ""] = path.split("?");
  const next = new URLSearchParams(query);
  const now = new URLSearchParams(place.search);
  for (const key of KEPT) {
    const value = now.get(key);
    if (value !== null && !next.has(key) && carries(key, base)) next.set(key, value);
  }
  const text = next.toString();
  return text ? `${base}?${text}` : base;
}

export function go(path: string): void {
  history.pushState(null, "", href(path));
  read();
  scrollTo(0, 0);
  document.getElementById("main")?.focus({ preventScroll: true });
}

export function param(name: string): string | null {
  return new URLSearchParams(place.search).get(name);
}

/**
 * Changes the view in the address, so that a copied link shows the same. What a person chose is a
 * step that Back undoes; what the page writes down by itself is none (`step` false).
 */
export function setParam(name: string, value: string | null, step = true): void {
  setParams({ [name]: value }, step);
}
export function setParams(changes: Record<string, string | null>, step = true): void {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes))
    if (value === null || value === "") next.delete(name);
    else next.set(name, value);
  const text = next.toString();
  const search = text ? `?${text}` : "";
  if (search === location.search) return;
  if (step) history.pushState(null, "", location.pathname + search);
  else history.replaceState(null, "", location.pathname + search);
  read();
}

/** Follows links inside the site without a reload; all other clicks stay the browser's. */
export function intercept(event: MouseEvent): void {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href, location.href);
  if (url.origin !== location.origin || match(url.pathname).page === "missing") return;
  event.preventDefault();
  go(url.pathname + url.search);
}

export function start(): () => void {
  addEventListener("popstate", read);
  document.addEventListener("click", intercept);
  return () => {
    removeEventListener("popstate", read);
    document.removeEventListener("click", intercept);
  };
}
