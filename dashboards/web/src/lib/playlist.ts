/** A playlist of boards for TV mode: `playlist=war-room,business&every=30s`. */

export interface Playlist {
  boards: string[];
  everyMs: number;
}
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;

export function parsePlaylist(boards: string | null, every: string | null): Playlist | null {
  const names = (boards ?? "").split(",").filter((name) => NAME.test(name));
  if (names.length < 2) return null;
  const found = /^(\d{1,4})(s|m)?$/.exec(every ?? "");
  const seconds = found ? Number(found[1]) * (found[2] === "m" ? 60 : 1) : 30;
  // Less than five seconds cannot be read.
  return { boards: names.slice(0, 20), everyMs: Math.max(5, seconds) * 1000 };
}

/** Which board it is the turn of; the clock decides, so that two displays show the same. */
export function turn(playlist: Playlist, now: number): { board: string; place: number; leftMs: number } {
  const slot = Math.floor(now / playlist.everyMs);
  const place = slot % playlist.boards.length;
  return { board: playlist.boards[place]!, place, leftMs: (slot + 1) * playlist.everyMs - now };
}
