import { describe, expect, it } from "vitest";
import { csv } from "./download";
import { parsePlaylist, turn } from "./playlist";

describe("CSV", () => {
  it("has a row a time and a column a line", () => {
    const text = csv([0, 1000], [{ name: 'p95 "fast", eu', values: [1.5, null] }]);
    expect(text).toBe(
      'time,"p95 ""fast"", eu"\r\n1970-01-01T00:00:00.000Z,1.5\r\n1970-01-01T00:00:01.000Z,\r\n',
    );
  });
  it("gives a spreadsheet no formula", () => {
    expect(csv([], [{ name: "=HYPERLINK(1)", values: [] }])).toBe("time,'=HYPERLINK(1)\r\n");
  });
});

describe("a playlist", () => {
  it("goes round by the clock", () => {
    const list = parsePlaylist("war-room,business", "10s")!;
    expect(turn(list, 0)).toEqual({ board: "war-room", place: 0, leftMs: 10_000 });
    expect(turn(list, 12_000)).toEqual({ board: "business", place: 1, leftMs: 8000 });
    expect(turn(list, 20_000).board).toBe("war-room");
  });
  it("needs two boards, and time to read them", () => {
    expect(parsePlaylist("war-room", null)).toBeNull();
    expect(parsePlaylist("a,../x", "1s")).toBeNull();
    expect(parsePlaylist("a,b", "1s")!.everyMs).toBe(5000);
    expect(parsePlaylist("a,b", "2m")!.everyMs).toBe(120_000);
    expect(parsePlaylist("a,b", "soon")!.everyMs).toBe(30_000);
  });
});
