/** Where a playlist stands, for the header of TV mode. */
export interface Turn {
  place: number;
  count: number;
  leftMs: number;
  paused: boolean;
  toggle: () => void;
}
