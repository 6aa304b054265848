/** Which events of the timeline are drawn over graphs: what people changed, not what followed from it. */
import type { Annotation, TimelineEvent } from "./types";

const DRAWN = new Set(["deploy", "flag", "promotion", "incident", "maintenance", "loadtest", "load_test"]);

export const drawn = (events: readonly TimelineEvent[] | undefined): Annotation[] =>
  (events ?? []).filter((event) => DRAWN.has(event.kind));
