/** Sentences of the server as a person reads them: instants on the page's clock, money in its currency. */
import { money } from "./format";
import { clock, day } from "./time";

const INSTANT = /\b\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)\b/g;
const MONEY = /(?<![\w.,-])(\d{1,15}\.\d{2}) ([A-Z]{3})(?![\w/])/g;
let currencies: ReadonlySet<string> | undefined;

/** A calendar's own name of a sale: `black-friday 2025` is Black Friday 2025; what is written otherwise stays. */
export function saleName(name: string): string {
  if (!/^[a-z0-9]+(?:[-_][a-z0-9]+)*(?: \d{4})?$/.test(name)) return name;
  return name.replace(/[-_]/g, " ").replace(/(^| )[a-z]/g, (letter) => letter.toUpperCase());
}

const QUOTED = 140;

/** A statement within a sentence, no longer than it takes to know it; its page has the whole. */
export function briefly(text: string): string {
  return text.replace(/`([^`]+)`/g, (whole, quoted: string) =>
    quoted.length > QUOTED ? `\`${quoted.slice(0, QUOTED).trimEnd()}…\`` : whole,
  );
}

/** `now` decides whether an instant needs its day. */
export function readable(text: string, zone: string | undefined, now: number): string {
  return text
    .replace(INSTANT, (found) => {
      const at = Date.parse(found);
      if (Number.isNaN(at)) return found;
      const today = day(at, zone) === day(now, zone);
      return today ? clock(at, zone) : `${day(at, zone)} ${clock(at, zone)}`;
    })
    .replace(MONEY, (found, amount: string, currency: string) => {
      currencies ??= new Set(Intl.supportedValuesOf("currency"));
      return currencies.has(currency) ? money(amount, currency) : found;
    });
}
