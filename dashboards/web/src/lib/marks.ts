/** What happened, drawn over a chart: a dashed line with a flag for each event. */
import type uPlot from "uplot";
import { ms } from "./time";
import type { Annotation } from "./types";

/** A colour of the theme, for a canvas. */
export const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function drawMarks(u: uPlot, annotations: readonly Annotation[], enlarged = 1): void {
  const px = devicePixelRatio * enlarged;
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = css("--muted");
  ctx.fillStyle = css("--muted");
  ctx.lineWidth = px;
  ctx.setLineDash([3 * px, 3 * px]);
  for (const note of annotations) {
    const at = ms(note.at);
    if (at === null || at < (u.scales.x?.min ?? 0) || at > (u.scales.x?.max ?? 0)) continue;
    const x = Math.round(u.valToPos(at, "x", true));
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x - 4 * px, bbox.top);
    ctx.lineTo(x + 4 * px, bbox.top);
    ctx.lineTo(x, bbox.top + 6 * px);
    ctx.fill();
  }
  ctx.restore();
}
