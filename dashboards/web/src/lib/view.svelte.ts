/** How this screen shows things: theme, time zone, TV mode. The address wins over what this browser remembers. */
import { live } from "./live.svelte";
import { param, setParam } from "./router.svelte";
import { zoneName, type ZoneChoice } from "./time";

export type ThemeChoice = "dark" | "light" | "system";
const media = matchMedia("(prefers-color-scheme: light)");

function remembered(key: string): string | null {
  try {
    return localStorage.getItem(`warroom.${key}`);
  } catch {
    return null; // storage may be forbidden in a kiosk
  }
}
function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`warroom.${key}`, value);
  } catch {
    // the choice then lasts as long as the page
  }
}
const oneOf = <T extends string>(allowed: readonly T[], ...values: (string | null)[]): T =>
  (values.find((v) => v !== null && (allowed as readonly string[]).includes(v)) as T | undefined) ??
  allowed[0]!;

const THEMES = ["dark", "light", "system"] as const;
const ZONES = ["store", "browser", "utc"] as const;

let systemLight = $state(media.matches);
media.addEventListener("change", () => (systemLight = media.matches));
let themeChoice = $state<ThemeChoice>(oneOf(THEMES, param("theme"), remembered("theme")));
let zoneChoice = $state<ZoneChoice>(oneOf(ZONES, param("tz"), remembered("tz")));
// What this browser remembers is part of what is seen: a copied address must say it too.
if (param("tz") === null && zoneChoice !== "store") setParam("tz", zoneChoice, false);
let shortcutsOn = $state(remembered("shortcuts") !== "off");

export const view = {
  get theme(): ThemeChoice {
    return themeChoice;
  },
  set theme(choice: ThemeChoice) {
    themeChoice = choice;
    remember("theme", choice);
    if (param("theme") !== null) setParam("theme", choice, false);
  },
  get dark(): boolean {
    return themeChoice === "dark" || (themeChoice === "system" && !systemLight);
  },
  get zoneChoice(): ZoneChoice {
    return zoneChoice;
  },
  set zoneChoice(choice: ZoneChoice) {
    zoneChoice = choice;
    remember("tz", choice);
    setParam("tz", choice, false); // a copied address shows the same times
  },
  /** undefined is the browser's own zone. */
  get zone(): string | undefined {
    return zoneName(zoneChoice, live.timeZone);
  },
  get tv(): boolean {
    return param("tv") === "1";
  },
  set tv(on: boolean) {
    setParam("tv", on ? "1" : null);
  },
  get shortcuts(): boolean {
    return shortcutsOn;
  },
  set shortcuts(on: boolean) {
    shortcutsOn = on;
    remember("shortcuts", on ? "on" : "off");
  },
};

/** How much TV mode enlarges the page; canvases are drawn that much finer. */
export const tv = $state({ zoom: 1 });

/** Now, by the server's clock: ticks bring it, the local clock only bridges the seconds between them. */
const local = $state({ now: performance.now(), atTick: performance.now(), tick: 0 });
export function keepTime(): () => void {
  const timer = setInterval(() => {
    local.now = performance.now();
    if (live.tick !== local.tick) {
      local.tick = live.tick;
      local.atTick = local.now - (live.ageMs ?? 0);
    }
  }, 1000);
  return () => clearInterval(timer);
}
export const now = {
  get ms(): number {
    return live.nowMs ? live.nowMs + Math.max(0, local.now - local.atTick) : Date.now();
  },
};
