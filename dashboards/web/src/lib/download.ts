/** Files out of what is on the screen: CSV and PNG, made here, sent nowhere. */
import { withUnit } from "./format";
import { css } from "./marks";
import type { Nullable, Series } from "./types";

export function csv(t: readonly number[], series: readonly Series[]): string {
  const cell = (text: string) => {
    // A spreadsheet takes a leading sign for a formula, and names come from telemetry.
    const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const number = (value: Nullable | undefined) => (typeof value === "number" ? String(value) : "");
  const head = ["time", ...series.map((s) => cell(s.name))].join(",");
  const rows = t.map((at, i) =>
    [new Date(at).toISOString(), ...series.map((s) => number(s.values[i]))].join(","),
  );
  return [head, ...rows].join("\r\n") + "\r\n";
}

export function save(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const fileName = (label: string) =>
  label
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "") || "chart";

/** The chart with its title and its newest values, on the theme's ground. */
export async function png(
  drawn: HTMLCanvasElement,
  label: string,
  lines: readonly { name: string; value: Nullable | undefined; colour: string }[],
  unit: string,
): Promise<Blob | null> {
  const scale = devicePixelRatio;
  const legend = lines.slice(0, 12);
  const out = document.createElement("canvas");
  out.width = drawn.width + 32 * scale;
  out.height = drawn.height + (44 + legend.length * 18) * scale;
  const context = out.getContext("2d");
  if (!context) return null;
  context.fillStyle = css("--panel");
  context.fillRect(0, 0, out.width, out.height);
  context.fillStyle = css("--fg");
  context.font = `600 ${14 * scale}px ${css("--sans")}`;
  context.fillText(label, 16 * scale, 22 * scale);
  context.drawImage(drawn, 16 * scale, 32 * scale);
  context.font = `${12 * scale}px ${css("--sans")}`;
  legend.forEach((line, i) => {
    const y = drawn.height + (48 + i * 18) * scale;
    context.fillStyle = css(line.colour);
    context.fillRect(16 * scale, y - 6 * scale, 18 * scale, 3 * scale);
    context.fillStyle = css("--fg");
    context.fillText(`${line.name}  ${withUnit(line.value, unit)}`, 42 * scale, y);
  });
  return new Promise((resolve) => out.toBlob(resolve, "image/png"));
}
