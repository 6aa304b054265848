/** What a screen reader is told: changes of state in words, never the ticking figures. */
import { judge, judgeAlert, judgeSlo } from "./status";
import type { Alert, AnyPanel, BoardSpec, PanelBase, Slo, Status } from "./types";

export type Words = ReadonlyMap<string, string>;

function ofPanel(panel: AnyPanel, title: string, id: string, words: Map<string, string>): void {
  if (Array.isArray(panel.slos))
    for (const slo of panel.slos as Slo[]) words.set(`slo ${slo.name}`, `${slo.name}: ${judgeSlo(slo).word}`);
  else if (Array.isArray(panel.alerts))
    for (const alert of panel.alerts as Alert[])
      words.set(`alert ${alert.fingerprint}`, `Alert ${alert.name}: ${judgeAlert(alert).word}`);
  else if (panel.state !== "ok" || typeof panel.status === "string")
    words.set(`panel ${id}`, `${title}: ${judge(panel as PanelBase & { status?: Status }).word}`);
}

/** Each thing that has a state, and that state in words. */
export function stateWords(board: BoardSpec | null, panel: (id: string) => AnyPanel | undefined): Words {
  const words = new Map<string, string>();
  for (const row of board?.rows ?? [])
    for (const spec of row.panels) {
      const data = panel(spec.id);
      if (data) ofPanel(data, spec.title, spec.id, words);
    }
  return words;
}

/** Sentences for what changed; a few at most, for nobody listens to forty. */
export function changes(before: Words, after: Words, atMost = 4): string[] {
  const said: string[] = [];
  for (const [key, text] of after) if (before.get(key) !== text) said.push(text);
  for (const [key, text] of before)
    if (!after.has(key) && key.startsWith("alert ")) said.push(`${text.split(":")[0]}: gone`);
  return said.length > atMost ? [...said.slice(0, atMost), `and ${said.length - atMost} more`] : said;
}
