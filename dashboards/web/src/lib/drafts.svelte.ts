/** Boards that are being written and that the server does not have yet; they last as long as the tab. */
interface Draft {
  text: string;
  /** The version it was made of: of two people who change one, the second is told so. */
  tag: string | null;
}
const kept = new Map<string, Draft>();

export const drafts = {
  set(name: string, text: string, tag: string | null = null): void {
    kept.set(name, { text, tag });
  },
  take(name: string): Draft | undefined {
    const draft = kept.get(name);
    kept.delete(name);
    return draft;
  },
};
