import { expect, it } from "vitest";
import { columns, lines, overlaid, ratesThen, sums, type Abandonment } from "./abandonment";

const cohort = (at: number, started: number, abandoned: number, provisional = false) => ({
  at,
  started,
  completed: started - abandoned,
  abandoned,
  rate: started ? abandoned / started : null,
  provisional,
});
const answer: Abandonment = {
  matured_until: 2000,
  timeout_seconds: 1800,
  series: [
    {
      labels: { device: "mobile" },
      points: [cohort(1000, 10, 4), cohort(2000, 30, 6), cohort(3000, 9, 9, true)],
    },
    { labels: { cause: "slow_page" }, points: [cohort(2000, 0, 0)] },
  ],
};

it("weighs by checkouts and leaves provisional cohorts out", () => {
  const [mobile, slow] = sums(answer);
  expect(mobile).toMatchObject({ name: "mobile", started: 40, abandoned: 10, rate: 0.25 });
  expect(slow).toMatchObject({ name: "slow page", rate: null });
  expect(ratesThen(answer).get("mobile")).toBe(0.25);
  expect(ratesThen(undefined).size).toBe(0);
});

it("marks what has not matured where there is nothing else", () => {
  const young = {
    ...answer,
    series: [{ labels: {}, points: [cohort(1000, 0, 0), cohort(2000, 8, 2, true)] }],
  };
  expect(sums(young)[0]).toMatchObject({ name: "all checkouts", rate: 0.25, provisional: true });
  expect(ratesThen(young).get("all checkouts")).toBeNull();
});

it("draws all segments over one grid, with gaps, also where a cohort is not final", () => {
  const drawn = lines(sums(answer));
  expect(drawn.t).toEqual([1000, 2000, 3000]);
  expect(drawn.series.map((s) => s.values)).toEqual([
    [0.4, 0.2, null],
    [null, null, null],
  ]);
});

it("gives every count of every cohort a column of its own", () => {
  const { t, series } = columns(sums(answer));
  expect(t).toEqual([1000, 2000, 3000]);
  expect(series.map((s) => s.name).slice(0, 5)).toEqual(
    ["started", "completed", "abandoned", "rate", "provisional"].map((key) => `mobile: ${key}`),
  );
  expect(series[2]?.values).toEqual([4, 6, 9]);
  expect(series[4]?.values).toEqual([0, 0, 1]);
  expect(series[5]).toEqual({ name: "slow page: started", values: [null, 0, null] });
});

it("lays another time over this one, without what was not final then", () => {
  const t = [101_000, 102_000, 103_000, 104_000];
  expect(overlaid(t, answer, 100_000, "last week")).toEqual({
    name: "last week",
    values: [0.4, 0.2, null, null],
  });
  expect(overlaid(t, answer, 99_999, "shifted off the grid")).toBeNull();
  expect(overlaid(t, answer, 99_999, "days, the clocks changed", 1)?.values).toEqual([0.4, 0.2, null, null]);
  expect(overlaid(t, undefined, 0, "nothing")).toBeNull();
});
