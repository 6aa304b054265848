import { expect, it } from "vitest";
import { withoutBand } from "./band";

const line = (name: string, ...values: number[]) => ({ name, values });
const names = { expected: "e", low: "l", high: "h" };

it("takes the named lines out as the band", () => {
  const got = withoutBand(
    [line("orders", 1, 2), line("e", 3, 3), line("l", 2, 2), line("h", 4, 4)],
    names,
    2,
  );
  expect(got.series.map((s) => s.name)).toEqual(["orders"]);
  expect(got.band).toEqual({ expected: [3, 3], low: [2, 2], high: [4, 4] });
});

it("draws a band without a middle, but none without both edges", () => {
  expect(withoutBand([line("l", 2), line("h", 4)], names, 1).band).toEqual({
    expected: [null],
    low: [2],
    high: [4],
  });
  expect(withoutBand([line("orders", 1), line("l", 2)], names, 1)).toEqual({
    series: [line("orders", 1), line("l", 2)],
    band: null,
  });
  expect(withoutBand([line("orders", 1)], undefined, 1).band).toBeNull();
});
