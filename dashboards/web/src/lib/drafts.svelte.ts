/** Boards that are being written and that the server does not have yet; they last as long as the tab. */
const texts = new Map<string, string>();

export const drafts = {
  set(name: string, text: string): void {
    texts.set(name, text);
  },
  take(name: string): string | undefined {
    const text = texts.get(name);
    texts.delete(name);
    return text;
  },
};
